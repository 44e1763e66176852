"""Open datasets of local files: each serves one thread at a time, and a bounded number is kept for the next read."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

Key = tuple[str, int, int]  # path, a number of its own for each opener, level
State = tuple[tuple[int, int, int] | None, ...]

MOST_KEPT = 64
"""Open datasets that a session keeps, over all files."""
MOST_WATCHED = 64
"""Files that a dataset may consist of (a VRT, sidecars) for it to be kept open."""
_SIDECARS = (".aux.xml", ".msk", ".ovr")


class Handles:
    """A pool of open datasets.

    Args:
        most: Datasets that are kept open while no thread uses them.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, tuple[Key, DatasetReader]] = OrderedDict()  # oldest first

    @contextmanager
    def use(self, key: Key, opening: Callable[[], DatasetReader]) -> Iterator[DatasetReader]:
        """A dataset for this thread alone: an idle one, or one opened now, without keeping other threads waiting.

        After an error it is closed, as its state is not known.
        """
        with self._lock:
            number = next((n for n, (own, _) in reversed(self._idle.items()) if own == key), None)
            file = None if number is None else self._idle.pop(number)[1]
        if file is None:
            file = opening()
        try:
            yield file
        except BaseException:
            file.close()
            raise
        with self._lock:
            self._idle[id(file)] = key, file
            over = [self._idle.popitem(last=False)[1][1] for _ in range(len(self._idle) - self._most)]
        for old in over:
            old.close()

    def close(self, path: str) -> None:
        """Close what is kept of a file; threads that use it now close theirs when they return it the next time."""
        with self._lock:
            mine = [number for number, (key, _) in self._idle.items() if key[0] == path]
            files = [self._idle.pop(number)[1] for number in mine]
        for file in files:
            file.close()

    def __len__(self) -> int:
        """How many datasets are kept open."""
        with self._lock:
            return len(self._idle)


def open_quietly(path: str, driver: str | None = None, **options: int) -> DatasetReader:
    """Open a raster without a warning about missing georeference: whether it matters is judged elsewhere.

    The filter names this module, so that warnings about the user's own files stay as they are.
    """
    ignore_no_place(__name__)
    file: DatasetReader = DatasetReader(path, driver=driver, **options)
    return file


def ignore_no_place(module: str) -> None:
    """Ignore warnings of a missing georeference that come from a module.

    The filter is put first where it is not; there is no lock, so that no thread waits for another one's file.
    """
    known = (entry[3] for entry in warnings.filters[:4] if entry[2] is NotGeoreferencedWarning)
    if not any(pattern is not None and pattern.pattern == module for pattern in known):
        warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=module)


def files_of(path: str, named: Iterable[str]) -> tuple[str, ...]:
    """The files of this machine that a dataset consists of, or would if they were there.

    Args:
        path: What was opened.
        named: What GDAL says that it consists of.
    """
    beside = [f"{path}{ending}" for ending in _SIDECARS]
    return tuple(dict.fromkeys(map(_on_disk, [path, *named, *beside])))


def _on_disk(path: str) -> str:
    """The archive that a virtual path leads into, or the path itself."""
    if not path.startswith("/vsi"):
        return path
    _, _, inner = path[1:].partition("/")
    place = Path(inner)
    for folder in (place, *place.parents):
        with suppress(OSError):
            if folder.is_file():
                return str(folder)
    return path


def state_of(files: Iterable[str]) -> State:
    """What tells files from themselves after a change: time, size and identity of each, None where there is none."""
    states: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            now = Path(file).stat()
        except (OSError, ValueError):
            states.append(None)
        else:
            states.append((now.st_mtime_ns, now.st_size, now.st_ino))
    return tuple(states)
