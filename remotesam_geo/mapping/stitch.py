"""From a region of pixels to windows for the network, and from the windows' answers back to one map.

Each pixel of the map is a fixed function of the plan: pasted from the window whose core holds it, or blended from
every window that sees it, summed in plan order in integers. So neither chunks nor the order in which windows are
answered can change it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.geo.box import Box
from remotesam_geo.predictors.protocol import Codes
from remotesam_geo.tasks import FAILED, NO_DATA

from .grid import Grid, Window

__all__ = ["Seam", "cut_window", "joined", "mark", "needed", "stitch"]

Seam = Literal["paste", "blend"]


def needed(grid: Grid, box: Box, seam: Seam) -> tuple[Window, ...]:
    """The windows whose windows contribute to a box, in plan order."""
    return grid.owners(box) if seam == "paste" else grid.viewers(box)


def cut_window(rgb: Codes, valid: NDArray[np.bool_], region: Box, window: Box) -> tuple[Codes, NDArray[np.bool_]]:
    """What the network sees in a window: invalid pixels take the mean colour of the valid ones.

    Args:
        rgb: Pixels of the region (h x w x 3).
        valid: Which of them are data (h x w).
        region: Where they lie. It holds the window, but for what of it lies beyond the raster.
        window: Where the window lies; what lies beyond the raster is reflected.

    Returns:
        The picture (S x S x 3), and which of its pixels are data (S x S).
    """
    inside = window.common(region) or region
    part, known = rgb[inside.within(region)], valid[inside.within(region)]
    if not known.all():
        # Summed in integers, so that the fill is one and the same on every machine.
        count = max(1, int(known.sum()))
        total = part[known].sum(axis=0, dtype=np.int64)
        part = np.where(known[..., None], part, ((2 * total + count) // (2 * count)).astype(np.uint8))
    if inside == window:
        return np.ascontiguousarray(part), known
    beyond = (0, window.bottom - inside.bottom), (0, window.right - inside.right)
    # "symmetric" repeats the border pixel, so that a raster of one pixel can be reflected too.
    return np.pad(part, (*beyond, (0, 0)), mode="symmetric"), np.pad(known, beyond)


def mark(codes: Codes, known: NDArray[np.bool_]) -> Codes:
    """A copy of a window's answers (P x S x S), with no data where the scene has none (S x S)."""
    return codes.copy() if known.all() else np.where(known, codes, np.uint8(NO_DATA))


def stitch(grid: Grid, box: Box, answers: Mapping[int, Codes | None], *, prompts: int, seam: Seam = "paste") -> Codes:
    """The map of a box, from the windows that contribute to it.

    Args:
        grid: The plan.
        box: Which pixels are wanted.
        answers: Marked codes of each needed window (P x S x S) by its number, None where it failed. A window that
            is missing was not predicted: its core has no data.
        prompts: How many maps there are, P.
        seam: "paste" takes each pixel from the window whose core holds it, "blend" weighs all windows that see it, less
            towards their edges. A pixel whose own window failed has failed, in both.

    Returns:
        The codes (P x h x w).
    """
    out = np.full((prompts, *box.shape), NO_DATA, np.uint8)
    owners = [(window, window.core.common(box)) for window in grid.owners(box)]
    asked = [(window, core) for window, core in owners if core is not None and window.index in answers]
    for window, core in asked:
        codes = answers[window.index]
        if codes is None:
            out[:, *core.within(box)] = FAILED
            continue
        out[:, *core.within(box)] = codes[:, *core.within(window.box)]
        if seam == "blend":
            for piece, looks in _stitch_parts_by_windows(core, list(_windows_to_stitch(grid.viewers(core), answers))):
                here = out[:, *piece.within(box)]
                np.copyto(here, _blend_windows(piece, looks, grid.overlap), where=here < FAILED)
    return out


def joined(codes: NDArray[Any], members: Sequence[int]) -> NDArray[Any]:
    """The map of a prompt (h x w) from those of the expressions (P x h x w).

    Failed and no data are the largest codes, and all expressions of a window share them.
    """
    one: NDArray[Any] = codes[list(members)].max(axis=0)
    return one


_Looks = Sequence[tuple[Window, Codes]]
"""Windows and their answers, in plan order."""


def _stitch_parts_by_windows(core: Box, looks: _Looks) -> Iterator[tuple[Box, _Looks]]:
    """The parts of a core that several windows see, cut so that all of a part is seen by the same ones."""
    windows = [window.box for window, _ in looks]
    ys = _stitch_cuts_between(core.top, core.bottom, [y for box in windows for y in (box.top, box.bottom)])
    xs = _stitch_cuts_between(core.left, core.right, [x for box in windows for x in (box.left, box.right)])
    for top, bottom in pairwise(ys):
        for left, right in pairwise(xs):
            piece = Box(top=top, left=left, bottom=bottom, right=right)
            seeing = [look for look in looks if look[0].box.common(piece)]
            if len(seeing) > 1:
                yield piece, seeing


def _stitch_cuts_between(start: int, stop: int, places: Sequence[int]) -> list[int]:
    return [start, *sorted({place for place in places if start < place < stop}), stop]


def _blend_windows(box: Box, looks: _Looks, overlap: int) -> Codes:
    """The weighted means of windows that all see the whole of a box (P x h x w)."""
    # Windows beside each other weigh differently along x alone, those above each other along y: the rest cancels out.
    beside = len({window.box.top for window, _ in looks}) == 1
    above = len({window.box.left for window, _ in looks}) == 1
    # 32 bits hold 401 times the weights of a pixel, which add up to the square of the overlap at most.
    whole: Any = np.uint32 if overlap < 3000 else np.uint64
    total = np.zeros((len(looks[0][1]), *box.shape), whole)
    weight, one = np.zeros(box.shape, whole), np.ones(1, whole)
    for window, codes in looks:
        rows, cols = box.within(window.box)
        part, ramp = codes[:, rows, cols], _blend_ramp(codes.shape[-1], overlap).astype(whole)
        share = np.outer(one if beside else ramp[rows], one if above else ramp[cols])
        known = part[0] < FAILED  # what is not known is known of no expression
        if not known.all():
            share = share * known
        total += share * part
        weight += share
    np.maximum(weight, 1, out=weight)
    # Rounded halves up, exactly: such quotients come no nearer to the next whole number than a float can tell.
    exact: Any = np.float32 if beside != above and overlap < 3000 else np.float64
    total *= 2
    total += weight
    blended: Codes = (total.astype(exact) / (2 * weight).astype(exact)).astype(np.uint8)
    return blended


def _windows_to_stitch(
    windows: Iterable[Window], answers: Mapping[int, Codes | None]
) -> Iterable[tuple[Window, Codes]]:
    for window in windows:
        codes = answers.get(window.index)
        if codes is not None:
            yield window, codes


def _blend_ramp(window: int, overlap: int) -> NDArray[np.int64]:
    """Whole weights along a window: rising over the overlap, level, falling again."""
    place = np.arange(window, dtype=np.int64)
    ramp: NDArray[np.int64] = np.minimum(np.minimum(place, window - 1 - place) + 1, max(overlap, 1))
    return ramp
