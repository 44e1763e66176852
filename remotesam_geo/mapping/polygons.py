"""From maps to outlines: components of each block as polygons, joined exactly across borders and corners.

Polygons run along pixel edges, in whole pixels of the plan's grid, so that pieces of a component join to exactly the
polygon that the whole raster would have given. Only components that touch a block's border wait for the neighbours;
all others are finished with their block. Sums are integers: scores do not depend on the cut either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry.base import BaseGeometry

from remotesam_geo.geo.box import Box
from remotesam_geo.predictors.protocol import Codes
from remotesam_geo.tasks import (
    CONTOUR_THRESHOLD,
    SHARE,
    Components,
    Hulls,
    Table,
    components,
    hulls,
    large_pieces,
    merge,
    merge_hulls,
    split,
    touching,
)

from .grid import Block, Grid

__all__ = ["Features", "Joiner", "Outline", "Parts", "Pieces", "extract", "gathered"]

Outline = Literal["polygon", "box", "oriented"]
Parts = Literal["whole", "blocks"]
MOST_VERTICES = 1_000_000
"""A component of more vertices stays cut at block borders: few programs draw such a polygon."""
I64 = NDArray[np.int64]
Geometries = NDArray[np.object_]

Side = Literal["top", "bottom", "left", "right"]
SIDES: tuple[Side, ...] = get_args(Side)

_NONE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Finished components, in pixels of the plan's grid.

    Attributes:
        table: What is known of each (n).
        polygons: Their polygons along pixel edges (n); None where they were not asked for.
        hulls: Their convex hulls (n); None where they were not asked for.
    """

    table: Table
    polygons: Geometries | None
    hulls: Hulls | None

    def __len__(self) -> int:
        return len(self.table)

    def take(self, which: NDArray[np.bool_] | I64) -> "Features":
        """Some of them, by a mask or by their numbers."""
        return Features(
            table=self.table.take(which),
            polygons=None if self.polygons is None else self.polygons[which],
            hulls=None if self.hulls is None else self.hulls.take(which),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """What one block holds of one map's components.

    Where contours part them, pieces are labelled apart from the whole components they lie in; else they are the same.

    Attributes:
        features: The pieces (m).
        parent: The whole that each piece lies in (m).
        wholes: How many wholes there are.
        rim: The wholes that touch the block's border.
        whole_edges: The whole of each pixel along each side of the block, -1 for none.
        piece_edges: The same for pieces.
    """

    features: Features
    parent: I64
    wholes: int
    rim: I64
    whole_edges: Mapping[Side, I64]
    piece_edges: Mapping[Side, I64]


def extract(
    codes: Codes,
    box: Box,
    *,
    threshold: float = 0.5,
    contour: Codes | None = None,
    contour_threshold: float = CONTOUR_THRESHOLD,
    outline: Outline = "polygon",
) -> Pieces:
    """Find the components of a block of one map, and outline them.

    Args:
        codes: The map (h x w).
        box: Where it lies in the raster.
        threshold: Of the map.
        contour: A map of contours to part touching objects with (h x w).
        contour_threshold: Above it a pixel is contour.
        outline: Which geometry will be wanted.
    """
    if contour is None:
        wholes = pieces = components(codes, threshold=threshold)
        parent = np.arange(pieces.n)
    else:
        parted = split(codes, contour, threshold=threshold, contour_threshold=contour_threshold)
        wholes, pieces, parent = parted.whole, parted.pieces, parted.parent
    return Pieces(
        features=Features(
            table=pieces.table.moved(x=box.left, y=box.top),
            polygons=_component_polygons(pieces, box) if outline == "polygon" else None,
            hulls=hulls(pieces).moved(x=box.left, y=box.top) if outline == "oriented" else None,
        ),
        parent=parent,
        wholes=wholes.n,
        rim=wholes.rim(),
        whole_edges={side: wholes.edge(side) for side in SIDES},
        piece_edges={side: pieces.edge(side) for side in SIDES},
    )


@dataclass(eq=False)
class Joiner:
    """Joins the pieces of one map as its blocks arrive, row by row of blocks, and lets go of what is finished.

    Memory grows with the components that are still open at the frontier, not with all that were found.

    Args:
        grid: The plan.
        share: A piece must exceed this share of the largest piece of its whole.
        parts: "whole" joins components to one feature each; "blocks" leaves polygons cut at block borders, each with
            the table entry of its whole.

    Attributes:
        left_cut: Vertices of each component that would have too many in one piece: it stays cut all the same.
    """

    grid: Grid
    share: float = SHARE
    parts: Parts = "whole"
    left_cut: list[int] = field(default_factory=list)
    _wholes: "_Frontier" = field(init=False)
    _pieces: "_Frontier" = field(init=False)
    _open: "list[_Part]" = field(default_factory=list)
    _row: int = 0

    def __post_init__(self) -> None:
        self._wholes, self._pieces = _Frontier(self.grid.shape[1]), _Frontier(self.grid.shape[1])

    def add(self, block: Block, pieces: Pieces) -> Iterator[Features]:
        """Take the next block, in plan order; blocks may be left out.

        Yields:
            What is finished with it.
        """
        yield from self._begin_row(block.row)
        inner = np.ones(pieces.wholes, np.bool_)
        inner[pieces.rim] = False
        done = inner[pieces.parent]
        if done.any():
            complete = pieces.features.take(done)
            large = large_pieces(complete.table.count, pieces.parent[done], share=self.share)
            yield complete.take(large)

        whole_of = self._wholes.enter(~inner)
        piece_of = self._pieces.enter(~done)
        self._wholes.meet(block, pieces.whole_edges, whole_of)
        self._pieces.meet(block, pieces.piece_edges, piece_of)
        if not done.all():
            self._open.append(
                _Part(
                    features=pieces.features.take(~done),
                    piece=piece_of[~done],
                    whole=whole_of[pieces.parent[~done]],
                )
            )

    def finish(self) -> Iterator[Features]:
        """Let go of all that is left, after the last block."""
        yield from self._begin_row(self.grid.blocks[0] + 1)

    def _begin_row(self, row: int) -> Iterator[Features]:
        if row != self._row:
            # A row that was left out has no components, so nothing crosses it.
            still_open = self._wholes.next_row(follows=row == self._row + 1)
            self._pieces.next_row(follows=row == self._row + 1)
            self._row = row
            yield from self._let_go(still_open)

    def _let_go(self, still_open: I64) -> Iterator[Features]:
        """Join and give what no longer touches the frontier."""
        parts = [
            _Part(
                features=part.features,
                piece=self._pieces.roots(part.piece),
                whole=self._wholes.roots(part.whole),
            )
            for part in self._open
        ]
        waits = [np.isin(part.whole, still_open) for part in parts]
        self._open = [part.take(which) for part, which in zip(parts, waits, strict=True) if which.any()]
        finished = [part.take(~which) for part, which in zip(parts, waits, strict=True) if not which.all()]
        if finished:
            yield self._joined(finished)

    def _joined(self, parts: list["_Part"]) -> Features:
        piece = np.concatenate([part.piece for part in parts])
        whole = np.concatenate([part.whole for part in parts])
        names, group = np.unique(piece, return_inverse=True)
        n = len(names)
        parent = np.empty(n, np.int64)
        parent[group] = np.unique(whole, return_inverse=True)[1]
        table = merge([part.features.table for part in parts], group, n)
        large = large_pieces(table.count, parent, share=self.share)
        polygons = [part.features.polygons for part in parts if part.features.polygons is not None]
        outlines = [part.features.hulls for part in parts if part.features.hulls is not None]
        if not polygons:
            boxes = Features(
                table=table,
                polygons=None,
                hulls=merge_hulls(outlines, group, n) if outlines else None,
            )
            return boxes.take(large)
        pieces = np.concatenate(polygons)
        cut = self._stay_cut(pieces, group, n)
        joins = ~cut[group]
        joined, place = np.unique(group[joins], return_inverse=True)
        owner = np.concatenate([joined, group[~joins]])
        features = Features(
            table=table.take(owner),
            polygons=np.concatenate([_union_by_group(pieces[joins], place, len(joined)), pieces[~joins]]),
            hulls=None,
        )
        return features.take(large[owner])

    def _stay_cut(self, pieces: Geometries, group: I64, n: int) -> NDArray[np.bool_]:
        """Which components keep their pieces apart (n)."""
        if self.parts == "blocks":
            return np.ones(n, np.bool_)
        vertices = np.bincount(group, shapely.get_num_coordinates(pieces), minlength=n)
        cut: NDArray[np.bool_] = vertices > MOST_VERTICES
        self.left_cut += vertices[cut].tolist()
        return cut


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Open pieces of one block, with their numbers in the raster."""

    features: Features
    piece: I64
    whole: I64

    def take(self, which: NDArray[np.bool_]) -> "_Part":
        return _Part(features=self.features.take(which), piece=self.piece[which], whole=self.whole[which])


class _Frontier:
    """Components along the border between the blocks that came and those to come, and which of them hang together.

    Args:
        width: Of the raster.
    """

    def __init__(self, width: int) -> None:
        self._above = np.full(width, _NONE)  # along the lower border of the row of blocks before
        self._below = np.full(width, _NONE)  # along that of this row
        self._beside: tuple[int, I64] | None = None  # column and right border of the block before
        self._parent = np.zeros(0, np.int64)
        self._size = 0

    def enter(self, rim: NDArray[np.bool_]) -> I64:
        """Give the open components of a block numbers in the raster, -1 for the others."""
        count = int(rim.sum())
        if self._size + count > len(self._parent):
            more = np.arange(len(self._parent), 2 * (self._size + count))
            self._parent = np.concatenate([self._parent, more])
        names = np.full(len(rim), _NONE)
        names[rim] = np.arange(self._size, self._size + count)
        self._size += count
        return names

    def meet(self, block: Block, edges: Mapping[Side, I64], names: I64) -> None:
        """Join a block to those above it and to its left, corners included."""
        lookup = np.append(names, _NONE)  # -1, none, finds the last
        edge = {side: lookup[line] for side, line in edges.items()}
        left, right = block.core.left, block.core.right
        above = np.pad(self._above, 1, constant_values=_NONE)[left : right + 2]
        self._join(touching(above, np.pad(edge["top"], 1, constant_values=_NONE)))
        if self._beside is not None and self._beside[0] == block.col - 1:
            self._join(touching(self._beside[1], edge["left"]))
        self._below[left:right] = edge["bottom"]
        self._beside = block.col, edge["right"]

    def next_row(self, *, follows: bool) -> I64:
        """Go on to a row of blocks, and say which groups it may still meet."""
        self._above = self._below if follows else np.full_like(self._below, _NONE)
        self._below = np.full_like(self._below, _NONE)
        self._beside = None
        met = np.unique(self._above)
        return self.roots(met[met != _NONE])

    def roots(self, members: I64) -> I64:
        """The names of members' groups."""
        return np.array([self._root(member) for member in members.tolist()], np.int64)

    def _root(self, member: int) -> int:
        parent = self._parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = int(parent[member])
        return member

    def _join(self, pairs: I64) -> None:
        for one, other in pairs.tolist():
            a, b = self._root(one), self._root(other)
            self._parent[max(a, b)] = min(a, b)


def _component_polygons(found: Components, box: Box) -> Geometries:
    """Each component's polygon along pixel edges, in coordinates of the raster."""
    if not found.n:
        return np.zeros(0, object)
    labels = found.paint()
    coordinates: list[tuple[float, float]] = []
    rings, polygons, owner = [0], [0], []
    # 4-connected: polygons that touch themselves in a corner would not be valid. Their parts are joined below.
    for outline, label in shapes(labels, mask=labels > 0, connectivity=4):
        for ring in outline["coordinates"]:
            coordinates.extend(ring)
            rings.append(len(coordinates))
        polygons.append(len(rings) - 1)
        owner.append(int(label) - 1)
    parts = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        np.array(coordinates) + np.array([box.left, box.top]),
        (np.array(rings), np.array(polygons)),
    )
    return gathered(parts, np.array(owner), found.n)


