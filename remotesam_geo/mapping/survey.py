"""Prompts over a whole scene at one resolution: answered block by block, outlined, joined, chosen."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from remotesam_geo.tasks import (
    MIN_SCORE,
    Dropped,
    Hulls,
    Suppress,
    merge,
    select,
    smallest_rectangles,
    upright,
)
from remotesam_geo.words import Prompt

from .executor import Answer, Failure, Predict, Work, run
from .frames import Found
from .grid import Block, Grid
from .source import Moment
from .stitch import Codes
from .vectors import Features, Joiner, Outline, Pieces, extract

__all__ = ["Choice", "Survey", "drawn", "gather", "joined", "survey"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of the components found are wanted, and how they are drawn.

    Attributes:
        outline: Which geometry.
        suppress: Which components give way to others.
        min_score: Least mean probability.
    """

    outline: Outline = "polygon"
    suppress: Suppress = "none"
    min_score: float = MIN_SCORE


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """All that was found.

    Attributes:
        found: Features by label and time.
        failures: Tiles that could not be answered.
        dropped: By label, what was found but dropped.
    """

    found: tuple[Found, ...]
    failures: tuple[Failure, ...]
    dropped: dict[str, Dropped]


def survey(
    work: Work,
    predict: Predict,
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    choice: Choice,
    *,
    progress: Callable[[int], object] = int,
) -> Survey:
    """Find what prompts ask for.

    Args:
        work: The scene, and the expressions to ask.
        predict: The model.
        prompts: What is asked; each map is the maximum over its expressions' maps.
        members: Which of the expressions belong to each prompt.
        choice: What is wanted of it.
        progress: Told how many tiles were done.
    """
    failures: list[Failure] = []
    finish = partial(_outlined, prompts=prompts, members=members, outline=drawn(choice))

    def blocks() -> Iterator[tuple[int, Block, Sequence[Pieces]]]:
        for answer, pieces in run(work, predict, finish, progress=progress):
            failures.extend(answer.failures)
            yield answer.moment, answer.block, pieces

    with warnings.catch_warnings():
        # rasterio silences this one for arrays of its own, but what one thread silences another may let speak again:
        # the filters are the whole process's.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        found, dropped = gather(blocks(), work.grid, work.source.moments, prompts, choice)
    return Survey(found=found, failures=tuple(failures), dropped=dropped)


def gather(
    blocks: Iterable[tuple[int, Block, Sequence[Pieces]]],
    grid: Grid,
    moments: Sequence[Moment],
    prompts: Sequence[Prompt],
    choice: Choice,
) -> tuple[tuple[Found, ...], dict[str, Dropped]]:
    """Join the pieces of blocks to whole features, and choose among them.

    Args:
        blocks: Moment, block, and a piece for each prompt; in plan order.
        grid: The plan.
        moments: The times there are.
        prompts: What was asked.
        choice: What is wanted of it.

    Returns:
        Features by label and time, and by label what was dropped.
    """
    joiners: dict[tuple[int, int], Joiner] = {}
    parts: dict[tuple[int, int], list[Features]] = {}
    for moment, block, pieces in blocks:
        for index, piece in enumerate(pieces):
            joiner = joiners.setdefault((moment, index), Joiner(grid))
            parts.setdefault((moment, index), []).extend(joiner.add(block, piece))
    for key, joiner in joiners.items():
        parts[key].extend(joiner.finish())

    found: list[Found] = []
    dropped: dict[str, Dropped] = {}
    for (moment, index), features in sorted(parts.items()):
        whole = _together(features)
        if whole is None:
            continue
        chosen, left_out = _chosen(whole, choice)
        label = prompts[index].label
        dropped[label] = _sum(dropped.get(label, Dropped()), left_out)
        found.append(Found(label=label, moment=moments[moment], features=chosen))
    return tuple(found), dropped


def drawn(choice: Choice) -> Outline:
    """The outline that a choice is made from: what lies in a hole of what is seen from the polygons alone."""
    return (
        "polygon" if choice.suppress == "enclosed" and choice.outline == "box" else choice.outline
    )


def _outlined(
    answer: Answer,
    *,
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    outline: Outline,
) -> tuple[Answer, tuple[Pieces, ...]]:
    return answer, tuple(
        extract(
            joined(answer.codes, own),
            answer.block.core,
            threshold=prompt.threshold,
            outline=outline,
        )
        for prompt, own in zip(prompts, members, strict=True)
    )


def joined(codes: Codes, members: Sequence[int]) -> Codes:
    """The map of a prompt (h x w) from those of the expressions (P x h x w).

    Failed and no data are the largest codes, and all expressions of a window share them.
    """
    one: Codes = codes[list(members)].max(axis=0)
    return one


def _together(parts: Sequence[Features]) -> Features | None:
    """All features of one map, in the order of their first pixels."""
    if not parts:
        return None
    polygons = [part.polygons for part in parts if part.polygons is not None]
    outlines = [part.hulls for part in parts if part.hulls is not None]
    tables = [part.table for part in parts]
    count = sum(map(len, tables))
    whole = Features(
        table=merge(tables, np.arange(count), count),
        polygons=np.concatenate(polygons) if polygons else None,
        hulls=_all_hulls(outlines) if outlines else None,
    )
    return whole.take(np.lexsort(whole.table.first.T[::-1]))


def _all_hulls(parts: Sequence[Hulls]) -> Hulls:
    sizes = np.concatenate([np.diff(part.begin) for part in parts])
    return Hulls(
        points=np.concatenate([part.points for part in parts]),
        begin=np.concatenate([[0], np.cumsum(sizes)]),
    )


def _chosen(features: Features, choice: Choice) -> tuple[Features, Dropped]:
    oriented = features.hulls is not None
    corners = (
        smallest_rectangles(features.hulls)
        if features.hulls is not None
        else upright(features.table.box)
    )
    keep, dropped = select(
        features.table,
        corners,
        oriented=oriented,
        min_score=choice.min_score,
        suppress=choice.suppress,
        enclosed_by=_enclosers(features) if choice.suppress == "enclosed" else None,
    )
    return features.take(keep), dropped


def _enclosers(features: Features) -> NDArray[np.int64]:
    """The feature in a hole of which each one lies, the innermost, -1 for none."""
    out = np.full(len(features), -1, np.int64)
    if features.polygons is None:
        return out
    parts, owner = shapely.get_parts(features.polygons, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    inner = np.ones(len(rings), np.bool_)
    inner[np.flatnonzero(np.diff(part, prepend=-1))] = False  # each part begins with its outside
    holes, owner = shapely.polygons(rings[inner]), owner[part[inner]]
    points = shapely.points(features.table.first[:, ::-1] + 0.5)
    hole, inside = shapely.STRtree(points).query(holes, predicate="contains")
    largest_first = np.argsort(-shapely.area(holes[hole]), kind="stable")
    out[inside[largest_first]] = owner[hole[largest_first]]
    return out


def _sum(one: Dropped, other: Dropped) -> Dropped:
    return Dropped(
        low_score=one.low_score + other.low_score,
        small=one.small + other.small,
        inner=one.inner + other.inner,
        overlapping=one.overlapping + other.overlapping,
        enclosed=one.enclosed + other.enclosed,
    )
