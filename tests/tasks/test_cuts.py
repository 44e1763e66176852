"""Any cut of a picture, joined again, gives exactly what the picture gives in one piece.

`Joined` is how blocks are put together: label each alone, find what touches across borders and in corners, unite,
add up.
"""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.tasks import (
    add_tallies,
    background,
    components,
    enclosing,
    enclosing_components,
    hulls,
    label_scores,
    large_pieces,
    merge,
    merge_hulls,
    refine,
    smallest_rectangles,
    split,
    tally,
    touching,
    unite,
)
from tests.tasks.strategies import cuts, maps, maps_and_contours, masks

NOTHING = np.zeros((0, 2), np.int64)


class Joined:
    """Regions of blocks in rows and columns, numbered through, and united across all borders."""

    def __init__(self, blocks, *, corners=True):
        self.blocks = blocks  # {(row, column): Regions}
        self.begin, n = {}, 0
        for place, block in blocks.items():
            self.begin[place], n = n, n + block.n
        self.n_parts = n
        pairs = [NOTHING]
        for (i, j), (k, m) in product(blocks, blocks):
            if (k, m) == (i, j + 1):
                pairs.append(self.across((i, j), "right", (k, m), "left", corners))
            elif (k, m) == (i + 1, j):
                pairs.append(self.across((i, j), "bottom", (k, m), "top", corners))
            elif corners and k == i + 1 and m == j + 1:
                pairs.append(self.across((i, j), "bottom", (k, m), "top", True, -1, 0))
            elif corners and k == i + 1 and m == j - 1:
                pairs.append(self.across((i, j), "bottom", (k, m), "top", True, 0, -1))
        self.group, self.n = unite(n, np.concatenate(pairs))

    def across(self, one, side, other, facing, corners, *pixel):
        edges = [self.blocks[one].edge(side), self.blocks[other].edge(facing)]
        if pixel:  # blocks that meet in a corner have edges of one pixel
            edges = [edge[at : at + 1 or None] for edge, at in zip(edges, pixel, strict=True)]
        return touching(*edges, corners=corners) + np.array([self.begin[one], self.begin[other]])

    def numbers(self, place):
        """What the regions of one block are called in the whole picture."""
        begin = self.begin[place]
        return self.group[begin : begin + self.blocks[place].n]


def blocks_of(prob, rows, columns):
    return {
        (i, j): (slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1]))
        for i, j in product(range(len(rows) - 1), range(len(columns) - 1))
    }


@st.composite
def cut_maps(draw, strategy):
    drawn = draw(strategy)
    height, width = (drawn[0] if isinstance(drawn, tuple) else drawn).shape
    return drawn, draw(cuts(height)), draw(cuts(width))


def same_tables(one, other):
    """Equal as sets: the order of united components is another one."""
    rows = [
        {
            (
                *t.box[i].tolist(),
                *t.first[i].tolist(),
                int(t.count[i]),
                int(t.total[i]),
                int(t.peak[i]),
            )
            for i in range(len(t))
        }
        for t in (one, other)
    ]
    return len(one) == len(other) and rows[0] == rows[1] and one.scale == other.scale


@given(cut_maps(maps()))
def test_tables_of_any_cut_add_up_exactly(cut):
    prob, rows, columns = cut
    where = blocks_of(prob, rows, columns)
    joined = Joined({place: components(prob[at]) for place, at in where.items()})
    tables = [block.table.moved(x=columns[j], y=rows[i]) for (i, j), block in joined.blocks.items()]
    assert same_tables(merge(tables, joined.group, joined.n), components(prob).table)


@given(cut_maps(masks()))
def test_rectangles_survive_any_cut(cut):
    prob, rows, columns = cut
    where = blocks_of(prob, rows, columns)
    joined = Joined({place: components(prob[at]) for place, at in where.items()})
    parts = [hulls(block).moved(x=columns[j], y=rows[i]) for (i, j), block in joined.blocks.items()]
    merged = merge_hulls(parts, joined.group, joined.n)
    whole = hulls(components(prob))
    outlines = [
        {h.points[a:b].tobytes() for a, b in zip(h.begin[:-1], h.begin[1:], strict=True)} for h in (merged, whole)
    ]
    assert outlines[0] == outlines[1]
    assert {c.tobytes() for c in smallest_rectangles(merged)} == {c.tobytes() for c in smallest_rectangles(whole)}


