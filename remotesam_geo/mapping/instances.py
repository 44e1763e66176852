"""Objects of a network that tells them apart: predicted window by window, joined where neighbouring windows agree.

An object that lies across windows is seen by each of them in part. Two parts are one object where their masks agree in
the strip that both windows see. Which windows come first, and how they are grouped, makes no difference.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray

from remotesam_geo.errors import RemoteSAMError
from remotesam_geo.geo.box import Box
from remotesam_geo.net.redact import redact_text
from remotesam_geo.predictors.protocol import Instances, PredictInstances, PredictorError, predicted_instances
from remotesam_geo.tasks import FULL, encode, merge, merge_hulls
from remotesam_geo.words import Prompt, threshold_steps

from .collect import Survey, chosen_features
from .executor import Pool, WindowFailure, WindowImages, Work, read_windows
from .feature_options import FeatureOptions
from .grid import Window
from .polygons import Features, extract

__all__ = ["survey_instances"]

AGREE = 0.5
"""Two masks are of one object where their intersection over union exceeds this, in the strip that both windows see."""

SLIVER = 32
"""A part no thicker than a window's side by this (but 2 pixels), along the window's border, is a sliver: a network sees
little of it. It belongs to the object of another window that covers `AGREE` of it."""


def survey_instances(
    work: Work,
    predict: PredictInstances,
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    *,
    options: FeatureOptions,
    progress: Callable[[int], object] = int,
) -> Survey:
    """Find the objects of all prompts.

    Args:
        work: What is to be predicted.
        predict: The predictor's method `instances`.
        prompts: The prompts. Objects of all expressions of a prompt are joined as those of several windows are.
        members: Which of the expressions belong to each prompt.
        options: Filters and output geometry.
        progress: Called with the number of windows done since its last call.
    """
    failures: list[WindowFailure] = []
    parts: dict[tuple[int, int], list[Features]] = defaultdict(list)
    joiners: dict[int, _Joiner] = {}
    valid = False
    with Pool(2) as reading:
        for images in reading.map(partial(read_windows, work), _rows_of_blocks(work)):
            joiner = joiners.setdefault(images.date, _Joiner())
            for window, seen, cause in _predict_each(work, predict, images):
                if seen is None:
                    failures.append(WindowFailure(date=images.date, window=window.index, core=window.core, cause=cause))
                    continue
                joiner.add(window, _seen_objects(seen, prompts, members, window, work.grid.raster))
            valid |= bool(images.images)
            progress(len(images.windows))
            begin = work.grid.owners(images.block.core)[0].box.top  # no window to come begins above
            for prompt, features in joiner.finished(begin, options):
                parts[images.date, prompt].append(features)
    for date, joiner in joiners.items():
        for prompt, features in joiner.finished(None, options):
            parts[date, prompt].append(features)
    found, dropped = chosen_features(parts, work.source.dates, prompts, options, work.grid.shape)
    return Survey(found=found, dropped=dropped, failures=tuple(failures), valid=valid)


def _rows_of_blocks(work: Work) -> Iterator[WindowImages]:
    """The windows of each block, date by date."""
    for date in range(len(work.source.dates)):
        for index in work.blocks:
            block = work.grid.block_at(index)
            if windows := work.own(block):
                yield WindowImages(date=date, block=block, windows=windows)


@dataclass(frozen=True, kw_only=True, eq=False)
class _SeenObject:
    """What one window shows of an object.

    Attributes:
        prompt: Number of its prompt.
        box: Around its mask, in pixels of the raster.
        bits: Its mask in the box, eight pixels a byte.
        code: Its probability, as a code.
        sliver: Whether it is a thin part along the window's border.
    """

    prompt: int
    box: Box
    bits: NDArray[np.uint8]
    code: int
    sliver: bool

    def mask(self, within: Box | None = None) -> NDArray[np.bool_]:
        """Its mask, in its box or in another one."""
        height, width = self.box.shape
        own = np.unpackbits(self.bits, count=height * width).reshape(height, width).astype(np.bool_)
        if within is None:
            return own
        whole = np.zeros(within.shape, np.bool_)
        if (common := self.box.common(within)) is not None:
            whole[common.within(within)] = own[common.within(self.box)]
        return whole


def _predict_each(
    work: Work, predict: PredictInstances, read: WindowImages
) -> Iterator[tuple[Window, tuple[list[Instances], NDArray[np.bool_]] | None, str]]:
    """Objects of each window with its valid pixels; None with the cause for windows that failed."""
    for window, cause in read.failed:
        yield window, None, cause
    for window, image, known in read.images:
        try:
            (found,) = predicted_instances(predict, image[None], work.expressions)
        except PredictorError:  # a fault of the predictor, not of a window
            raise
        except (RemoteSAMError, RuntimeError, MemoryError) as error:
            if work.on_error == "raise":
                raise
            yield window, None, redact_text(f"{type(error).__name__}: {error}")
            continue
        yield window, (found, known), ""


def _seen_objects(
    found: tuple[list[Instances], NDArray[np.bool_]],
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    window: Window,
    raster: Box,
) -> Iterator[_SeenObject]:
    """The objects of a window that are probable enough, without pixels that have no data or lie beyond the raster."""
    by_expression, known = found
    inside = window.box.common(raster)
    if inside is None:
        return
    rows, columns = inside.within(window.box)
    for number, (prompt, own) in enumerate(zip(prompts, members, strict=True)):
        least = threshold_steps(prompt.threshold)
        for expression in own:
            masks, scores = by_expression[expression]
            for mask, code in zip(masks, encode(scores).tolist(), strict=True):
                if code <= least:
                    continue
                seen = (mask & known)[rows, columns]
                lines, across = seen.any(1).nonzero()[0], seen.any(0).nonzero()[0]
                if not len(lines):
                    continue
                cut = seen[lines[0] : lines[-1] + 1, across[0] : across[-1] + 1]
                top, left = inside.top + int(lines[0]), inside.left + int(across[0])
                box = Box(top=top, left=left, bottom=top + cut.shape[0], right=left + cut.shape[1])
                yield _SeenObject(
                    prompt=number, box=box, bits=np.packbits(cut), code=code, sliver=_is_sliver(box, window.box)
                )


def _is_sliver(box: Box, window: Box) -> bool:
    thin = max(2, (window.bottom - window.top) // SLIVER)
    beside = min(box.bottom - window.top, window.bottom - box.top, box.right - window.left, window.right - box.left)
    return beside <= thin


@dataclass(eq=False)
class _Joiner:
    """Joins the objects of windows of one date as the windows come, and lets go of those that are complete."""

    _objects: list[_SeenObject | None] = field(default_factory=list)
    _parent: list[int] = field(default_factory=list)
    _windows: dict[int, tuple[Window, list[int]]] = field(default_factory=dict)

    def add(self, window: Window, objects: Iterator[_SeenObject]) -> None:
        """Take the objects of a window, and join them to those of windows that it overlaps."""
        numbers = []
        for seen in objects:
            numbers.append(len(self._objects))
            self._objects.append(seen)
            self._parent.append(numbers[-1])
        self._join(numbers, numbers, window.box)
        for other, others in self._windows.values():
            if (strip := other.box.common(window.box)) is not None:
                self._join(numbers, others, strip)
        self._windows[window.index] = window, numbers

    def finished(self, top: int | None, options: FeatureOptions) -> Iterator[tuple[int, Features]]:
        """Give the objects that no further window can reach: those of windows that end above a row of pixels.

        Args:
            top: The row where the windows to come begin; None for all objects.
            options: Output geometry.

        Yields:
            The number of the prompt, and the object as a feature.
        """
        done = {index for index, (window, _) in self._windows.items() if top is None or window.box.bottom <= top}
        waiting = {
            self._root(number)
            for index, (_, numbers) in self._windows.items()
            if index not in done
            for number in numbers
        }
        groups: dict[int, list[_SeenObject]] = defaultdict(list)
        for index in sorted(done):
            keep = []
            for number in self._windows[index][1]:
                seen = self._objects[number]
                if self._root(number) in waiting:
                    keep.append(number)
                elif seen is not None:
                    groups[self._root(number)].append(seen)
                    self._objects[number] = None
            self._windows[index][1][:] = keep
            if not keep:
                del self._windows[index]
        for group in groups.values():
            yield group[0].prompt, _joined_object(group, options)

    def _join(self, numbers: Sequence[int], others: Sequence[int], strip: Box) -> None:
        for number in numbers:
            one = self._objects[number]
            for rival in others:
                other = self._objects[rival]
                if one is None or other is None or one is other or one.prompt != other.prompt:
                    continue
                if _agree(one, other, strip):
                    first, second = sorted((self._root(number), self._root(rival)))
                    self._parent[second] = first

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number


def _agree(one: _SeenObject, other: _SeenObject, strip: Box) -> bool:
    """Whether two masks are of one object, by the pixels of a strip."""
    if one.box.common(strip) is None or other.box.common(strip) is None or one.box.common(other.box) is None:
        return False
    hull = one.box.hull(other.box).common(strip)
    if hull is None:
        return False
    first, second = one.mask(hull), other.mask(hull)
    both = np.count_nonzero(first & second)
    alike = both > AGREE * np.count_nonzero(first | second)
    return bool(
        alike
        or (one.sliver and both > AGREE * np.count_nonzero(first))
        or (other.sliver and both > AGREE * np.count_nonzero(second))
    )


def _joined_object(group: Sequence[_SeenObject], options: FeatureOptions) -> Features:
    """What several windows show of an object as one feature: each pixel has the largest probability of any window."""
    box = group[0].box
    for seen in group[1:]:
        box = box.hull(seen.box)
    codes = np.zeros(box.shape, np.uint8)
    for seen in group:
        place = codes[seen.box.within(box)]
        np.maximum(place, np.uint8(min(seen.code, FULL)), out=place, where=seen.mask())
    found = extract(codes, box, threshold=0, outline=options.drawn).features
    if len(found) == 1:
        return found
    one = np.zeros(len(found), np.int64)
    return Features(
        table=merge([found.table], one, 1),
        polygons=None if found.polygons is None else np.array([shapely.union_all(found.polygons)], object),
        hulls=None if found.hulls is None else merge_hulls([found.hulls], one, 1),
    )
