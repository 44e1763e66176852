"""Write files whole or not at all, bring them to the disk, and replace nothing that belongs to others."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from remotesam_geo.errors import InputError

__all__ = ["place_of", "sync", "write_file"]

SHOWN = 3
"""Names in a folder that a message repeats."""

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EISDIR)
"""What systems raise that cannot bring a folder itself to the disk, Windows for example."""


def _temporary_file_is_orphaned(_folder: Path) -> bool:
    return False


def place_of(target: Path, *, ours: Callable[[Path], bool] = _temporary_file_is_orphaned) -> Path:
    """Where a target is written to, after a check that nothing of others is replaced there.

    A plain file may be replaced, and an empty folder. A symbolic link is followed, as by `open`: what it points to is
    replaced, and the link stays.

    Args:
        target: What the user named.
        ours: Tells whether a folder was written by this package, and holds nothing else.

    Returns:
        The target, or what it links to.

    Raises:
        InputError: A folder that holds other things is there, or a device, a pipe or a socket.
    """
    try:
        place = target.resolve() if target.is_symlink() else target
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return place
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names that cannot be
        raise InputError(f"cannot write to {str(target)!r}: {error}") from error
    if stat.S_ISDIR(mode):
        held = sorted(path.name for path in place.iterdir())
        if held and not ours(place):
            more = len(held) - SHOWN
            named = ", ".join(held[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
            raise InputError(
                f"{str(target)!r} is a folder that holds other things than this package wrote there ({named}), so it "
                "is not replaced: choose another name, or remove the folder yourself"
            )
    elif not stat.S_ISREG(mode):
        raise InputError(f"{str(target)!r} is a device, a pipe or a socket, so it is not replaced: name a file")
    return place


def sync(path: Path) -> None:
    """Bring a file or folder to the disk. For a folder, do nothing where the system cannot."""
    folder = path.is_dir()
    # Windows brings a file to the disk only through a handle that may write.
    flags = os.O_RDWR if os.name == "nt" and not folder else os.O_RDONLY
    try:
        handle = os.open(path, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if not (folder and error.errno in NO_FOLDER_SYNC):
            raise


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. It is on the disk when this returns.

    Args:
        path: The file. A killed writer leaves a hidden `.<name>.<numbers>.partial` beside it.
        data: What it shall hold.

    Raises:
        OSError: It cannot be written. What was there before is kept.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
