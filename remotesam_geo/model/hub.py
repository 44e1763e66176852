"""Files of Hugging Face repositories: cached, pinned, and explained where they cannot be had."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from remotesam_geo.errors import InputError, ModelError

__all__ = ["RELEASED", "Release", "Snapshot", "fetch", "file_sha256", "foreign", "is_repository"]

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Release:
    """Files of one repository.

    Attributes:
        repo: Owner and name.
        files: The files that are needed, each with its SHA-256 where this package pins one.
        optional: Files that are taken where the repository has them.
        pinned: Whether a commit has to be named, because nothing here says what the files must be.
    """

    repo: str
    files: Mapping[str, str | None]
    optional: tuple[str, ...] = ()
    pinned: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Where the files of a release lie.

    Attributes:
        folder: A local folder that holds them.
        revision: The commit they are from; None where they were put there by hand.
    """

    folder: Path
    revision: str | None


# The SHA-256 is the one that the repository's own pages state for the file.
RELEASED = Release(
    repo="1e12Leon/RemoteSAM",
    files=MappingProxyType({"RemoteSAMv1.pth": "f85dfa044a527f096b9e41eacfe298040d52e77fca642f46dfe1226745e137e7"}),
)


def is_repository(name: str) -> bool:
    """Whether a name has the form owner/name (a path to a .pth may look like it)."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(?<!\.pth)", name) is not None


def foreign(repo: str, *files: str, optional: tuple[str, ...] = ()) -> Release:
    """A repository that this package knows nothing of: a commit has to be named."""
    return Release(repo=repo, files=dict.fromkeys(files), optional=optional, pinned=True)


def fetch(
    release: Release,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Snapshot:
    """The files of a release, downloaded unless they are here.

    Without a revision, what is here is kept: files put by hand into `by_hand(release)`, then the
    first download. Only what is missing is asked of the network.

    Args:
        release: What is wanted.
        revision: A commit, tag or branch in place of what this package pins.
        cache_dir: Another cache than huggingface_hub's.
        local_files_only: Never ask the network.

    Raises:
        InputError: The release needs a commit and none was named.
        ModelError: A file is missing and cannot be had, or is not the one that is pinned.
    """
    if release.pinned and not COMMIT.fullmatch(revision or ""):
        raise InputError(
            f"{release.repo!r} is no repository that this package knows, and no folder here. `remotesam-geo models` "
            "lists the networks that are supported. If it holds a RemoteSAM network that you trust, give revision=, "
            f"the 40 digits of a commit (https://huggingface.co/{release.repo}/commits/main); received {revision!r}"
        )
    place = by_hand(release)
    if revision is None and all((place / name).is_file() for name in release.files):
        return Snapshot(folder=place, revision=None)
    commit = revision
    folder = place
    for name in (*release.files, *release.optional):
        path = _cached_file(
            release,
            name,
            sha256=release.files.get(name) if revision is None else None,
            revision=commit or constants.DEFAULT_REVISION,
            keep=revision is None,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        if path is not None:
            folder = path.parent
            commit = folder.name  # the rest comes from the same commit, whatever the branch does
    return Snapshot(folder=folder, revision=commit)


def by_hand(release: Release) -> Path:
    """The folder in which files are looked for before the hub is asked."""
    return Path(constants.HF_HOME) / "remotesam_geo" / release.repo.rpartition("/")[2]


def _cached_file(
    release: Release,
    name: str,
    *,
    sha256: str | None,
    revision: str,
    keep: bool,
    cache_dir: str | Path | None,
    local_files_only: bool,
) -> Path | None:
    """One file's path in the cache; None for an optional file that does not exist.

    `keep` takes what is in the cache for a branch without asking whether the branch has moved.
    """
    cached = try_to_load_from_cache(release.repo, name, cache_dir=cache_dir, revision=revision)
    if keep or COMMIT.fullmatch(revision):
        if isinstance(cached, str):
            path = Path(cached)
            # The cache names a file by what the hub says it is: a link to its SHA-256.
            if sha256 and path.is_symlink() and path.readlink().name != sha256:
                raise _wrong_version_error(release, name, path, path.readlink().name, sha256)
            return path
        if cached is not None and name in release.optional:  # known not to exist
            return None
    try:
        path = Path(
            hf_hub_download(
                release.repo,
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
        )
    except Exception as error:
        if name in release.optional and isinstance(error, EntryNotFoundError):
            return None
        raise _unreachable_error(release, name, revision, cache_dir, error) from error
    if sha256 and (found := file_sha256(path)) != sha256:
        if path.is_symlink():
            (path.parent / path.readlink()).unlink()
        path.unlink()  # else the cache would hand it out the next time, unread
        raise _wrong_version_error(release, name, path, found, sha256)
    return path


def _wrong_version_error(release: Release, name: str, path: Path, found: str, known: str) -> ModelError:
    return ModelError(
        f"{path} is not the {name} that this version of remotesam_geo knows: its SHA-256 is "
        f"{found}, not {known}. If {release.repo} has a newer file that you trust, name it with "
        f"revision=; else delete that file and load again."
    )


def _unreachable_error(
    release: Release,
    name: str,
    revision: str,
    cache_dir: str | Path | None,
    error: Exception,
) -> ModelError:
    reason = " ".join(str(error).split())
    if isinstance(error, LocalEntryNotFoundError):
        reason = "the hub was not reached (no network, or offline mode)"
    needed = ", ".join(release.files)
    return ModelError(
        f"{name} of {release.repo} (revision {revision}) is not in the cache "
        f"{cache_dir or constants.HF_HUB_CACHE} and could not be downloaded: {reason}. Fetch it "
        f"from {hf_hub_url(release.repo, name, revision=revision)} where there is a network and "
        f"put it here: {by_hand(release) / name} (needed there: {needed}); or pass the path of "
        f"your copy."
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
