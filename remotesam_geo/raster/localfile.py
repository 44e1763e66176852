"""Byte ranges of a file of this machine, all of one version."""

import os
from collections.abc import Sequence
from pathlib import Path

from remotesam_geo.net.ranges import ChangedError, Span


class LocalFile:
    """One file as it was when this object was made.

    Args:
        path: Where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._state = _local_file_state(self._path.stat())
        self.size = self._state[1]

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from one place up to another, fewer at the end of the file."""
        return self.read_many([(start, stop)])[0]

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of each span.

        Raises:
            ChangedError: The file was written since.
            OSError: It cannot be read.
        """
        with self._path.open("rb") as file:
            if _local_file_state(os.fstat(file.fileno())) != self._state:
                raise ChangedError(f"{self._path} changed while it was read")
            found = []
            for start, stop in spans:
                if start < self.size:
                    file.seek(start)
                found.append(file.read(min(stop, self.size) - start) if start < self.size else b"")
            return found


def _local_file_state(now: os.stat_result) -> tuple[int, int]:
    return now.st_mtime_ns, now.st_size
