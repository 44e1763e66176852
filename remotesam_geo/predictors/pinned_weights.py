"""Where the weights of other networks come from: a folder, or a commit of a repository."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from safetensors import SafetensorError

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning, one_of, path_of
from remotesam_geo.model.hardware import choose_device

__all__ = ["PINNED", "Pin", "PinnedWeights", "Pretrained", "is_cached"]

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The commit of a repository that is taken where none is named.

    Attributes:
        revision: Its 40 digits: what is loaded is that commit, or nothing.
        megabytes: What its weights take, about.
        licence: Of the weights, as the repository states it.
    """

    revision: str
    megabytes: int
    licence: str = "Apache-2.0"


# Commits that several independent public projects record for these repositories. The hub itself was not asked: a
# commit that it does not have is an error there, and never other weights.
PINNED: Mapping[str, Pin] = MappingProxyType(
    {
        "CIDAS/clipseg-rd64-refined": Pin(revision="999e0328d9e10b484360c477313983f9afdd7050", megabytes=603),
        "facebook/sam-vit-base": Pin(revision="70c1a07f894ebb5b307fd9eaaee97b9dfc16068f", megabytes=375),
        "facebook/sam2.1-hiera-tiny": Pin(revision="de431c4043854a71d8101e17995dfe596bf101a5", megabytes=156),
        "IDEA-Research/grounding-dino-tiny": Pin(revision="a2bb814dd30d776dcf7e30523b00659f4f141c71", megabytes=689),
        "google/owlv2-base-patch16-ensemble": Pin(revision="cfd3195ba4ea9592eec887ded089f4c08eff231d", megabytes=620),
        "google/siglip2-base-patch16-256": Pin(revision="3f9f96cb90da5dbc758b01813f2f6f1aee24c1ab", megabytes=1501),
        "Qwen/Qwen2-VL-2B-Instruct": Pin(revision="895c3a49bc3fa70a340399125c650a463535e71c", megabytes=4418),
        "Qwen/Qwen2-VL-7B-Instruct": Pin(revision="eed13092ef92e448dd6875b2a00151bd3f7db0ac", megabytes=16583),
    }
)
"""Repositories that need no `revision`, each with the commit that is taken."""


@dataclass(frozen=True, kw_only=True)
class PinnedWeights:
    """A folder, or a commit of a repository.

    Attributes:
        place: The folder, or owner/name.
        revision: The commit; None of a folder.
        local_files_only: Whether the network is never asked.
    """

    place: str
    revision: str | None
    local_files_only: bool

    @classmethod
    def of(cls, source: str | Path, revision: str | None, local_files_only: bool) -> "PinnedWeights":
        """What is meant.

        Raises:
            InputError: A repository without a commit, and none that this package pins.
        """
        place = str(path_of("source", source))
        if Path(source).is_dir():
            return cls(place=place, revision=None, local_files_only=True)
        if revision is None and place in PINNED:
            revision = PINNED[place].revision
        if not COMMIT.fullmatch(revision or ""):
            raise InputError(
                f"{place!r} is no folder here; of a repository say which commit: revision={revision!r} must be the 40 "
                f"digits of one (https://huggingface.co/{place}/commits/main). Known here without it: "
                f"{', '.join(PINNED)}."
            )
        return cls(place=place, revision=revision, local_files_only=local_files_only)

    @property
    def name(self) -> str:
        """What the step is called in reports."""
        return f"{Path(self.place).name} {self.revision or ''}".strip()

    def network(self, kind: Any, device: str) -> Any:
        """The network, ready to be asked; weights it lacks are told."""
        model, told = self._load(kind, use_safetensors=True, output_loading_info=True)
        lacking = sorted({*told["missing_keys"], *(key[0] for key in told["mismatched_keys"])})
        if lacking:
            warnings.warn(
                f"{self.place} lacks {len(lacking)} weights of {kind.__name__}, which stay random: {lacking[:3]} ... "
                "Its answers mean nothing unless these are known not to matter.",
                RemoteSAMWarning,
                stacklevel=3,
            )
        return model.to(choose_device(device)).eval()

    def tool(self, kind: Any) -> Any:
        """What prepares pictures or words for it."""
        return self._load(kind)

    def _load(self, kind: Any, **how: bool) -> Any:
        try:
            return kind.from_pretrained(
                self.place,
                revision=self.revision or "main",
                local_files_only=self.local_files_only,
                **how,
            )
        # In order: not there, no such thing, cut off, weights of another shape.
        except (OSError, ValueError, SafetensorError, RuntimeError) as error:
            raise ModelError(f"{kind.__name__} {self._missing()} {error}") from error

    def _missing(self) -> str:
        if self.revision is None:
            return (
                f"is missing or not whole in the folder {self.place}: config.json, model.safetensors (or its parts "
                "with their index) and the files of its image processor or tokenizer belong there."
            )
        pin = PINNED.get(self.place)
        known = pin is not None and pin.revision == self.revision
        size = f"about {pin.megabytes:,} MB" if pin and known else "a size not known here"
        place = f"{self.place} --revision {self.revision}"
        return (
            f"is not here. To be downloaded: {size} from huggingface.co/{self.place} at {self.revision}. Without a "
            f"network, run `hf download {place} --local-dir FOLDER` where there is one, and give the path of that "
            "folder."
        )


def is_cached(repository: str) -> bool:
    """Whether the pinned commit of a repository is on this machine."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - takes its time

    pin = PINNED[repository]
    files = ("config.json", "model.safetensors")
    return all(isinstance(try_to_load_from_cache(repository, name, revision=pin.revision), str) for name in files)


class Pretrained:
    """A network of others that is loaded through transformers: the base of the teachers, which are dataclasses."""

    # The repository that is taken where none is named.
    _SOURCE: ClassVar[str]
    # The class of transformers for each part: "model" is the network, the others prepare its input.
    _PARTS: ClassVar[dict[str, str]]

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        revision: str | None = None,
        device: str = "auto",
        local_files_only: bool = False,
        **options: Any,
    ) -> Self:
        """Load it from a folder, or from a commit of a repository.

        Args:
            source: The folder, or owner/name of a repository. Each teacher has its own default.
            revision: The 40 digits of a commit; repositories of `PINNED` need none.
            device: "auto", "cpu", "cuda" or "mps".
            local_files_only: Never use the network.
            options: Other attributes of the class, such as `least`.

        Raises:
            InputError: A repository without a commit, or an option that there is not.
            ModelError: The weights are missing; the message says what would be downloaded.
        """
        known = [each.name for each in fields(cls) if each.name not in {"name", *cls._PARTS}]  # type: ignore[arg-type]
        for name in options:
            one_of("option", name, known)
        import transformers  # noqa: PLC0415 - takes its time

        origin = PinnedWeights.of(cls._SOURCE if source is None else source, revision, local_files_only)
        parts = {
            part: origin.network(kind, device) if part == "model" else origin.tool(kind)
            for part, kind in ((part, getattr(transformers, name)) for part, name in cls._PARTS.items())
        }
        return cls(**{"name": origin.name, **parts, **options})
