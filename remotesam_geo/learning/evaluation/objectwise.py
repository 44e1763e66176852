"""Tasks that are judged by objects: their boxes, the one box of a description, their number."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.learning.datasets import Example, Thing
from remotesam_geo.tasks import (
    COUNT_CONTOUR_THRESHOLD,
    Detections,
    count_objects,
    detect,
    ground,
)

from .answerers import Chances
from .metrics import CountingScore, DetectionScore, GroundingScore, Scores
from .setting import Setting
from .task_steps import Evidence, PicturePredictor, Row, Unit

__all__ = [
    "ask_counted",
    "ask_described",
    "judge_counting",
    "judge_detection",
    "judge_grounding",
    "objects_of",
    "weigh_counting",
    "weigh_detection",
    "weigh_grounding",
]


def ask_described(unit: Unit, setting: Setting) -> list[str]:  # noqa: ARG001 - as all do
    """What the things of a picture are described as."""
    return [expression for thing in unit.truth.things for expression in thing.expressions]


def ask_counted(unit: Unit, setting: Setting) -> list[str]:
    """The expressions of the classes that are counted in a picture."""
    true = _true_counts(unit.truth, setting)
    return [expression for label, own in setting.classes.items() if label in true for expression in own]


def weigh_detection(unit: Unit, ask: PicturePredictor, setting: Setting, *, oriented: bool = False) -> Row:
    """Boxes found and true of each class, at each threshold."""
    example, contour = unit.truth, ask.contours()
    by_label = {}
    for label in setting.classes:
        chance = ask.of_class(label, setting)
        own = [thing for thing in example.things if thing.label == label]
        by_label[label] = {
            "true": [_thing_corners(thing) if oriented else thing.box for thing in own],
            "difficult": [thing.difficult for thing in own],
            "crowd": [thing.crowd for thing in own],
            "found": {
                str(limit): _found_boxes(
                    objects_of(chance, contour, label, limit, setting, oriented=oriented), oriented
                )
                for limit in (setting.threshold_of(label), *setting.thresholds)
            },
        }
    return {"classes": by_label}


def objects_of(
    chance: Chances,
    contour: NDArray[np.uint8] | None,
    label: str,
    limit: float,
    setting: Setting,
    *,
    oriented: bool = False,
) -> Detections:
    """The objects of a class in its map."""
    return detect(
        chance,
        threshold=limit,
        contour=contour,
        oriented=oriented,
        min_score=setting.min_score,
        min_area=setting.least_area(label),
        suppress=setting.suppress,
    )


def _found_boxes(objects: Detections, oriented: bool) -> Row:
    boxes = objects.corners.round(3) if oriented else objects.boxes
    return {"boxes": boxes.tolist(), "score": objects.score.tolist()}


def _thing_corners(thing: Thing) -> list[tuple[float, float]]:
    if thing.corners is not None:
        return list(thing.corners)
    if thing.mask is not None and thing.mask.area:
        objects = detect(thing.mask.pixels().astype(np.float32), oriented=True, suppress="none")
        if len(objects) == 1:
            return [(float(x), float(y)) for x, y in objects.corners[0]]
    x0, y0, x1, y1 = thing.box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def judge_detection(rows: Sequence[Row], setting: Setting, *, oriented: bool = False) -> Evidence:
    """Average precision; pictures are ranked by their own AP50."""

    def at(limit: float | None) -> Scores:
        score = DetectionScore(oriented=oriented, most=setting.most)
        for row in rows:
            for label, own in row["classes"].items():
                found = own["found"][str(setting.threshold_of(label) if limit is None else limit)]
                score.add(
                    row["key"],
                    label,
                    np.array(found["boxes"], np.float64),
                    np.array(found["score"], np.float64),
                    np.array(own["true"], np.float64),
                    difficult=np.array(own["difficult"], np.bool_),
                    crowd=np.array(own["crowd"], np.bool_),
                )
        return score.scores()

    quality = {}
    for row in rows:
        single = DetectionScore(oriented=oriented, most=setting.most)
        for label, own in row["classes"].items():
            found = own["found"][str(setting.threshold_of(label))]
            boxes, score, true = (
                np.array(values, np.float64) for values in (found["boxes"], found["score"], own["true"])
            )
            single.add(row["key"], label, boxes, score, true)
        figure = single.scores().overall["AP50"]
        if not np.isnan(figure):
            quality[row["key"]] = figure
    sweeps = [{"threshold": limit, **at(limit).overall} for limit in setting.thresholds]
    return Evidence(scores=at(None), sweeps=sweeps, quality=quality)


def weigh_grounding(unit: Unit, ask: PicturePredictor, setting: Setting) -> Row:
    """The box found and the true one of each description."""
    asked = [(thing, expression) for thing in unit.truth.things for expression in thing.expressions]
    rows = []
    for (thing, expression), chance in zip(asked, ask.maps([expression for _, expression in asked]), strict=True):
        boxes = {}
        for limit in (setting.threshold_of(thing.label), *setting.thresholds):
            found = ground(chance, threshold=limit, min_score=setting.min_score)
            boxes[str(limit)] = None if found is None else list(found.box)
        rows.append(
            {
                "label": thing.label,
                "expression": expression,
                "true": list(thing.box),
                "found": boxes,
            }
        )
    return {"asked": rows}


def judge_grounding(rows: Sequence[Row], setting: Setting) -> Evidence:
    """How well boxes fit; descriptions are ranked by IoU."""

    def at(limit: float | None) -> tuple[Scores, dict[str, Scores], dict[str, float]]:
        whole = GroundingScore(published=setting.published)
        parts: dict[str, GroundingScore] = {}
        quality = {}
        for place, (key, one) in enumerate(_each_expression(rows)):
            label = one["label"]
            found = one["found"][str(setting.threshold_of(label) if limit is None else limit)]
            whole.add(place, found, one["true"])
            parts.setdefault(label, GroundingScore()).add(place, found, one["true"])
            alone = GroundingScore()
            alone.add(0, found, one["true"])
            quality[key] = alone.scores().overall["mIoU"]
        return whole.scores(), {label: part.scores() for label, part in parts.items()}, quality

    scores, by_class, quality = at(None)
    named = {label: own.overall for label, own in sorted(by_class.items()) if label}
    return Evidence(
        scores=Scores(overall=scores.overall, by_class=named),
        sweeps=[{"threshold": t, **at(t)[0].overall} for t in setting.thresholds],
        quality=quality,
    )


def _each_expression(rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    for row in rows:
        for number, one in enumerate(row["asked"]):
            yield f"{row['key']}.{number}", one


def weigh_counting(unit: Unit, ask: PicturePredictor, setting: Setting) -> Row:
    """The number found and the true one of each class."""
    true = _true_counts(unit.truth, setting)
    counts, contour = {}, ask.contours()
    for label in setting.classes:
        if label not in true:
            continue
        chance = ask.of_class(label, setting)
        counts[label] = {
            "true": true[label],
            "found": {
                str(limit): count_objects(
                    chance,
                    threshold=limit,
                    contour=contour,
                    contour_threshold=COUNT_CONTOUR_THRESHOLD,
                    min_score=setting.min_score,
                    min_area=setting.least_area(label),
                    suppress=setting.suppress,
                )
                for limit in (setting.threshold_of(label), *setting.thresholds)
            },
        }
    return {"counts": counts}


def _true_counts(example: Example, setting: Setting) -> dict[str, int]:
    """How many there are of each label that is asked for."""
    if example.counts:
        return dict(example.counts)
    true = dict.fromkeys(setting.classes, 0) if setting.absent else {}
    for thing in example.things:
        true[thing.label] = true.get(thing.label, 0) + 1
    return true


def judge_counting(rows: Sequence[Row], setting: Setting) -> Evidence:
    """How often numbers are exact; pictures are ranked by how far they are off."""

    def at(limit: float | None) -> Scores:
        score = CountingScore()
        for row in rows:
            for label, own in row["counts"].items():
                chosen = str(setting.threshold_of(label) if limit is None else limit)
                score.add(label, own["found"][chosen], own["true"])
        return score.scores()

    quality = {
        row["key"]: -float(
            sum(
                abs(own["found"][str(setting.threshold_of(label))] - own["true"])
                for label, own in row["counts"].items()
            )
        )
        for row in rows
        if row["counts"]
    }
    sweeps = [{"threshold": limit, **at(limit).overall} for limit in setting.thresholds]
    return Evidence(scores=at(None), sweeps=sweeps, quality=quality)
