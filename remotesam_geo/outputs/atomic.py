"""Write files and folders whole or not at all: beside their place, to the disk, then into it."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError
from rasterio._err import CPLE_BaseError  # rasterio has no public name for what GDAL says
from rasterio.errors import RasterioError

from remotesam_geo.errors import InputError, RemoteSAMError, WriteError
from remotesam_geo.files import place_of, sync

__all__ = ["replacing"]

OLD = "old"
FAILED = (OSError, DataSourceError, DataLayerError, RasterioError, CPLE_BaseError)
"""What the system and GDAL raise of writes that fail."""


@contextmanager
def replacing(
    target: Path,
    *,
    refused: tuple[type[Exception], ...] = (),
    ours: Callable[[Path], bool] | None = None,
) -> Iterator[Path]:
    """A path beside the target to write to, which takes the target's place when the block ends well.

    A file is replaced in one step. A folder takes two, the old one being moved aside between them: a process that is
    killed just there leaves it whole in a hidden folder next to its place. A killed writer leaves a hidden folder,
    `.<name>.<random>.partial`, which may be deleted.

    Only a plain file, an empty folder, or a folder that `ours` knows is replaced. A symbolic link is followed.

    Args:
        target: Where the file or folder shall be.
        refused: What is raised where the format cannot hold the data.
        ours: Tells whether a folder was written by this package, and holds nothing else.

    Raises:
        InputError: There is no such folder, something of others stands at the target, or what was to be written cannot
            be stored in this format.
        WriteError: It cannot be written: the disk is full, say. What was there before is kept.
    """
    known = {} if ours is None else {"ours": ours}
    name, target = target.name, place_of(target, **known)
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {str(target.parent)!r}: make it first")
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise WriteError(f"cannot write {target}: {error}") from error
    written = False
    try:
        new = draft / name
        yield new
        _flush_to_disk(new)
        place_of(target, **known)  # once more: writing takes its time
        _swap_folders_atomically(new, target, draft / OLD)
        sync(target.parent)
        written = True
    except RemoteSAMError:
        raise
    except refused as error:
        raise InputError(f"this cannot be stored as {target.name}: {error}") from error
    except FAILED as error:
        raise _not_written_error(target, error) from error
    finally:
        if target.exists() or not (draft / OLD).exists():  # else it holds all that is left
            _remove_draft(draft, times=1 if written else 3)


def _remove_draft(draft: Path, *, times: int) -> None:
    """Remove a draft until it stays away: threads of a broken write may still put there what they had begun."""
    gone = 0
    for _ in range(50):
        shutil.rmtree(draft, ignore_errors=True)
        gone = 0 if draft.exists() else gone + 1
        if gone == times:
            return
        time.sleep(0.1)


def _not_written_error(target: Path, error: Exception) -> WriteError:
    kept = " What was there before is kept." if target.exists() else ""
    return WriteError(f"cannot write {target}: {error}.{kept}")


def _swap_folders_atomically(new: Path, target: Path, aside: Path) -> None:
    if not (target.is_dir() or (new.is_dir() and target.exists())):
        new.replace(target)
        return
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise


def _flush_to_disk(path: Path) -> None:
    for each in [*path.rglob("*"), path] if path.is_dir() else [path]:
        sync(each)
