"""Predict a scene block by block: read, run the network and stitch, all three at the same time.

A few threads read ahead. The network runs in the caller's thread, because CUDA graphs are bound to one. Other threads
stitch and finish the blocks. The number of blocks in memory is limited, and results come in plan order.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import chain, groupby
from operator import attrgetter
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import ReadError, RemoteSAMError
from remotesam_geo.geo.box import Box
from remotesam_geo.net.redact import redact_text
from remotesam_geo.predictors.protocol import Codes, Predict, PredictorError, predicted_codes

from .grid import Block, Grid, Window
from .source import PixelSource
from .stitch import Seam, cut_window, mark, needed, stitch

__all__ = ["BlockMap", "OnError", "Pool", "WindowFailure", "WindowImages", "Work", "read_windows", "run", "windows"]

OnError = Literal["raise", "skip"]

LINGER = 0.8
"""Seconds that an interrupted run waits for the threads of each of its two pools."""

_Image = tuple[Window, Codes, NDArray[np.bool_]]
"""A window, what the network sees in it (S x S x 3), and which of its pixels are valid (S x S)."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, kw_only=True)
class WindowFailure:
    """A window that could not be read or predicted.

    Attributes:
        date: Index of the date.
        window: Its number.
        core: The pixels that have no result for it.
        cause: The message of the error.
    """

    date: int
    window: int
    core: Box
    cause: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockMap:
    """The map of one block.

    Attributes:
        date: Index of the date.
        block: Which block.
        codes: Codes of the probabilities (P x h x w), a plane for each expression; for a picture the probabilities.
        failures: Its own windows that failed.
    """

    date: int
    block: Block
    codes: NDArray[Any]
    failures: tuple[WindowFailure, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What is to be predicted from a source.

    Attributes:
        source: The pixels.
        grid: Windows and cores over them.
        expressions: What the network is given (P).
        window_numbers: The windows to predict; None for all.
        todo: Date and number of the blocks that are wanted; None for all.
        seam: How windows are joined.
        batch: Windows that are given to the network at once.
        on_error: "raise" stops at the first failure, "skip" notes it and goes on.
    """

    source: PixelSource
    grid: Grid
    expressions: tuple[str, ...]
    window_numbers: NDArray[np.int64] | None = None
    todo: frozenset[tuple[int, int]] | None = None
    seam: Seam = "paste"
    batch: int = 1
    on_error: OnError = "raise"

    @property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks with windows to predict, in plan order."""
        if self.window_numbers is None:
            rows, cols = self.grid.blocks
            return tuple(range(rows * cols))
        return tuple(int(index) for index in self.grid.blocks_of(self.window_numbers))

    @property
    def size(self) -> int:
        """Number of windows to predict, over all dates."""
        if self.todo is not None:
            return sum(len(self.own(self.grid.block_at(index))) for _, index in self.todo)
        windows = len(self.grid) if self.window_numbers is None else len(self.window_numbers)
        return windows * len(self.source.dates)

    def own(self, block: Block) -> tuple[Window, ...]:
        """The windows to predict whose cores belong to a block."""
        chosen = self.chosen
        windows = self.grid.owners(block.core)
        return tuple(window for window in windows if chosen is None or window.index in chosen)

    def counted(self, windows: Iterable[Window], date: int) -> set[int]:
        """Numbers of the windows that belong to wanted blocks. The others are predicted only for their neighbours."""
        return {
            window.index for window in windows if self.todo is None or (date, self.grid.block_of(window)) in self.todo
        }

    @cached_property
    def chosen(self) -> frozenset[int] | None:
        """The windows to predict as a set; None for all."""
        return None if self.window_numbers is None else frozenset(self.window_numbers.tolist())


def run(
    work: Work,
    predict: Predict,
    finish: Callable[[BlockMap], Out],
    *,
    readers: int = 2,
    progress: Callable[[int], object] = int,
) -> Iterator[Out]:
    """Predict block by block, and yield what `finish` returns for each block, in plan order.

    Args:
        work: What is to be predicted.
        predict: The model.
        finish: Called with each finished block, in another thread.
        readers: Number of threads that read, and of threads that finish. With 0 the caller's thread does all.
        progress: Called with the number of windows done since its last call.

    Raises:
        ReadError: A read failed, with on_error="raise".
    """

    def finished(part: tuple[BlockMap, dict[int, Codes | None]]) -> Out:
        found, answers = part
        core, count = found.block.core, len(work.expressions)
        codes = stitch(work.grid, core, answers, prompts=count, seam=work.seam)
        return finish(replace(found, codes=codes))

    with Pool(readers) as reading, Pool(readers) as finishing:
        yield from finishing.map(finished, _predict_blocks(work, predict, reading, progress))


def windows(work: Work, predict: Predict, date: int, block: Block) -> dict[int, Codes]:
    """Predict the windows of one block: codes (P x S x S) by window number. Windows without data are left out.

    Raises:
        ReadError: A read failed.
    """
    work = replace(work, on_error="raise")
    read = read_windows(work, WindowImages(date=date, block=block, windows=work.own(block)))
    return {
        window.index: codes for window, codes, _ in _predict_windows(work, predict, read.images) if codes is not None
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowImages:
    """Windows that are read together for a block.

    Attributes:
        date: Index of the date.
        block: Which block.
        windows: The windows to read.
        last: Whether these are the last windows that the block needs.
        images: After reading: each window with valid pixels, its image, and which of its pixels are valid.
        failed: After reading: the windows that could not be read, and the causes.
    """

    date: int
    block: Block
    windows: tuple[Window, ...]
    last: bool = True
    images: tuple[_Image, ...] = ()
    failed: tuple[tuple[Window, str], ...] = ()


def _predict_blocks(
    work: Work, predict: Predict, reading: "Pool", progress: Callable[[int], object]
) -> Iterator[tuple[BlockMap, dict[int, Codes | None]]]:
    """Each block, still without codes, with the codes of the windows it needs by number; None for failed windows."""
    kept: dict[int, Codes | None] = {}  # answers that this block and others still to come need
    causes: dict[int, str] = {}
    until: dict[int, list[int]] = {}  # blocks, and the windows that none after them needs
    date = 0
    for read in reading.map(partial(read_windows, work), _to_read(work), eager=True):
        block = read.block
        if read.date != date:
            kept, causes, until, date = {}, {}, {}, read.date
        for window in read.windows:
            until.setdefault(_last_block(work.grid, window, work.seam), []).append(window.index)
        for window, cause in read.failed:
            kept[window.index], causes[window.index] = None, cause
        counted = work.counted(read.windows, date)
        for window, codes, cause in _predict_windows(work, predict, read.images):
            kept[window.index] = codes
            if cause:
                causes[window.index] = cause
            if window.index in counted:
                counted.remove(window.index)
                progress(1)
        progress(len(counted))  # those without data
        if not read.last:
            continue
        own = work.own(block)
        failures = tuple(
            WindowFailure(date=date, window=window.index, core=window.core, cause=causes[window.index])
            for window in own
            if window.index in causes
        )
        nothing = np.zeros((0, 0, 0), np.uint8)
        yield (
            BlockMap(date=date, block=block, codes=nothing, failures=failures),
            dict(kept),
        )
        for last in [last for last in until if last <= block.index]:
            for index in until.pop(last):
                kept.pop(index, None)


def _to_read(work: Work) -> Iterator[WindowImages]:
    """For each date and block, the windows that no earlier block has read.

    The first read is a single row of windows, so that prediction can start early.
    """
    chosen, waiting = work.chosen, True
    for date in range(len(work.source.dates)):
        asked = np.zeros(len(work.grid), np.bool_)
        for index in work.blocks:
            if work.todo is not None and (date, index) not in work.todo:
                continue
            block = work.grid.block_at(index)
            windows = tuple(
                window
                for window in needed(work.grid, block.core, work.seam)
                if not asked[window.index] and (chosen is None or window.index in chosen)
            )
            asked[[window.index for window in windows]] = True
            if waiting:
                *rows, windows = _rows_of_windows(windows)
                for row in rows:
                    yield WindowImages(date=date, block=block, windows=row, last=False)
            waiting = waiting and not windows
            yield WindowImages(date=date, block=block, windows=windows)


def _rows_of_windows(windows: tuple[Window, ...]) -> list[tuple[Window, ...]]:
    """Windows grouped by row; one empty row where there are none."""
    return [tuple(row) for _, row in groupby(windows, attrgetter("row"))] or [()]


def _last_block(grid: Grid, window: Window, seam: Seam) -> int:
    """The last block that needs a window."""
    box = window.core if seam == "paste" else window.box
    height, width = grid.shape
    corner = Box(
        top=min(box.bottom, height) - 1,
        left=min(box.right, width) - 1,
        bottom=min(box.bottom, height),
        right=min(box.right, width),
    )
    return grid.block_of(grid.owners(corner)[0])


def read_windows(work: Work, part: WindowImages) -> WindowImages:
    """Read the images of some windows.

    Raises:
        ReadError: A read failed, with on_error="raise".
    """
    windows = part.windows
    if not windows:
        return part
    region = reduce(Box.hull, (window.box for window in windows)).common(work.grid.raster)
    try:
        rgb, valid = work.source.read(region or work.grid.raster, part.date)
    except ReadError as error:
        if work.on_error == "raise":
            raise
        if len(windows) == 1:
            return replace(part, failed=((windows[0], redact_text(str(error))),))
        # One unreadable place must not fail all windows of the block: read them one by one.
        alone = [read_windows(work, replace(part, windows=(window,))) for window in windows]
        return replace(
            part,
            images=tuple(chain.from_iterable(one.images for one in alone)),
            failed=tuple(chain.from_iterable(one.failed for one in alone)),
        )
    images = ((window, *cut_window(rgb, valid, region or work.grid.raster, window.box)) for window in windows)
    return replace(part, images=tuple(image for image in images if image[2].any()))


def _predict_windows(
    work: Work, predict: Predict, images: Sequence[_Image]
) -> Iterator[tuple[Window, Codes | None, str]]:
    for start in range(0, len(images), work.batch):
        part = images[start : start + work.batch]
        try:
            batch = np.stack([image for _, image, _ in part]) if len(part) > 1 else part[0][1][None]
            codes = predicted_codes(predict, batch, work.expressions)
        except PredictorError:  # a fault of the predictor, not of a window
            raise
        except (RemoteSAMError, RuntimeError, MemoryError) as error:
            if work.on_error == "raise":
                raise
            if len(part) > 1:  # find the one that fails
                for one in part:
                    yield from _predict_windows(work, predict, [one])
            else:
                yield part[0][0], None, redact_text(f"{type(error).__name__}: {error}")
            continue
        for (window, _, known), answer in zip(part, codes, strict=True):
            yield window, mark(answer, known), ""


class Pool:
    """A few threads that work a limited number of tasks ahead and give results in order.

    When work is interrupted (Ctrl-C, an error), waiting tasks are dropped and the threads are joined. A thread that
    still waits for a server is left alone after a moment: it ends with its read, and its result is dropped.

    Args:
        threads: Number of threads. With 0 the caller's thread does the work.
    """

    def __init__(self, threads: int) -> None:
        self._ahead = threads
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._broken = Event()
        # Not the executor of the standard library: it would keep a script that was broken off from ending.
        self._threads = [
            Thread(target=_serve_tasks, args=(self._tasks, self._broken), name="remotesam", daemon=True)
            for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def map(self, work: Callable[[In], Out], items: Iterable[In], *, eager: bool = False) -> Iterator[Out]:
        """Yield `work(item)` for each item, in order.

        Args:
            work: Called in a thread.
            items: The items.
            eager: Whether to start as many tasks as possible before a result is yielded. Otherwise a finished result is
                yielded before the next item is taken.
        """
        if not self._threads:
            yield from map(work, items)
            return

        def begin(item: In) -> Future[Out]:
            future: Future[Out] = Future()
            self._tasks.put(partial(_fulfil_task, future, work, item))
            return future

        begun, waiting = map(begin, items), deque[Future[Out]]()
        more = True
        while more or waiting:
            while more and len(waiting) <= self._ahead:
                if waiting and waiting[0].done() and not eager:
                    break
                future = next(begun, None)
                more = future is not None
                if future is not None:
                    waiting.append(future)
            if waiting:
                yield waiting.popleft().result()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        self._broken.set()
        for _ in self._threads:
            self._tasks.put(None)
        until = time.monotonic() + LINGER
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def _serve_tasks(tasks: "SimpleQueue[Callable[[], None] | None]", broken: Event) -> None:
    while (task := tasks.get()) is not None:
        if not broken.is_set():
            task()
        del task  # and with it what it holds, while waiting for the next


def _fulfil_task(future: "Future[Out]", work: Callable[[In], Out], item: In) -> None:
    try:
        result = work(item)
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the result
        future.set_exception(error)
    else:
        future.set_result(result)
