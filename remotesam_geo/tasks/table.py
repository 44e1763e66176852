"""What is known of components, in whole numbers, and the arithmetic that joins them across any cut of a picture.

Partial tables add up to exactly the table of the whole. Label the blocks of a raster one by one, collect which
components touch across the borders (`Regions.edge`, `touching`), number the united ones (`unite`), add up (`merge`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from remotesam_geo.errors import InputError, number_in, one_of

from .array_checks import FAR, check_array, check_each

__all__ = ["Table", "check_groups", "enclosing", "merge", "touching", "unite"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """What is known of each of n components.

    Attributes:
        count: Pixels (n).
        total: Sum of the pixels' probabilities, in parts of one (n).
        peak: Largest probability, in parts of one (n).
        box: Half-open pixel box x0, y0, x1, y1 (n x 4).
        first: Row and column of the first pixel, row by row from the top (n x 2).
        scale: How many parts make one: 400 for byte maps, 2**31 for float maps.
    """

    count: I64
    total: I64
    peak: I64
    box: I64
    first: I64
    scale: int

    def __len__(self) -> int:
        return len(self.count)

    @property
    def score(self) -> NDArray[np.float64]:
        """Mean probability of each component."""
        return self.total / (self.count * float(self.scale))

    @property
    def score_max(self) -> NDArray[np.float64]:
        """Largest probability of each component."""
        return self.peak / float(self.scale)

    def moved(self, *, x: int, y: int) -> "Table":
        """The same components in a larger picture, where theirs begins at column x and row y."""
        return replace(self, box=self.box + np.array([x, y, x, y]), first=self.first + np.array([y, x]))

    def take(self, which: NDArray[np.bool_] | I64) -> "Table":
        """The rows of some components, by a mask or by their numbers."""
        return Table(
            count=self.count[which],
            total=self.total[which],
            peak=self.peak[which],
            box=self.box[which],
            first=self.first[which],
            scale=self.scale,
        )


def touching(one: I64, other: I64, *, corners: bool = True) -> I64:
    """Which regions touch across a border between two blocks.

    Args:
        one: The regions along the edge of one block, -1 for none (length L).
        other: Those along the edge of its neighbour, in the same direction (L). Two blocks that meet in a corner
            only have edges of one pixel.
        corners: Whether pixels that meet only in a corner touch: so for components, not for the background.

    Returns:
        Each pair of regions that touch (m x 2).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import touching
        >>> touching(np.array([0, -1, -1, 1]), np.array([-1, 4, -1, 5]))
        array([[0, 4],
               [1, 5]])
    """
    one_of("corners", corners, (True, False))
    check_array("one", one, "whole numbers", ("n",))
    check_array("other", other, "whole numbers", one.shape)
    pairs = [np.stack([one, other], axis=1)]
    if corners:
        pairs += [np.stack([one[1:], other[:-1]], axis=1), np.stack([one[:-1], other[1:]], axis=1)]
    every = np.concatenate(pairs)
    return distinct(every[(every >= 0).all(axis=1)])


def unite(n: int, pairs: I64) -> tuple[I64, int]:
    """Number what hangs together, by its smallest member.

    Args:
        n: How many members there are, numbered from 0.
        pairs: Pairs of members that belong together (m x 2).

    Returns:
        The group of each member (n), and how many groups there are.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import unite
        >>> unite(5, np.array([[4, 1], [2, 4]]))
        (array([0, 1, 1, 2, 1]), 3)
    """
    number_in("n", n, 0, FAR, whole=True)
    check_array("pairs", pairs, "whole numbers", ("n", 2), (0, n - 1))
    return number_parts(_graph_of_table_pairs(n, pairs[:, 0], pairs[:, 1]))


def merge(tables: Sequence[Table], group: I64, n: int) -> Table:
    """Add up the tables of parts to the table of the wholes.

    Args:
        tables: Tables of the parts, in coordinates of one picture (`Table.moved`).
        group: Which whole each part belongs to, through all the tables one after the other.
        n: How many wholes there are; each must have a part.

    Returns:
        The table of the wholes.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components, merge
        >>> left = components(np.array([[0, 200]], np.uint8))
        >>> right = components(np.array([[100, 0]], np.uint8), threshold=0.4)
        >>> whole = merge([left.table, right.table.moved(x=2, y=0)], np.array([0, 0]), 1)
        >>> whole.count, whole.box, whole.score
        (array([2]), array([[1, 0, 3, 1]]), array([0.7475]))
    """
    check_each("tables", tables, Table)
    scales = {table.scale for table in tables}
    if len(scales) != 1:
        raise InputError(
            f"tables with the scales {sorted(scales)} cannot be added: take all maps as bytes, or all as floats"
        )
    count, total, peak, box, first = (
        np.concatenate([getattr(table, name) for table in tables])
        for name in ("count", "total", "peak", "box", "first")
    )
    check_groups(group, count.size, n)
    place = least((first[:, 0] << 32) + first[:, 1], group, n)
    return Table(
        count=sums(count, group, n),
        total=sums(total, group, n),
        peak=most(peak, group, n),
        box=np.concatenate([least(box[:, :2], group, n), most(box[:, 2:], group, n)], axis=1),
        first=np.stack([place >> 32, place & (2**32 - 1)], axis=1),
        scale=scales.pop(),
    )


def check_groups(group: I64, parts: int, n: int) -> None:
    """Refuse groups that do not put each part into one of n wholes, and at least one part into each."""
    number_in("n", n, 0, FAR, whole=True)
    check_array("group", group, "whole numbers", (parts,), (0, n - 1))
    if not np.bincount(group, minlength=n).all():
        raise InputError(f"group leaves some of the {n} wholes without a part: number them from 0 without gaps")


def enclosing(n: int, regions: int, beside: I64, *, rim: I64, background_rim: I64) -> I64:
    """Which component each component lies inside of, in a hole of it.

    Components and the background between them alternate from outside to inside, like the rings of an onion. The way
    from outside the picture to a component crosses its surroundings last, and before them what encloses it.

    Args:
        n: How many components there are.
        regions: How many background regions there are.
        beside: Pairs (component, background region) that lie side by side (m x 2), from `Background.beside` and,
            between blocks, from along their left and right borders.
        rim: Components that touch the edge of the whole picture.
        background_rim: Background regions that do.

    Returns:
        The number of the component that encloses each one next, -1 where none does (n).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import enclosing
        >>> enclosing(2, 2, np.array([[0, 0], [0, 1], [1, 1]]), rim=np.array([], int), background_rim=np.array([0]))
        array([-1,  0])
    """
    for name, value in (("n", n), ("regions", regions)):
        number_in(name, value, 0, FAR, whole=True)
    check_array("beside", beside, "whole numbers", ("n", 2), (0, max(n, regions) - 1))
    check_array("rim", rim, "whole numbers", ("n",), (0, n - 1))
    check_array("background_rim", background_rim, "whole numbers", ("n",), (0, regions - 1))
    outside = n + regions
    outer = np.concatenate([rim, background_rim + n])
    graph = _graph_of_table_pairs(
        outside + 1,
        np.concatenate([beside[:, 0], outer]),
        np.concatenate([beside[:, 1] + n, np.full(outer.size, outside)]),
    )
    _, towards = csgraph.breadth_first_order(graph, outside, directed=False, return_predecessors=True)
    if (towards[:outside] < 0).any():
        raise InputError(
            "some regions cannot be reached from the edge of the picture: give all of beside, rim and background_rim"
        )
    around = towards[:n].astype(np.int64)  # the background region outside of each component, or outside itself
    beyond = np.where(around == outside, outside, towards[around])
    return np.where(beyond == outside, -1, beyond).astype(np.int64)


def number_parts(graph: sparse.csr_matrix) -> tuple[I64, int]:
    """The connected parts of a graph, numbered by their first nodes: each node's part, and how many."""
    n, part = csgraph.connected_components(graph, directed=False)
    # SciPy numbers them so already; saying it here keeps it true whatever SciPy does.
    order = np.argsort(least(np.arange(part.size), part, n))
    number = np.empty(n, np.int64)
    number[order] = np.arange(n)
    return number[part], int(n)


def distinct(pairs: I64) -> I64:
    """Each pair of numbers below 2**31 once, in order."""
    keys = np.unique((pairs[:, 0] << 32) | pairs[:, 1])
    return np.stack([keys >> 32, keys & (2**32 - 1)], axis=1)


def sums(values: I64, group: I64, n: int) -> I64:
    """The sum of each group's values."""
    out = np.zeros((n, *values.shape[1:]), np.int64)
    np.add.at(out, group, values)
    return out


def least(values: I64, group: I64, n: int) -> I64:
    """The smallest of each group's values."""
    out = np.full((n, *values.shape[1:]), np.iinfo(np.int64).max)
    np.minimum.at(out, group, values)
    return out


def most(values: I64, group: I64, n: int) -> I64:
    """The largest of each group's values."""
    out = np.full((n, *values.shape[1:]), np.iinfo(np.int64).min)
    np.maximum.at(out, group, values)
    return out


def _graph_of_table_pairs(n: int, one: I64, other: I64) -> sparse.csr_matrix:
    # A pair given twice adds up to 2, which is an edge still.
    return sparse.csr_matrix((np.ones(one.size), (one, other)), shape=(n, n))
