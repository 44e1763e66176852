"""Maps of a job on disk: one Zarr array an expression, one chunk a block, so that each is written whole or not at all.

Blocks differ in size where windows meet the raster's edge, so the array is one of blocks (time, row and column of
blocks, rows, columns), each padded with no data. Codes are bytes; blocks without any data take no room.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from remotesam_geo.errors import JobError
from remotesam_geo.tasks import NO_DATA

from .grid import Block, Grid
from .stitch import Codes

__all__ = ["Store", "digest", "replace_file", "writing"]


class Store:
    """The maps of a job.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._array = lru_cache(maxsize=64)(self._opened)

    def create(self, layer: str, grid: Grid, moments: int, about: Mapping[str, Any]) -> None:
        """Make room for a map; nothing happens where there is.

        Args:
            layer: Its key.
            grid: The plan.
            moments: How many times there are.
            about: What it is a map of, for whoever opens the store.
        """
        if (self.folder / layer / "zarr.json").exists():
            return
        size = _largest(grid)
        with writing(self.folder):
            zarr.create_array(
                str(self.folder / layer),
                shape=(moments, *grid.blocks, *size),
                chunks=(1, 1, 1, *size),
                dtype=np.uint8,
                fill_value=NO_DATA,
                dimension_names=("time", "block_row", "block_column", "row", "column"),
                attributes=dict(about),
                config={"write_empty_chunks": False},
            )

    def write(self, layer: str, moment: int, block: Block, codes: Codes) -> str:
        """Keep a block of a map, whole and on the disk when this returns.

        Args:
            layer: Which map.
            moment: Which time.
            block: Which block.
            codes: Its codes (h x w).

        Returns:
            Its digest.

        Raises:
            JobError: It cannot be written; what was there before is kept.
        """
        array = self._array(layer)
        padded = np.full(array.shape[3:], NO_DATA, np.uint8)
        height, width = codes.shape
        padded[:height, :width] = codes
        with writing(self.folder):
            array[moment, block.row, block.col] = padded
            chunk = self._chunk(layer, moment, block)
            if chunk.exists():
                _to_disk(chunk)
        return digest(codes)

    def read(self, layer: str, moment: int, block: Block) -> Codes:
        """A block of a map (h x w); no data where nothing was written.

        Raises:
            JobError: It is damaged.
        """
        height, width = block.core.shape
        try:
            padded = self._array(layer)[moment, block.row, block.col]
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise JobError(
                f"cannot read block {block.index} of the map in {self.folder / layer}: {error}"
            ) from error
        return np.asarray(padded, np.uint8)[:height, :width]

    def has(self, layer: str, moment: int, block: Block) -> bool:
        """Whether a block holds any data."""
        return self._chunk(layer, moment, block).exists()

    def tidy(self) -> None:
        """Remove what a driver that was killed left half written."""
        for path in self.folder.rglob("*.partial"):
            path.unlink(missing_ok=True)

    def _opened(self, layer: str) -> Any:
        return zarr.open_array(
            str(self.folder / layer), mode="r+", config={"write_empty_chunks": False}
        )

    def _chunk(self, layer: str, moment: int, block: Block) -> Path:
        return self.folder / layer / "c" / f"{moment}/{block.row}/{block.col}/0/0"


def digest(codes: Codes) -> str:
    """Tells a map that was damaged from the one that was written."""
    return hashlib.blake2b(np.ascontiguousarray(codes).data, digest_size=12).hexdigest()


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
    """Write a file whole or not at all, on the disk when this returns."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _largest(grid: Grid) -> tuple[int, int]:
    """Height and width that every block fits into."""
    rows, cols = grid.blocks
    heights = (grid.block_at(row * cols).core.shape[0] for row in range(rows))
    widths = (grid.block_at(col).core.shape[1] for col in range(cols))
    return max(heights), max(widths)
