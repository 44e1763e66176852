"""The worst and the best answers as pictures: truth in green, answer in red, both where they agree in yellow."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from remotesam_geo.learning.datasets import Thing

from .answerers import Answerer, resized
from .setting import Setting
from .task_steps import Task, Unit

__all__ = ["Cases"]

SIDE = 640  # pixels of the longer side
GREEN, RED, YELLOW = (60, 220, 60), (240, 60, 60), (250, 220, 60)


@dataclass
class Cases:
    """Draws pictures that are among the worst or the best so far, and takes back those that no longer are.

    Args:
        folder: Of the run; pictures go into `worst` and `best` in it.
        most: How many of each.
    """

    folder: Path
    most: int
    _kept: dict[str, list[tuple[float, int, str]]] = field(default_factory=lambda: {"worst": [], "best": []})

    def offer(
        self,
        task: Task,
        row: dict[str, Any],
        setting: Setting,
        *,
        unit: Unit | None = None,
        asked: Answerer | None = None,
    ) -> None:
        """Judge one picture's evidence, and draw it where it counts; without the unit it was drawn before."""
        quality = task.judge([row], setting).quality
        if not quality:
            return
        value = float(np.mean(list(quality.values())))
        for side, sign in (("worst", -1), ("best", 1)):
            kept = self._kept[side]
            entry = (sign * value, -int(row["position"]), row["key"])  # of equal ones the first
            if len(kept) == self.most and entry <= kept[0]:
                continue
            if unit is not None and asked is not None:
                picture = self._picture(unit, asked, setting)
                picture.save(self._path(side, row["key"]), quality=90)
            if len(kept) < self.most:
                heapq.heappush(kept, entry)
                continue
            *_, gone = heapq.heappushpop(kept, entry)
            self._path(side, gone).unlink(missing_ok=True)

    def _path(self, side: str, key: str) -> Path:
        (self.folder / side).mkdir(parents=True, exist_ok=True)
        return self.folder / side / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', key)[:100]}.jpg"

    def _picture(self, unit: Unit, asked: Answerer, setting: Setting) -> Image.Image:
        rgb = unit.picture.read()
        shape = (rgb.shape[0], rgb.shape[1])
        found, truth = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        texts = []
        for label, expression, mask in _expressions_of_unit(unit, setting):
            (chance,) = asked.answers(rgb, [expression])
            answer = resized(chance, shape) > setting.threshold_of(label)
            if answer.any() or mask.any():
                found |= answer
                truth |= mask
                texts.append(expression)
        scale = SIDE / max(shape)
        size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
        painted = Image.fromarray(_painted_case(rgb, found, truth)).resize(size)
        said = "; ".join(texts)[:100]
        ImageDraw.Draw(painted).text((4, 4), said, fill="white", stroke_width=2, stroke_fill="black")
        return painted


def _expressions_of_unit(unit: Unit, setting: Setting) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    shape = unit.picture.shape
    if unit.example is None:
        for triplet in unit.triplets:
            yield triplet.label, triplet.expression, triplet.mask.pixels()
        return
    own: dict[str, list[Thing]] = {}
    for thing in unit.example.things:
        for expression in thing.expressions:
            yield thing.label, expression, thing.pixels(shape).pixels()
        own.setdefault(thing.label, []).append(thing)
    classes = None if unit.example.classes is None else unit.example.classes.read()
    for label, expressions in setting.classes.items():
        mask = np.zeros(shape, np.bool_)
        for thing in own.get(label, []):
            mask |= thing.pixels(shape).pixels()
        if classes is not None and label in unit.example.classes.names:  # type: ignore[union-attr]
            mask |= classes == unit.example.classes.names.index(label)  # type: ignore[union-attr]
        for expression in expressions:
            yield label, expression, mask


def _painted_case(rgb: NDArray[np.uint8], found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
    painted = rgb.astype(np.float32)
    for where, color in ((truth & ~found, GREEN), (found & ~truth, RED), (found & truth, YELLOW)):
        painted[where] = painted[where] * 0.55 + np.array(color, np.float32) * 0.45
    return painted.round().astype(np.uint8)
