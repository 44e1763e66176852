"""Write files whole or not at all, and bring them to the disk, on any system."""

import errno
import os
import threading
from pathlib import Path

__all__ = ["sync", "write_file"]

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EISDIR)
"""What systems raise that cannot bring a folder itself to the disk, Windows for example."""


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
