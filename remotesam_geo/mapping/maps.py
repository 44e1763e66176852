"""Where maps come from: predicted by the network, read again from disk, or held in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from remotesam_geo.predictors.protocol import Codes, Predict
from remotesam_geo.tasks import FAILED, NO_DATA

from .executor import BlockMap, Pool, WindowFailure, Work, run
from .grid import Grid
from .source import SceneDate

__all__ = ["Maps", "PredictedMaps", "StoredMaps"]

Out = TypeVar("Out")
Progress = Callable[[int], object]


class Maps(Protocol):
    """Maps over a raster, one an expression, block by block."""

    @property
    def grid(self) -> Grid:
        """The plan."""

    @property
    def geobox(self) -> GeoBox:
        """The plan's grid."""

    @property
    def dates(self) -> Sequence[SceneDate]:
        """The times there are."""

    @property
    def size(self) -> int:
        """Windows there are to tell the progress of."""

    def answers(self, finish: Callable[[BlockMap], Out], *, progress: Progress = int) -> Iterator[Out]:
        """What `finish` makes of each block of each time, in plan order.

        Args:
            finish: Works on a block, in another thread.
            progress: Told with each block how many windows were done.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedMaps:
    """Maps that the network predicts.

    Attributes:
        work: The scene and the expressions.
        predict: The model.
    """

    work: Work
    predict: Predict

    @property
    def grid(self) -> Grid:
        """The plan."""
        return self.work.grid

    @property
    def geobox(self) -> GeoBox:
        """The plan's grid."""
        return self.work.source.geobox

    @property
    def dates(self) -> Sequence[SceneDate]:
        """The times there are."""
        return self.work.source.dates

    @property
    def size(self) -> int:
        """How many windows there are to predict."""
        return self.work.size

    def answers(self, finish: Callable[[BlockMap], Out], *, progress: Progress = int) -> Iterator[Out]:
        """See `Maps`."""
        return run(self.work, self.predict, finish, progress=progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredMaps:
    """Maps that are there already.

    Attributes:
        read: Gives the maps (P x h x w; codes, or probabilities of a picture) of a block at a time.
        grid: How they are cut into blocks.
        geobox: The grid they lie on.
        dates: The dates of the scene.
        failures: What had failed when they were predicted, in their own times and pixels.
    """

    read: Callable[[int, tuple[slice, slice]], Codes | NDArray[np.float32]]
    grid: Grid
    geobox: GeoBox
    dates: tuple[SceneDate, ...]
    failures: tuple[WindowFailure, ...] = ()

    @property
    def size(self) -> int:
        """Windows there are to read."""
        return len(self.grid) * len(self.dates)

    def answers(self, finish: Callable[[BlockMap], Out], *, progress: Progress = int) -> Iterator[Out]:
        """See `Maps`."""
        rows, cols = self.grid.blocks
        tasks = ((date, index) for date in range(len(self.dates)) for index in range(rows * cols))
        with Pool(2) as pool:
            for done, windows in pool.map(partial(self._finished, finish), tasks):
                progress(windows)
                yield done

    def _finished(self, finish: Callable[[BlockMap], Out], task: tuple[int, int]) -> tuple[Out, int]:
        date, index = task
        block = self.grid.block_at(index)
        codes = self.read(date, block.core.within(self.grid.raster))
        own = []
        for failure in self.failures:
            here = failure.core.common(block.core) if failure.date == date else None
            if here is None:
                continue
            part = codes[:, *here.within(block.core)]
            part[part == NO_DATA] = FAILED
            if (here.top, here.left) == (failure.core.top, failure.core.left):
                own.append(failure)  # told once, by the block that it begins in
        answer = BlockMap(date=date, block=block, codes=codes, failures=tuple(own))
        return finish(answer), len(self.grid.owners(block.core))
