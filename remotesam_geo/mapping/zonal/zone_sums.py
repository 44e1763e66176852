"""Maps added up zone by zone, in whole numbers: sums of any cut of a raster add up to exactly those of the whole.

`tally_zones` takes one block and may run in any thread or process; `ZoneSums` joins what it gives, in any order.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import RemoteSAMWarning
from remotesam_geo.mapping.executor import BlockMap
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.source import SceneDate
from remotesam_geo.mapping.stitch import joined
from remotesam_geo.tasks import Tally, label_scores, refer, tally
from remotesam_geo.words import Prompt

from .zones import Zones

__all__ = ["Sums", "ZonePart", "ZoneSums", "tally_zones"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ZonePart:
    """What one block holds of the zones that have pixels there.

    Attributes:
        date: Index of the date.
        block: Which block.
        zones: The zones (k).
        tallies: Their pixels and probabilities, one a prompt (P, each over k zones).
        above: How many of their pixels exceed the threshold (P x k).
    """

    date: int
    block: int
    zones: I64
    tallies: tuple[Tally, ...]
    above: I64


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """What maps hold in each of n zones, over the whole raster and at all of its times.

    Attributes:
        zones: The zones.
        prompts: The prompts (P).
        dates: The dates (T).
        tallies: Pixels and probabilities, one a time and prompt (T of P, each over n zones); pixels of blocks that were
            not asked have no data.
        above: How many pixels exceed the threshold (T x P x n).
    """

    zones: Zones
    prompts: tuple[Prompt, ...]
    dates: tuple[SceneDate, ...]
    tallies: tuple[tuple[Tally, ...], ...]
    above: I64

    def scores(self, date: int, *, balance: float) -> F64:
        """The score of each prompt in each zone, NaN where nothing was answered (P x n)."""
        return label_scores(self.tallies[date], balance=balance)

    def score_max(self, date: int) -> F64:
        """The largest probability of each prompt in each zone, NaN where nothing was answered (P x n)."""
        # The score of a single label is its maximum.
        return label_scores(self.tallies[date], balance=1.0)

    def covered(self, date: int) -> F64:
        """The share of answered pixels that exceed the threshold, NaN where there are none (P x n)."""
        return _share_or_nan(self.above[date], np.stack([part.count for part in self.tallies[date]]))

    def valid_fraction(self, date: int) -> F64:
        """The share of each zone, what lies outside the raster included, that was answered (P x n)."""
        return np.nan_to_num(_share_or_nan(self._count(date, "count"), self._whole(date)))

    def failed_fraction(self, date: int) -> F64:
        """The share of each zone, what lies outside the raster included, whose answer failed (P x n)."""
        return np.nan_to_num(_share_or_nan(self._count(date, "failed"), self._whole(date)))

    def _count(self, date: int, name: str) -> F64:
        return np.stack([getattr(part, name) for part in self.tallies[date]]).astype(np.float64)

    def _whole(self, date: int) -> F64:
        pixels = sum(self._count(date, name) for name in ("count", "failed", "no_data"))
        return np.asarray(pixels + self.zones.outside, np.float64)


def tally_zones(
    answer: BlockMap, zones: Zones, prompts: Sequence[Prompt], members: Sequence[Sequence[int]]
) -> ZonePart:
    """Add up the map of one block, zone by zone.

    Args:
        answer: The block's map.
        zones: The zones, on the grid of the map.
        prompts: The prompts; each map is the maximum over its expressions' maps.
        members: Which of the expressions belong to each prompt.
    """
    which, painted = zones.paint(answer.block.core)
    tallies, above = [], np.zeros((len(prompts), len(which)), np.int64)
    for row, prompt, own in zip(above, prompts, members, strict=True):
        codes = joined(answer.codes, own)
        tallies.append(tally(codes, painted, len(which)))
        over = refer(codes, threshold=prompt.threshold)
        row[:] = np.bincount(painted[over], minlength=len(which) + 1)[1:]
    return ZonePart(
        date=answer.date,
        block=answer.block.index,
        zones=which,
        tallies=tuple(tallies),
        above=above,
    )


@dataclass(kw_only=True, eq=False)
class ZoneSums:
    """Joins the parts of blocks as they come, in any order, each once.

    Memory is that of the sums: six whole numbers a zone, prompt and time.

    Args:
        zones: The zones.
        grid: The plan.
        prompts: The prompts.
        dates: The dates of the scene.
    """

    zones: Zones
    grid: Grid
    prompts: tuple[Prompt, ...]
    dates: tuple[SceneDate, ...]
    _sums: NDArray[np.int64] = field(init=False)  # T x P x (what) x n
    _peak: NDArray[np.int64] = field(init=False)  # T x P x n
    _seen: list[set[int]] = field(init=False)  # blocks, by time
    _scale: int = 1

    def __post_init__(self) -> None:
        shape = len(self.dates), len(self.prompts)
        self._sums = np.zeros((*shape, 5, len(self.zones)), np.int64)
        self._peak = np.full((*shape, len(self.zones)), -1, np.int64)
        self._seen = [set() for _ in self.dates]

    def add(self, part: ZonePart) -> None:
        """Take one block's part."""
        self._seen[part.date].add(part.block)
        at = part.zones
        for number, (one, above) in enumerate(zip(part.tallies, part.above, strict=True)):
            sums = self._sums[part.date, number]
            sums[:, at] += np.stack([one.count, one.failed, one.no_data, one.total, above])
            peak = self._peak[part.date, number]
            peak[at] = np.maximum(peak[at], one.peak)
            self._scale = one.scale

    def finish(self) -> Sums:
        """The sums over the whole raster: pixels of blocks that never came have no data."""
        blocks = self.grid.blocks[0] * self.grid.blocks[1]
        missing = [sorted(set(range(blocks)) - seen) for seen in self._seen]
        pixels = {block: self._pixels(block) for block in sorted(set().union(*missing))}
        for sums, blocks_missing in zip(self._sums, missing, strict=True):
            for block in blocks_missing:
                sums[:, 2] += pixels[block]
        self._warn_of_tiny()
        return Sums(
            zones=self.zones,
            prompts=self.prompts,
            dates=self.dates,
            tallies=tuple(
                tuple(
                    Tally(
                        count=sums[0],
                        failed=sums[1],
                        no_data=sums[2],
                        total=sums[3],
                        peak=peak,
                        scale=self._scale,
                    )
                    for sums, peak in zip(*at_a_time, strict=True)
                )
                for at_a_time in zip(self._sums, self._peak, strict=True)
            ),
            above=self._sums[:, :, 4],
        )

    def _warn_of_tiny(self) -> None:
        pixels = self._sums[0, 0, :3].sum(axis=0)
        tiny = np.flatnonzero((pixels == 0) & (self.zones.size > 0) & (self.zones.outside == 0))
        if len(tiny):
            warnings.warn(
                f"{len(tiny)} zones, the first {self.zones.frame.index[tiny[0]]!r}, are so small that they hold the "
                "middle of no pixel, and have no answer: ask at a finer resolution, or merge them with others",
                RemoteSAMWarning,
                stacklevel=2,
            )

    def _pixels(self, block: int) -> I64:
        runs = self.zones.runs(self.grid.block_at(block).core)
        counts = np.bincount(runs.zone, weights=runs.stop - runs.start, minlength=len(self.zones))
        return counts.astype(np.int64)


def _share_or_nan(part: NDArray[np.number], of: NDArray[np.number]) -> F64:
    """Their ratio, NaN where there is nothing to have a share of."""
    out: F64 = np.full(np.shape(of), np.nan)
    np.divide(part, of, out=out, where=np.asarray(of) > 0)
    return out