def gathered(parts: Geometries, owner: I64, n: int) -> Geometries:
    """Polygons (m) gathered to one polygon or multipolygon an owner, in one normal form."""
    order = np.argsort(owner, kind="stable")
    parts, owner = parts[order], owner[order]
    count = np.bincount(owner, minlength=n)
    first = np.cumsum(count) - count
    out = parts[first]
    for index in np.flatnonzero(count > 1):
        out[index] = shapely.multipolygons(parts[first[index] : first[index] + count[index]])
    return np.asarray(shapely.normalize(out), object)


def _union_by_group(polygons: Geometries, group: I64, n: int) -> Geometries:
    """Polygons joined by group, to what the uncut raster would have given."""
    order = np.argsort(group, kind="stable")
    polygons, count = polygons[order], np.bincount(group, minlength=n)
    first = np.cumsum(count) - count
    out = polygons[first]
    for index in np.flatnonzero(count > 1):
        pieces = polygons[first[index] : first[index] + count[index]]
        out[index] = _without_flat_corners(shapely.union_all(pieces))
    return np.asarray(shapely.normalize(out), object)


def _without_flat_corners(geometry: BaseGeometry) -> BaseGeometry:
    """Drop the vertices that joining left on straight edges; those of pixel edges all turn."""
    kind, points, offsets = shapely.to_ragged_array(shapely.get_parts([geometry]))
    rings = []
    for start, stop in pairwise(offsets[0]):
        ring = points[start : stop - 1]
        ahead, behind = np.roll(ring, -1, axis=0) - ring, ring - np.roll(ring, 1, axis=0)
        turns = ring[ahead[:, 0] * behind[:, 1] != ahead[:, 1] * behind[:, 0]]
        rings.append(np.concatenate([turns, turns[:1]]))
    sizes = np.cumsum([0, *map(len, rings)])
    parts = shapely.from_ragged_array(kind, np.concatenate(rings), (sizes, *offsets[1:]))
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
