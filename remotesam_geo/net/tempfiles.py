"""Remote files that can only be had whole, on this machine's disk for as long as they are wanted."""

import contextlib
import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from pathlib import Path


class SpooledFile:
    """A temporary file that is removed once nobody holds this object."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="remotesam-")
        os.close(handle)
        self.path = Path(name)
        self.size = 0
        weakref.finalize(self, _remove_temporary_file, name)

    def write(self, place: int, data: bytes) -> None:
        """Put bytes at a place."""
        with self.path.open("r+b") as file:
            file.seek(place)
            file.write(data)
        self.size = max(self.size, place + len(data))

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from one place up to another."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def _remove_temporary_file(name: str) -> None:
    with contextlib.suppress(OSError):
        Path(name).unlink()


class Spool:
    """The whole files of a process, the least recently used forgotten first.

    Args:
        limit: Most bytes on disk; the file in use may be larger.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._files: OrderedDict[str, SpooledFile] = OrderedDict()

    def get(self, key: str) -> SpooledFile | None:
        """The file, or None."""
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
            return self._files.get(key)

    def put(self, key: str, file: SpooledFile) -> None:
        """Keep a file, and forget others for it."""
        with self._lock:
            self._files[key] = file
            while len(self._files) > 1 and self._held() > self._limit:
                self._files.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forget a file."""
        with self._lock:
            self._files.pop(key, None)

    def _held(self) -> int:
        return sum(file.size for file in self._files.values())
