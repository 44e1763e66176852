"""The exam of the built-in model: scenes it was never trained on, each figure beside a trivial one.

`python benchmarks/exam_tiny.py FOLDER` prints the table of the model card.
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from remotesam_geo.learning.synthetic import CLASSES, SENSORS, Expression, Sensor, WorldScene, scene
from remotesam_geo.learning.training import tiny
from remotesam_geo.model import RemoteSAMModel
from remotesam_geo.model.inference import InferenceEngine
from remotesam_geo.model.processor import RemoteSAMProcessor
from remotesam_geo.tasks.objects import detect

__all__ = ["Exam", "examine", "pixel_classifier", "table"]

KINDS = ("class", "colour", "size", "position", "relation")
FILTER = {"min_score": 0.8, "min_area": 40}
"""The default filter of detections: least mean probability, least number of pixels."""


@dataclass
class Exam:
    """Scores as they come in.

    Attributes:
        iou: By kind of expression, the IoU of each answer.
        every: The IoU of "every instance of the class" for the same expressions.
        all_pixels: The IoU of answering with the whole picture.
        shuffled: The IoU of the answer to another class's expression.
        by_class: By class, the IoU of class prompts.
        empty: By kind of denial, whether each answer was empty.
        boxes: Found, true and matched boxes, without and with the default filter, and with one
            component for all of the truth's mask (what touching objects allow at best).
        across: Longer side of each object, in pixels.
        fewest: By kind, the least number of objects of the class in a picture it was asked of.
    """

    iou: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    every: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    all_pixels: list[float] = field(default_factory=list)
    shuffled: list[float] = field(default_factory=list)
    by_class: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    empty: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    boxes: dict[str, NDArray[np.int64]] = field(default_factory=lambda: defaultdict(lambda: np.zeros(3, np.int64)))
    across: list[float] = field(default_factory=list)
    fewest: dict[str, int] = field(default_factory=dict)

    def scores(self) -> dict[str, float]:
        """The figures of the table."""
        found = {f"{kind} mIoU": _mean_or_nan(self.iou[kind]) for kind in KINDS}
        found |= {f"{kind} mIoU, every instance": _mean_or_nan(self.every[kind]) for kind in KINDS}
        found |= {f"class mIoU, {name}": _mean_or_nan(v) for name, v in sorted(self.by_class.items())}
        found |= {f"{kind} answered empty": _mean_or_nan(v) for kind, v in sorted(self.empty.items())}
        found["class mIoU, whole picture"] = _mean_or_nan(self.all_pixels)
        found["class mIoU, shuffled prompts"] = _mean_or_nan(self.shuffled)
        for name, (answered, true, matched) in self.boxes.items():
            found[f"detection F1, {name}"] = 2 * float(matched) / max(1, int(answered + true))
        found["fewest objects"] = min((self.fewest[k] for k in KINDS[1:] if k in self.fewest), default=0)
        found["objects under 24 px"] = _mean_or_nan([float(a < 24) for a in self.across])
        return found


@dataclass(frozen=True, kw_only=True)
class _Asking:
    engine: InferenceEngine
    processor: RemoteSAMProcessor


def examine(
    model: RemoteSAMModel,
    processor: RemoteSAMProcessor,
    *,
    scenes: int = 500,
    first_seed: int = tiny.EXAM_SEEDS,
    sensor: Sensor = SENSORS["standard"],
    questions: int = 3,
    progress: bool = False,
) -> Exam:
    """Ask a model about scenes it has never seen.

    Args:
        model: The network.
        processor: Its processor.
        scenes: How many.
        first_seed: Where their seeds begin.
        sensor: What takes the pictures.
        questions: Expressions of each kind a picture, at most.
        progress: Say on the standard error output how far it is.
    """
    asking = _Asking(engine=InferenceEngine(model.eval()), processor=processor)
    exam = Exam()
    for seed in range(first_seed, first_seed + scenes):
        view = scene(seed, sensor=sensor)
        exam.across += [one.across for one in view.instances]
        asked = list(_exam_questions(view, random.Random(seed), questions))  # noqa: S311
        for (kind, expression), chance in zip(
            asked, _exam_probabilities(asking, view, [e.text for _, e in asked]), strict=True
        ):
            answer = chance > 0.5
            if kind not in KINDS:
                exam.empty[kind].append(float(not answer.any()))
                continue
            truth, every = expression.mask(view), view.mask(expression.every)
            exam.iou[kind].append(_iou_of_masks(answer, truth))
            exam.every[kind].append(_iou_of_masks(every, truth))
            count = len(expression.every)
            exam.fewest[kind] = min(exam.fewest.get(kind, count), count)
            if kind == "class":
                exam.by_class[expression.name].append(exam.iou[kind][-1])
                exam.all_pixels.append(float(truth.mean()))
                _count_boxes(exam, chance, view, expression.name)
        _shuffled_classes(exam, asking, view)
        if progress and (seed + 1) % 50 == 0:
            print(seed + 1 - first_seed, "scenes", file=sys.stderr)
    return exam


def _exam_questions(view: WorldScene, rng: random.Random, most: int) -> Iterator[tuple[str, Expression]]:
    """Every class that is there; of the other kinds so many at most."""
    offered = tiny.offered(view, rng)
    for kind in sorted(offered):
        rng.shuffle(offered[kind])
        for expression in offered[kind][: None if kind == "class" else most]:
            yield kind, expression


def _exam_probabilities(asking: _Asking, view: WorldScene, texts: Sequence[str]) -> NDArray[np.float32]:
    """Probabilities, expressions x S x S."""
    tokens = asking.processor.tokenize(list(texts))
    text = asking.engine.encode(tokens.input_ids, tokens.attention_mask)
    seen = asking.engine.look(torch.from_numpy(view.rgb[None]))
    chance: NDArray[np.float32] = asking.engine.ask(seen, text, tokens.attention_mask).numpy()
    return chance


def _shuffled_classes(exam: Exam, asking: _Asking, view: WorldScene) -> None:
    """Ask for one class and score against another that is there."""
    names = sorted({one.name for one in view.instances})
    if len(names) < 2:
        return
    others = [names[i - 1] for i in range(len(names))]
    texts = [f"{name} in the image" for name in others]
    for name, chance in zip(names, _exam_probabilities(asking, view, texts), strict=True):
        exam.shuffled.append(_iou_of_masks(chance > 0.5, view.mask(name)))


def _iou_of_masks(answer: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    union = int((answer | truth).sum())
    return 1.0 if union == 0 else int((answer & truth).sum()) / union


def _mean_or_nan(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _count_boxes(exam: Exam, chance: NDArray[np.float32], view: WorldScene, name: str) -> None:
    """Match found boxes with true ones of at least as many pixels as the filter asks for."""
    true = [one.box for one in view.of(name) if one.pixels >= FILTER["min_area"]]
    ignored = [one.box for one in view.of(name) if one.pixels < FILTER["min_area"]]
    perfect = view.mask(name).astype(np.float32)
    for label, found in (
        ("no filter", detect(chance)),
        ("default filter", detect(chance, min_score=0.8, min_area=40)),
        ("true masks", detect(perfect, min_area=40)),
    ):
        order = np.argsort(-found.score, kind="stable")
        left, matched, answered = list(true), 0, 0
        for box in found.boxes[order].tolist():
            best = max(left, key=lambda other: _box_iou(box, other), default=None)
            if best is not None and _box_iou(box, best) >= 0.5:
                left.remove(best)
                matched += 1
            elif any(_box_iou(box, other) >= 0.5 for other in ignored):
                continue  # a small object found is neither right nor wrong
            answered += 1
        exam.boxes[label] = exam.boxes[label] + (answered, len(true), matched)


def _box_iou(one: Sequence[int], other: Sequence[int]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other)]
    return width * height / (sum(areas) - width * height)


def pixel_classifier(*, train: int = 60, test: int = 100, sensor: Sensor = SENSORS["standard"]) -> float:
    """Class mIoU of a logistic regression on each pixel's colour and its 7 x 7 surroundings.

    An exam that it passes would ask for no shape at all.
    """
    generator = np.random.default_rng(0)
    features, targets = [], []
    for seed in range(tiny.TRAINING_SEEDS, tiny.TRAINING_SEEDS + train):
        view = scene(seed, sensor=sensor)
        classes = tiny.plane(view, "class").ravel()
        chosen = generator.choice(classes.size, 4000, replace=False)
        features.append(_pixel_surroundings(view.rgb).reshape(classes.size, -1)[chosen])
        targets.append(classes[chosen])
    x = torch.from_numpy(np.concatenate(features))
    y = torch.from_numpy(np.concatenate(targets)).long()
    mean, std = x.mean(0), x.std(0)
    # Most pixels are ground; without weights the answer would be that all of them are.
    rarity = torch.bincount(y, minlength=1 + len(CLASSES)).clamp(min=1).float() ** -0.5
    weights = torch.zeros(x.shape[1] + 1, 1 + len(CLASSES), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=150, line_search_fn="strong_wolfe")
    x = (x - mean) / std

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ weights[:-1] + weights[-1], y, rarity)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = []
    for seed in range(tiny.EXAM_SEEDS, tiny.EXAM_SEEDS + test):
        view = scene(seed, sensor=sensor)
        rows = (torch.from_numpy(_pixel_surroundings(view.rgb)).flatten(0, 1) - mean) / std
        answer = (rows @ weights[:-1] + weights[-1]).argmax(1).numpy().reshape(view.labels.shape)
        truth = tiny.plane(view, "class")
        found += [_iou_of_masks(answer == k, truth == k) for k in np.unique(truth) if k]
    return _mean_or_nan(found)


def _pixel_surroundings(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour, and mean and deviation of the 7 x 7 pixels round it: H x W x 9."""
    x = rgb.astype(np.float32) / 255
    mean = cv2.blur(x, (7, 7))
    square = cv2.blur(x * x, (7, 7))
    return np.concatenate([x, mean, np.sqrt(np.maximum(square - mean * mean, 0))], 2)