@given(cut_maps(maps_and_contours()))
def test_refinement_survives_any_cut(cut):
    (prob, contour), rows, columns = cut
    where = blocks_of(prob, rows, columns)
    parted = {place: split(prob[at], contour[at]) for place, at in where.items()}
    whole = Joined({place: part.whole for place, part in parted.items()})
    pieces = Joined({place: part.pieces for place, part in parted.items()})
    table = merge(
        [part.pieces.table.moved(x=columns[j], y=rows[i]) for (i, j), part in parted.items()],
        pieces.group,
        pieces.n,
    )
    parent = np.zeros(pieces.n, np.int64)
    for place, part in parted.items():
        parent[pieces.numbers(place)] = whole.numbers(place)[part.parent]
    kept = large_pieces(table.count, parent)
    assert same_tables(table.take(kept), refine(prob, contour).table)


@given(cut_maps(masks()))
def test_what_encloses_what_survives_any_cut(cut):
    prob, rows, columns = cut
    where = blocks_of(prob, rows, columns)
    objects = Joined({place: components(prob[at]) for place, at in where.items()})
    between = {place: background(block) for place, block in objects.blocks.items()}
    surroundings = Joined(between, corners=False)
    beside, rim, outer = [NOTHING], [], []
    last = len(rows) - 2, len(columns) - 2
    for (i, j), block in between.items():
        own, around = objects.numbers((i, j)), surroundings.numbers((i, j))
        beside.append(np.stack([own[block.beside[:, 0]], around[block.beside[:, 1]]], axis=1))
        if j < last[1]:  # along the border to the next block on the right
            left = [objects.blocks[i, j].edge("right"), block.edge("right")]
            right = [objects.blocks[i, j + 1].edge("left"), between[i, j + 1].edge("left")]
            there = objects.numbers((i, j + 1)), surroundings.numbers((i, j + 1))
            one = touching(left[0], right[1], corners=False)
            beside.append(np.stack([own[one[:, 0]], there[1][one[:, 1]]], axis=1))
            one = touching(right[0], left[1], corners=False)
            beside.append(np.stack([there[0][one[:, 0]], around[one[:, 1]]], axis=1))
        sides = {"top": i == 0, "bottom": i == last[0], "left": j == 0, "right": j == last[1]}
        for side in (name for name, is_rim in sides.items() if is_rim):
            edge, back = objects.blocks[i, j].edge(side), block.edge(side)
            rim.append(own[edge[edge >= 0]])
            outer.append(around[back[back >= 0]])
    parents = enclosing(
        objects.n,
        surroundings.n,
        np.concatenate(beside),
        rim=np.concatenate(rim),
        background_rim=np.concatenate(outer),
    )
    tables = [block.table.moved(x=columns[j], y=rows[i]) for (i, j), block in objects.blocks.items()]
    first = [tuple(at) for at in merge(tables, objects.group, objects.n).first.tolist()]
    found = components(prob)
    expected = {
        tuple(found.table.first[i]): tuple(found.table.first[around]) if around >= 0 else None
        for i, around in enumerate(enclosing_components(found))
    }
    assert {first[i]: first[around] if around >= 0 else None for i, around in enumerate(parents)} == expected


def test_background_does_not_leak_through_corners():
    """Where components touch across a corner, the background on the two sides does not."""
    one, other = np.array([0, -1, 1]), np.array([-1, 2, -1])
    assert touching(one, other).tolist() == [[0, 2], [1, 2]]
    assert touching(one, other, corners=False).tolist() == []
    assert touching(one, one[::-1], corners=False).tolist() == [[0, 1], [1, 0]]


@given(cut_maps(maps()), st.integers(1, 4))
def test_tallies_of_any_cut_add_up_exactly(cut, n):
    prob, rows, columns = cut
    zones = np.random.default_rng(n).integers(0, n + 1, prob.shape)
    parts = [tally(prob[at], zones[at], n) for at in blocks_of(prob, rows, columns).values()]
    merged, whole = add_tallies(parts), tally(prob, zones, n)
    for name in ("count", "failed", "no_data", "total", "peak"):
        assert (getattr(merged, name) == getattr(whole, name)).all()
    np.testing.assert_array_equal(label_scores([merged]), label_scores([whole]))
