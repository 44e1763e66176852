"""The work itself: read ahead, run the network, stitch, and hand each finished block on, overlapping.

Blocks are read by a few threads ahead of the network, which runs in the caller's thread (CUDA graphs are bound to
one), and finished blocks are worked on by other threads. Everything is bounded, and results come in plan order.
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

from .grid import Block, Grid, Window
from .source import PixelSource
from .stitch import Codes, Seam, cut_window, mark, needed, stitch

__all__ = ["BlockMap", "OnError", "Pool", "Predict", "WindowFailure", "Work", "run", "windows"]

Predict = Callable[[NDArray[np.uint8], Sequence[str]], Codes]
"""A model: pictures (B x S x S x 3) and P expressions to codes (B x P x S x S)."""

OnError = Literal["raise", "skip"]

LINGER = 0.8
"""Seconds that work which is broken off waits for the threads of a pool; there are two."""

_Image = tuple[Window, Codes, NDArray[np.bool_]]
"""A window, what the network sees in it (S x S x 3), and which of its pixels are valid (S x S)."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, kw_only=True)
class WindowFailure:
    """A window that could not be answered.

    Attributes:
        date: Which time of the scene.
        window: Its number.
        core: What is missing for it.
        cause: What was raised, in words.
    """

    date: int
    window: int
    core: Box
    cause: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockMap:
    """The map of one block.

    Attributes:
        date: Which time of the scene.
        block: Which block.
        codes: Its codes (P x h x w), one expression a plane. A picture's are probabilities.
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
        todo: SceneDate and number of the blocks still to answer; None for all.
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
        """The blocks that hold windows to predict, in plan order."""
        if self.window_numbers is None:
            rows, cols = self.grid.blocks
            return tuple(range(rows * cols))
        return tuple(int(index) for index in self.grid.blocks_of(self.window_numbers))

    @property
    def size(self) -> int:
        """How many windows there are to predict, over all times."""
        if self.todo is not None:
            return sum(len(self.own(self.grid.block_at(index))) for _, index in self.todo)
        windows = len(self.grid) if self.window_numbers is None else len(self.window_numbers)
        return windows * len(self.source.dates)

    def own(self, block: Block) -> tuple[Window, ...]:
        """The windows to predict that a block answers for."""
        chosen = self.chosen
        windows = self.grid.owners(block.core)
        return tuple(window for window in windows if chosen is None or window.index in chosen)

    def counted(self, windows: Iterable[Window], date: int) -> set[int]:
        """Those of some windows that belong to a block to answer; others are predicted for their neighbours' sake."""
        return {
            window.index for window in windows if self.todo is None or (date, self.grid.block_of(window)) in self.todo
        }

    @cached_property
    def chosen(self) -> frozenset[int] | None:
        """The windows to predict, to look them up; None for all."""
        return None if self.window_numbers is None else frozenset(self.window_numbers.tolist())


def run(
    work: Work,
    predict: Predict,
    finish: Callable[[BlockMap], Out],
    *,
    readers: int = 2,
    progress: Callable[[int], object] = int,
) -> Iterator[Out]:
    """Answer block by block, and give what `finish` makes of each, in plan order.

    Args:
        work: What is to be predicted.
        predict: The model.
        finish: Works on each finished block, in another thread.
        readers: Threads that read ahead, and as many that finish; with none all is done in the caller's.
        progress: Told how many windows were done, as they are; by default nobody is.

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
    """The marked codes (P x S x S) of a block's own windows, by number; windows without data are left out.

    Raises:
        ReadError: A read failed.
    """
    work = replace(work, on_error="raise")
    read = _read_windows(work, _BlockWindows(date=date, block=block, windows=work.own(block)))
    return {
        window.index: codes for window, codes, _ in _predict_windows(work, predict, read.images) if codes is not None
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _BlockWindows:
    """Windows that are read together for a block.

    Attributes:
        date: Which time of the scene.
        block: Which block.
        windows: The windows to read.
        last: Whether the block has all that it needs with them.
        images: Once they are read: each window that holds valid pixels, its image, and which of its pixels are valid.
        failed: The windows that could not be read, and why.
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
    """Each block, still without codes, and the results of the windows that it needs; None for those that failed."""
    kept: dict[int, Codes | None] = {}  # answers that this block and others still to come need
    causes: dict[int, str] = {}
    until: dict[int, list[int]] = {}  # blocks, and the windows that none after them needs
    date = 0
    for read in reading.map(partial(_read_windows, work), _to_read(work), eager=True):
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


def _to_read(work: Work) -> Iterator[_BlockWindows]:
    """For each date and block, the windows that no block before it has needed.

    Until the first is done the network waits, so that this one is a row of windows, not a whole block.
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
                    yield _BlockWindows(date=date, block=block, windows=row, last=False)
            waiting = waiting and not windows
            yield _BlockWindows(date=date, block=block, windows=windows)


def _rows_of_windows(windows: tuple[Window, ...]) -> list[tuple[Window, ...]]:
    """Windows row by row; where there are none, one row of none."""
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


def _read_windows(work: Work, part: _BlockWindows) -> _BlockWindows:
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
        # One bad place must not cost all the windows: read one by one.
        alone = [_read_windows(work, replace(part, windows=(window,))) for window in windows]
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
            codes = predict(batch, work.expressions)
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
    """A few threads that work ahead by a bounded number of tasks, and give results in order.

    When work is broken off (Ctrl-C, an error) what waits is dropped and the threads are joined. One that then still
    waits for a server is left after a date: it ends with its read, holds nothing up, and its result is dropped.

    Args:
        threads: How many; none works in the caller's own.
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
        """What `work` makes of each item, in order.

        Args:
            work: What is done in a thread.
            items: What there is to do.
            eager: Whether threads are kept busy before anything is given, where an item costs nothing. Else what is
                done is given before the next item is asked for: whoever keeps it has it before more is begun.
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
