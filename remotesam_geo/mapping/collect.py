"""Features of a scene at one resolution: outlined block by block, joined across blocks, filtered; sums over zones."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from remotesam_geo.errors import RemoteSAMWarning
from remotesam_geo.geo.ground import pixel_size
from remotesam_geo.tasks import (
    CONTOUR_THRESHOLD,
    NOT_ANSWERED,
    Dropped,
    Hulls,
    merge,
    select,
    semantic,
    smallest_rectangles,
    upright,
)
from remotesam_geo.tasks.codes import FULL, above
from remotesam_geo.words import Prompt, threshold_steps

from . import polygons as vectors
from .executor import BlockMap, WindowFailure
from .feature_options import FeatureOptions
from .feature_table import Found
from .grid import Block, Grid
from .maps import Maps
from .polygons import Features, Joiner, Pieces, extract
from .source import SceneDate
from .stitch import joined
from .zonal.zone_sums import Sums, ZonePart, ZoneSums, tally_zones
from .zonal.zones import Zones

__all__ = [
    "Survey",
    "chosen_features",
    "gather",
    "survey",
    "warn_of_cuts",
    "warn_of_giants",
    "warn_of_no_data",
    "warn_of_nothing",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """All that was found.

    Attributes:
        found: Features by label and time.
        failures: Windows that could not be read or predicted.
        dropped: By label, what was found but dropped.
        sums: What the maps hold in each zone; None where no zones were given.
        erased: Labels whose components the contours removed entirely.
        left_cut: The vertices of each feature that had too many to be joined.
        outdone: By label, pixels above the threshold that an exclusive choice gave to another class.
        valid: Whether any pixel was predicted.
    """

    found: tuple[Found, ...]
    failures: tuple[WindowFailure, ...] = ()
    dropped: dict[str, Dropped]
    sums: Sums | None = None
    erased: frozenset[str] = frozenset()
    left_cut: tuple[int, ...] = ()
    outdone: dict[str, int] = field(default_factory=dict)
    valid: bool = True


def survey(
    maps: Maps,
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    *,
    options: FeatureOptions | None = None,
    zones: Zones | None = None,
    progress: Callable[[int], object] = int,
) -> Survey:
    """Find the features of all prompts, and the sums over zones, in one pass over the maps.

    Args:
        maps: The maps of the expressions.
        prompts: The prompts; each map is the maximum over its expressions' maps.
        members: Which of the expressions belong to each prompt.
        options: Filters and output geometry; None for no features.
        zones: Zones for the sums; None for no sums.
        progress: Called with the number of windows done since its last call.
    """
    failures: list[WindowFailure] = []
    dates = tuple(maps.dates)
    sums = None
    if zones is not None:
        sums = ZoneSums(zones=zones, grid=maps.grid, prompts=tuple(prompts), dates=dates)
    finish = partial(_pieces_of_block, prompts=prompts, members=members, options=options, zones=zones)
    outdone = dict.fromkeys((prompt.label for prompt in prompts), 0)
    valid = False

    def blocks() -> Iterator[tuple[int, Block, Sequence[Pieces]]]:
        nonlocal valid
        for answer, pieces, part, above_threshold in maps.answers(finish, progress=progress):
            failures.extend(answer.failures)
            valid |= above_threshold is not None
            for prompt, pixels in zip(prompts, above_threshold or (), strict=False):
                outdone[prompt.label] += pixels
            if sums is not None and part is not None:
                sums.add(part)
            yield answer.date, answer.block, pieces

    with warnings.catch_warnings():
        # rasterio silences this one for arrays of its own, but what one thread silences another may let speak again:
        # the filters are the whole process's.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        gathered = gather(blocks(), maps.grid, dates, prompts, options or FeatureOptions())
    warn_of_cuts(gathered.left_cut)  # now that no thread of ours can silence it
    return replace(
        gathered,
        failures=tuple(failures),
        sums=None if sums is None else sums.finish(),
        outdone=outdone,
        valid=valid,
    )


def gather(
    blocks: Iterable[tuple[int, Block, Sequence[Pieces]]],
    grid: Grid,
    dates: Sequence[SceneDate],
    prompts: Sequence[Prompt],
    options: FeatureOptions,
) -> Survey:
    """Join the pieces of blocks to whole features, and choose among them.

    Args:
        blocks: Date, block and the components of each prompt, in plan order.
        grid: The plan.
        dates: The dates of the scene.
        prompts: The prompts.
        options: What is wanted of it.
    """
    components: set[str] = set()
    joiners: dict[tuple[int, int], Joiner] = {}
    parts: dict[tuple[int, int], list[Features]] = {}
    for date, block, pieces in blocks:
        for index, piece in enumerate(pieces):
            if piece.wholes:
                components.add(prompts[index].label)
            joiner = joiners.setdefault((date, index), Joiner(grid, parts=options.parts))
            parts.setdefault((date, index), []).extend(joiner.add(block, piece))
    for key, joiner in joiners.items():
        parts[key].extend(joiner.finish())

    found, dropped = chosen_features(parts, dates, prompts, options, grid.shape)
    erased = components - {each.label for each in found if len(each.features)}
    erased -= {label for label, count in dropped.items() if count != Dropped()}
    return Survey(
        found=found,
        dropped=dropped,
        erased=frozenset(erased),
        left_cut=tuple(n for joiner in joiners.values() for n in joiner.left_cut),
    )


def chosen_features(
    parts: Mapping[tuple[int, int], Sequence[Features]],
    dates: Sequence[SceneDate],
    prompts: Sequence[Prompt],
    options: FeatureOptions,
    shape: tuple[int, int],
) -> tuple[tuple[Found, ...], dict[str, Dropped]]:
    """Choose the features that are wanted.

    Args:
        parts: Features by number of date and prompt.
        dates: The dates of the scene.
        prompts: The prompts.
        options: Which features are wanted.
        shape: Of the raster.

    Returns:
        The features of each date and prompt, and by label what was dropped.
    """
    found: list[Found] = []
    dropped: dict[str, Dropped] = {}
    for (date, index), features in sorted(parts.items()):
        if not features:
            continue
        chosen, left_out = _wanted_features(features, options, shape)
        label = prompts[index].label
        dropped[label] = dropped.get(label, Dropped()) + left_out
        found.append(Found(label=label, date=dates[date], features=chosen))
    return tuple(found), dropped


def warn_of_no_data(valid: Iterable[bool]) -> None:
    """Warn where no pixel is valid at all.

    Args:
        valid: For each part that was looked at, whether it has valid pixels.
    """
    if not any(valid):
        warnings.warn(
            "no pixel that was looked at is valid, so nothing can be found: the scene is no data there. Look at "
            "render(scene).valid, and check nodata=, masks and the area",
            RemoteSAMWarning,
            stacklevel=5,
        )


def warn_of_nothing(prompts: Sequence[Prompt], surveys: Sequence[Survey], options: FeatureOptions) -> None:
    """Say which labels have no row because of the arguments, and what removed their components.

    Args:
        prompts: The prompts of the call.
        surveys: What was found at each resolution and in each view.
        options: Which components were wanted.
    """
    full = {each.label for one in surveys for each in one.found if len(each.features)}
    erased = {label for one in surveys for label in one.erased}
    reasons = []
    for prompt in prompts:
        label = prompt.label
        count = sum((one.dropped.get(label, Dropped()) for one in surveys), Dropped())
        outdone = sum(one.outdone.get(label, 0) for one in surveys)
        if label in full:
            continue
        removed = _removed_words(count, options)
        if removed:
            total = sum(vars(count).values())
            many = f"{total:,} components were" if total > 1 else "1 component was"
            reasons.append(f"{many} found for {label!r}: {' and '.join(removed)}")
        elif label in erased:
            reasons.append(f"refine= left nothing of the components of {label!r}")
        elif outdone:
            reasons.append(
                f"{outdone:,} pixels are above the threshold of {label!r}, but another class is more probable "
                "there (exclusive=True)"
            )
        elif prompt.threshold >= 1:
            reasons.append(f"no probability is larger than threshold=1 of {label!r}: give a lower one")
    if reasons:
        warnings.warn(
            f"nothing is left of {len(reasons)} of {len(prompts)} labels. {'; '.join(reasons)}",
            RemoteSAMWarning,
            stacklevel=5,
        )


def _removed_words(count: Dropped, options: FeatureOptions) -> list[str]:
    """What removed components, and how many, as users name it."""
    causes = {
        f"min_score={options.min_score:g}": count.low_score,
        f"min_area ({options.min_area:,} pixels)": count.small,
        f"suppress={options.suppress!r}": count.inner + count.overlapping + count.enclosed,
    }
    return [f"{cause} removed {number:,}" for cause, number in causes.items() if number]


def warn_of_cuts(vertices: Sequence[int]) -> None:
    """Say which features stay in pieces."""
    if vertices:
        warnings.warn(
            f"{len(vertices)} features have more than {vectors.MOST_VERTICES:,} vertices, the largest "
            f"{max(vertices):,}: they stay cut at block borders, their pieces sharing one id. Say parts='blocks' to "
            "expect it, or simplify=... and a coarser resolution",
            RemoteSAMWarning,
            stacklevel=2,
        )


def warn_of_giants(found: Sequence[Found], grid: Grid, geobox: GeoBox) -> None:
    """Say which objects fill a window, so that the network never saw them whole."""
    for each in found:
        box = each.features.table.box
        sides = np.minimum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]) if len(box) else box[:, 0]
        large = int((sides >= grid.window).sum())
        if large and geobox.crs is not None:
            metres = pixel_size(geobox).metres
            factor = 2 * int(sides.max()) / grid.window
            warnings.warn(
                f"{large} of {each.label!r} fill a window of {grid.window * metres:,.0f} m, so the network never saw "
                f"them whole: ask at a coarser resolution, {float(f'{metres * factor:.2g}'):g} m",
                RemoteSAMWarning,
                stacklevel=4,
            )


def _pieces_of_block(
    answer: BlockMap,
    *,
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    options: FeatureOptions | None,
    zones: Zones | None,
) -> tuple[BlockMap, list[Pieces], ZonePart | None, tuple[int, ...] | None]:
    """Outline the components of a block, and add its maps up over zones.

    Returns:
        The block without its maps; a piece for each prompt; the sums over zones; and the pixels above each prompt's
        threshold before an exclusive choice, None where no pixel is valid.
    """
    codes, pieces = answer.codes, list[Pieces]()
    above_threshold: tuple[int, ...] = ()
    if options is not None:
        own = [joined(codes, which) for which in members]
        if options.exclusive:
            above_threshold = tuple(
                int(above(one, threshold_steps(prompt.threshold)).sum())
                for prompt, one in zip(prompts, own, strict=True)
            )
            winner = semantic(own, threshold=[prompt.threshold for prompt in prompts])
            own = [
                np.where((winner == number) | (winner == NOT_ANSWERED), one, one.dtype.type(0))
                for number, one in enumerate(own, start=1)
            ]
        contours = options.contour_threshold
        pieces = [
            extract(
                one,
                answer.block.core,
                threshold=prompt.threshold,
                contour=None if contours is None else codes[-1],
                contour_threshold=CONTOUR_THRESHOLD if contours is None else contours,
                outline=options.drawn,
            )
            for prompt, one in zip(prompts, own, strict=True)
        ]
    part = None if zones is None else tally_zones(answer, zones, prompts, members)
    valid = codes.dtype != np.uint8 or bool((codes[:1] <= FULL).any())
    return replace(answer, codes=codes[:0]), pieces, part, above_threshold if valid else None


def _collected_hulls(parts: Sequence[Hulls]) -> Hulls:
    sizes = np.concatenate([np.diff(part.begin) for part in parts])
    return Hulls(
        points=np.concatenate([part.points for part in parts]),
        begin=np.concatenate([[0], np.cumsum(sizes)]),
    )


def _wanted_features(
    parts: Sequence[Features], options: FeatureOptions, shape: tuple[int, int]
) -> tuple[Features, Dropped]:
    """The features of one map that are wanted, in the order of their first pixels, and what was dropped."""
    polygons = [part.polygons for part in parts if part.polygons is not None]
    outlines = [part.hulls for part in parts if part.hulls is not None]
    tables = [part.table for part in parts]
    count = sum(map(len, tables))
    features = Features(
        table=merge(tables, np.arange(count), count),
        polygons=np.concatenate(polygons) if polygons else None,
        hulls=_collected_hulls(outlines) if outlines else None,
    )
    features = features.take(np.lexsort(features.table.first.T[::-1]))
    # Pieces of one whole share its table entry, and are kept or dropped together.
    first = features.table.first
    begins = np.ones(len(features), np.bool_)
    begins[1:] = (first[1:] != first[:-1]).any(axis=1)
    wholes = features.take(begins) if not begins.all() else features
    corners = smallest_rectangles(wholes.hulls) if wholes.hulls is not None else upright(wholes.table.box)
    keep, dropped = select(
        wholes.table,
        corners,
        around=wholes.hulls,
        shape=shape,
        min_score=options.min_score,
        min_area=options.min_area,
        suppress=options.suppress,
        enclosed_by=_enclosing_features(wholes) if options.suppress == "enclosed" else None,
    )
    return features.take(keep[np.cumsum(begins) - 1]), dropped


def _enclosing_features(features: Features) -> NDArray[np.int64]:
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
