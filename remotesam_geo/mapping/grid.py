"""Windows and cores over a raster: what the network sees, and what each of its looks answers for.

A window has a *box* (S x S pixels, what the network sees) and a *core* (the pixels it answers for). The grid is
anchored to the raster, never to chunks: cores partition it, windows at its edges are moved inward, and a raster
smaller than a window is padded by reflection. Blocks are groups of neighbouring windows, the unit of work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError
from remotesam_geo.geo.box import Box

__all__ = ["Block", "Grid", "Window"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of pixels that is given to the network, and the part of it that its result is kept for.

    Attributes:
        index: Its place in the plan, row by row; contributions are summed in this order.
        row: Row among the windows.
        col: Column among the windows.
        box: The pixels that the network sees. In a smaller raster it reaches beyond: the rest is reflected.
        core: What it answers for.
    """

    index: int
    row: int
    col: int
    box: Box
    core: Box


@dataclass(frozen=True, kw_only=True)
class Block:
    """Neighbouring windows that are read and answered together.

    Attributes:
        index: Its place in the plan, row by row.
        row: Row among the blocks.
        col: Column among the blocks.
        core: The union of its windows' cores.
    """

    index: int
    row: int
    col: int
    core: Box


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The plan of windows, cores and blocks over a raster of known size.

    Args:
        shape: Height and width of the raster in pixels.
        window: Side of the network's window.
        overlap: Pixels that neighbouring windows share, even, at most half a window.
        block: Windows along the side of a block.

    Examples:
        >>> grid = Grid(shape=(1000, 2000), window=896, overlap=224)
        >>> grid.windows, [window.box.left for window in grid][:3]
        ((2, 3), [0, 672, 1104])
    """

    shape: tuple[int, int]
    window: int
    overlap: int
    block: int = 4

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise InputError(f"a raster of {self.shape[0]} x {self.shape[1]} pixels has nothing to map")
        if self.window < 2:
            raise InputError(f"window is {self.window}: give the model's image size in pixels")
        if self.overlap % 2 or not 0 <= self.overlap <= self.window // 2:
            raise InputError(
                f"overlap is {self.overlap}: give an even number of pixels from 0 to half a window, {self.window // 2}"
            )
        if self.block < 1:
            raise InputError(f"block is {self.block}: give 1 window or more along its side")

    @cached_property
    def _axes(self) -> tuple["_Axis", "_Axis"]:
        height, width = self.shape
        return (
            _Axis.plan(height, self.window, self.overlap),
            _Axis.plan(width, self.window, self.overlap),
        )

    @property
    def raster(self) -> Box:
        """All of the raster."""
        height, width = self.shape
        return Box(top=0, left=0, bottom=height, right=width)

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        rows, cols = self._axes
        return len(rows), len(cols)

    @property
    def blocks(self) -> tuple[int, int]:
        """How many rows and columns of blocks."""
        rows, cols = self.windows
        return -(-rows // self.block), -(-cols // self.block)

    def __len__(self) -> int:
        rows, cols = self.windows
        return rows * cols

    def __iter__(self) -> Iterator[Window]:
        return (self.window_at(index) for index in range(len(self)))

    def window_at(self, index: int) -> Window:
        """The window at a place in the plan."""
        rows, cols = self._axes
        row, col = divmod(index, len(cols))
        return Window(
            index=index,
            row=row,
            col=col,
            box=Box(
                top=rows.start(row),
                left=cols.start(col),
                bottom=rows.start(row) + self.window,
                right=cols.start(col) + self.window,
            ),
            core=Box(
                top=rows.edge(row),
                left=cols.edge(col),
                bottom=rows.edge(row + 1),
                right=cols.edge(col + 1),
            ),
        )

    def block_at(self, index: int) -> Block:
        """The block at a place in the plan."""
        row, col = divmod(index, self.blocks[1])
        rows, cols = self._axes
        k = self.block
        return Block(
            index=index,
            row=row,
            col=col,
            core=Box(
                top=rows.edge(row * k),
                left=cols.edge(col * k),
                bottom=rows.edge(min((row + 1) * k, len(rows))),
                right=cols.edge(min((col + 1) * k, len(cols))),
            ),
        )

    def owners(self, box: Box) -> tuple[Window, ...]:
        """The windows whose cores touch a box, in plan order."""
        rows, cols = self._axes
        return self._tiles(rows.owners(box.top, box.bottom), cols.owners(box.left, box.right))

    def viewers(self, box: Box) -> tuple[Window, ...]:
        """The windows that touch a box, in plan order."""
        rows, cols = self._axes
        return self._tiles(rows.viewers(box.top, box.bottom), cols.viewers(box.left, box.right))

    def touching(self, area: BaseGeometry) -> NDArray[np.int64]:
        """The windows whose cores touch an area, by number.

        Args:
            area: In pixels of the raster: x to the right, y down.
        """
        rows, cols = self._axes
        left, top, right, bottom = (float(value) for value in area.bounds)
        if area.is_empty or right < 0 or bottom < 0 or left > self.shape[1] or top > self.shape[0]:
            return np.zeros(0, np.int64)
        height, width = self.shape
        some_rows = rows.owners(max(0, int(top)), min(height, int(bottom) + 1))
        some_cols = cols.owners(max(0, int(left)), min(width, int(right) + 1))
        row, col = (part.ravel() for part in np.meshgrid(some_rows, some_cols, indexing="ij"))
        cores = shapely.box(cols.edges[col], rows.edges[row], cols.edges[col + 1], rows.edges[row + 1])
        shapely.prepare(area)
        hit = shapely.intersects(area, cores)
        return np.asarray(row[hit] * len(cols) + col[hit], np.int64)

    def block_of(self, window: Window) -> int:
        """The block that a window belongs to."""
        return window.row // self.block * self.blocks[1] + window.col // self.block

    def blocks_of(self, windows: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
        """The blocks that hold some windows, in plan order."""
        row, col = np.divmod(np.asarray(windows, np.int64), self.windows[1])
        return np.unique(row // self.block * self.blocks[1] + col // self.block)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {
            "shape": list(self.shape),
            "window": self.window,
            "overlap": self.overlap,
            "block": self.block,
        }

    def _tiles(self, rows: range, cols: range) -> tuple[Window, ...]:
        across = self.windows[1]
        return tuple(self.window_at(row * across + col) for row in rows for col in cols)


@dataclass(frozen=True)
class _Axis:
    """One direction: where windows begin, and where cores end."""

    starts: NDArray[np.int64]
    edges: NDArray[np.int64]
    window: int

    @classmethod
    def plan(cls, length: int, window: int, overlap: int) -> "_Axis":
        if length <= window:
            return cls(np.zeros(1, np.int64), np.array([0, length], np.int64), window)
        stride = window - overlap
        count = -(-(length - window) // stride) + 1
        starts = np.minimum(np.arange(count, dtype=np.int64) * stride, length - window)
        # Two neighbours part in the middle of what both see.
        middles = (starts[:-1] + window + starts[1:]) // 2
        return cls(starts, np.concatenate([[0], middles, [length]]), window)

    def __len__(self) -> int:
        return len(self.starts)

    def start(self, index: int) -> int:
        return int(self.starts[index])

    def edge(self, index: int) -> int:
        return int(self.edges[index])

    def owners(self, low: int, high: int) -> range:
        first = int(np.searchsorted(self.edges, low, side="right")) - 1
        return range(max(first, 0), int(np.searchsorted(self.edges[:-1], high, side="left")))

    def viewers(self, low: int, high: int) -> range:
        first = int(np.searchsorted(self.starts + self.window, low, side="right"))
        return range(first, int(np.searchsorted(self.starts, high, side="left")))