def table(figures: dict[str, Any]) -> str:
    """The model card's table.

    Args:
        figures: "scenes" (their number), "exam" and "heldout sensor" as `Exam.scores` gives them, and
            "pixel classifier".
    """
    scores, heldout = figures["exam"], figures["heldout sensor"]
    rows: list[tuple[str, float, float | None, str]] = [
        (
            "class prompts, mIoU",
            scores["class mIoU"],
            scores["class mIoU, whole picture"],
            "the whole picture",
        ),
        *(
            (
                f"{kind}, mIoU",
                scores[f"{kind} mIoU"],
                scores[f"{kind} mIoU, every instance"],
                "every instance of the class, with all other words ignored",
            )
            for kind in KINDS[1:]
        ),
        *(
            (f"{kind} answered empty", scores[f"{kind} answered empty"], 0.0, "never empty")
            for kind in ("absent", "absent colour", "unknown")
        ),
        (
            "detection F1 at IoU 0.5",
            scores["detection F1, default filter"],
            scores["detection F1, no filter"],
            "tiny without the filter (mean probability 0.8, 40 px)",
        ),
        (
            "class prompts, another sensor",
            heldout["class mIoU"],
            heldout["class mIoU, whole picture"],
            "the whole picture",
        ),
        (
            "colour, another sensor",
            heldout["colour mIoU"],
            heldout["colour mIoU, every instance"],
            "every instance of the class",
        ),
    ]
    lines = [f"{figures['scenes']} scenes of seeds never trained on:", ""]
    lines += ["| | tiny | trivial | which is |", "| --- | --- | --- | --- |"]
    lines += [f"| {title} | {own:.2f} | {other:.2f} | {what} |" for title, own, other, what in rows]
    lines += [
        "",
        "| how hard the exam is | |",
        "| --- | --- |",
        f"| class mIoU of a logistic regression on each pixel | {figures['pixel classifier']:.2f} |",
        (f"| class mIoU of tiny asked for another class | {scores['class mIoU, shuffled prompts']:.2f} |"),
        (f"| detection F1 of the true masks (touching objects are one) | {scores['detection F1, true masks']:.2f} |"),
        f"| share of objects under 24 px | {scores['objects under 24 px']:.2f} |",
        (f"| fewest objects of the class in a colour, size or position question | {scores['fewest objects']:.0f} |"),
        "",
        "| class | mIoU |",
        "| --- | --- |",
        *(f"| {name} | {scores[f'class mIoU, {name}']:.2f} |" for name in CLASSES),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Examine a model folder and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", help='a model folder, or "tiny"')
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--questions", type=int, default=3, help="of each kind a scene, at most")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args(arguments)
    model = RemoteSAMModel.from_pretrained(options.folder).float()
    processor = tiny.processor()
    exam = examine(model, processor, scenes=options.scenes, questions=options.questions, progress=True)
    scores = exam.scores()
    heldout = examine(model, processor, scenes=max(1, options.scenes // 5), sensor=SENSORS["heldout"]).scores()
    figures = {
        "scenes": options.scenes,
        "exam": scores,
        "heldout sensor": heldout,
        "pixel classifier": pixel_classifier(),
    }
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
