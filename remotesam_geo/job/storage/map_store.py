"""Probabilities of a job on disk: one Zarr array per expression, one chunk per block.

Blocks differ in size at the raster's edge, so the array's dimensions are time, row and column of blocks, rows and
columns; each block is padded with no data. Codes are bytes. A block without any data has no file.

Each chunk ends in a seal: the digest of its bytes, of its place and of the plan. It is a skippable frame of Zstandard,
which every decoder passes over, so that other programs read the array as usual. Chunks are read and written here
without Zarr: a damaged `zarr.json` changes no value, and no thread of another library is needed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from zarr.codecs import ZstdCodec

from remotesam_geo.errors import JobError
from remotesam_geo.files import write_file
from remotesam_geo.mapping.grid import Block, Grid
from remotesam_geo.predictors.protocol import Codes
from remotesam_geo.tasks import NO_DATA

__all__ = ["DamagedBlockError", "Store", "digest", "replace_file", "tidy", "writing"]

_FRAME = (0x184D2A5E).to_bytes(4, "little") + (16).to_bytes(4, "little")
"""Begins a frame of 16 bytes that decoders of Zstandard skip."""
_SEAL = len(_FRAME) + 16


class DamagedBlockError(JobError):
    """A file of a block that is not as it was written. `path` is where it is, or should be."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}. run() computes it again.")
        self.path, self._why = path, why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self._why)


class Store:
    """The probabilities of a job.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, layer: str, grid: Grid, dates: int, about: Mapping[str, Any]) -> None:
        """Make the array of a layer, or write its metadata anew where it is damaged.

        Args:
            layer: Its key.
            grid: The plan's grid.
            dates: How many dates there are.
            about: What the array holds, as its attributes.
        """
        place = self.folder / layer / "zarr.json"
        size = _largest_block_shape(grid)
        made: dict[str, Any] = {}
        zarr.create_array(
            zarr.storage.MemoryStore(made),
            shape=(dates, *grid.blocks, *size),
            chunks=(1, 1, 1, *size),
            dtype=np.uint8,
            compressors=ZstdCodec(level=0, checksum=False),
            fill_value=NO_DATA,
            dimension_names=("time", "block_row", "block_column", "row", "column"),
            attributes=dict(about),
        )
        wanted = made["zarr.json"].to_bytes()
        if _json_of_stored_map(place) == json.loads(wanted):
            return
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, wanted)

    def write(self, layer: str, date: int, block: Block, codes: Codes, grid: Grid) -> str:
        """Keep a block, whole and on the disk when this returns.

        Args:
            layer: Key of the layer.
            date: Index of the date.
            block: Which block.
            codes: Its codes (h x w).
            grid: The plan's grid.

        Returns:
            The digest of its file; "" for a block without data, which has none.

        Raises:
            JobError: It cannot be written; what was there before is kept.
        """
        path = self.path(layer, date, block)
        if (codes == NO_DATA).all():
            with writing(path):
                path.unlink(missing_ok=True)
            return ""
        padded = np.full(_largest_block_shape(grid), NO_DATA, np.uint8)
        height, width = codes.shape
        padded[:height, :width] = codes
        data = pa.compress(padded.data, codec="zstd", asbytes=True)
        mark = digest(data, layer, date, block.index)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data + _FRAME + bytes.fromhex(mark))
        return mark

    def read(self, layer: str, date: int, block: Block, grid: Grid, mark: str) -> Codes:
        """A block (h x w) as it was written.

        Args:
            layer: Key of the layer.
            date: Index of the date.
            block: Which block.
            grid: The plan's grid.
            mark: Its digest, from the ledger.

        Raises:
            DamagedBlockError: The file is not the one that was written.
        """
        return self._decoded(self._checked(layer, date, block, mark), layer, date, block, grid)

    def check(self, layer: str, date: int, block: Block, mark: str) -> None:
        """Make sure that a block is as it was written, without decoding it.

        Raises:
            DamagedBlockError: It is not.
        """
        self._checked(layer, date, block, mark)

    def found(self, layer: str, date: int, block: Block, grid: Grid) -> tuple[Codes, str] | None:
        """A block and its digest, for a ledger that was lost; None where there is no file.

        Raises:
            DamagedBlockError: The file does not agree with its own seal.
        """
        data = _bytes_of(self.path(layer, date, block))
        if data is None:
            return None
        mark = data[-16:].hex()
        return self.read(layer, date, block, grid, mark), mark

    def path(self, layer: str, date: int, block: Block) -> Path:
        """The file of a block."""
        return self.folder / layer / "c" / f"{date}/{block.row}/{block.col}/0/0"

    def _checked(self, layer: str, date: int, block: Block, mark: str) -> bytes:
        """The compressed bytes of a block; none for a block without data."""
        path = self.path(layer, date, block)
        data = _bytes_of(path)
        if data is None:
            if mark:
                raise DamagedBlockError(path, "the file is missing")
            return b""
        if not mark:
            raise DamagedBlockError(path, "there should be no file, as the block holds no data")
        data, seal = data[:-_SEAL], data[-_SEAL:]
        if seal != _FRAME + bytes.fromhex(mark) or digest(data, layer, date, block.index) != mark:
            raise DamagedBlockError(path, "its digest is not the one that was noted")
        return data

    def _decoded(self, data: bytes, layer: str, date: int, block: Block, grid: Grid) -> Codes:
        height, width = block.core.shape
        if not data:
            return np.full((height, width), NO_DATA, np.uint8)
        size = _largest_block_shape(grid)
        try:
            padded = pa.decompress(data, size[0] * size[1], codec="zstd")
        except (OSError, pa.ArrowException) as error:
            raise DamagedBlockError(self.path(layer, date, block), str(error)) from error
        return np.frombuffer(padded, np.uint8).reshape(size)[:height, :width]


def tidy(folder: Path, *, deep: bool) -> None:
    """Remove what a killed driver left half written in a job's folder; with `deep` in the folders within it, too."""
    for path in folder.rglob(".*.partial") if deep else folder.glob(".*.partial"):
        if path.is_file():
            path.unlink(missing_ok=True)


def digest(data: bytes, *place: Any) -> str:
    """Tell data that was damaged, or lies in another's place, from what was written."""
    prefix = "\0".join(map(str, place)).encode()
    return hashlib.blake2b(data, digest_size=16, key=hashlib.sha256(prefix).digest()).hexdigest()


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Whatever cannot be written is an error of the job's folder, with what to do.

    Raises:
        JobError: In place of what the system raised.
    """
    try:
        yield
    except OSError as error:
        raise JobError(
            f"cannot write to {place}: {error}. What was done before is kept: run again once it can be written."
        ) from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file of a job whole or not at all, on the disk when this returns.

    Raises:
        JobError: It cannot be written; what was there before is kept.
    """
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(f"there is a folder in the place of the file {path}: remove it")
        write_file(path, data)


def _bytes_of(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedBlockError(path, f"it cannot be read ({error})") from error


def _json_of_stored_map(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=64)
def _largest_block_shape(grid: Grid) -> tuple[int, int]:
    """Height and width that every block fits into."""
    rows, cols = grid.blocks
    heights = (grid.block_at(row * cols).core.shape[0] for row in range(rows))
    widths = (grid.block_at(col).core.shape[1] for col in range(cols))
    return max(heights), max(widths)
