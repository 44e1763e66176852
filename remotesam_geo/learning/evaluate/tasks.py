"""The eight tasks: what each asks of a picture, what it keeps of the answer, and how that is judged.

What is kept (the evidence) is small and plain: counts and boxes, not maps. Figures, thresholds and balances are
computed from it afterwards, and from the evidence of several processes together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError
from remotesam_geo.learning.metrics import (
    CaptionScore,
    ChanceCounts,
    CountingScore,
    DetectionScore,
    GroundingScore,
    MultiLabelScore,
    ReferringScore,
    Scores,
    SemanticScore,
    SingleLabelScore,
    chance_counts,
)
from remotesam_geo.learning.triplets import BACKGROUND, UNKNOWN, Example, Picture, Thing, Triplet
from remotesam_geo.tasks import (
    COUNT_CONTOUR_THRESHOLD,
    FULL,
    MULTI_LABEL_BALANCE,
    SINGLE_LABEL_BALANCE,
    Detections,
    caption,
    count_objects,
    detect,
    ground,
    semantic,
    threshold_steps,
)

from .answering import Chances, nearest
from .setting import Setting

__all__ = ["TASKS", "Outcome", "Task", "Unit"]

Row = dict[str, Any]
Bools = NDArray[np.bool_]
NOTHING = "(none)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """A picture with the questions that are asked of it.

    Attributes:
        position: Its number in the data, from 0.
        picture: The picture.
        example: Its truth, where the data are examples.
        triplets: Expressions and masks, where the data are triplets.
    """

    position: int
    picture: Picture
    example: Example | None = None
    triplets: tuple[Triplet, ...] = ()

    @property
    def truth(self) -> Example:
        """Its truth as an example.

        Raises:
            InputError: The data are triplets, which do not tell it.
        """
        if self.example is None:
            raise InputError(
                "this task needs pictures with all their truth, not triplets: read the data as examples"
            )
        return self.example


@dataclass(frozen=True, kw_only=True, eq=False)
class Asker:
    """Asks of one picture; every answer is as large as the picture, or as the network's square.

    Attributes:
        shape: How large the answers are.
        maps: A map for each expression.
        contours: The map of contours, if there is one.
    """

    shape: tuple[int, int]
    maps: Callable[[Sequence[str]], Iterator[Chances]]
    contours: Callable[[], NDArray[np.uint8] | None]

    def of_class(self, label: str, setting: Setting) -> Chances:
        """The map of a class: the maximum over its expressions."""
        maps = self.maps(setting.classes[label])
        whole = next(maps)
        for chance in maps:
            whole = np.maximum(whole, chance)
        return whole

    def mask(self, pixels: Bools) -> Bools:
        """A true mask at the answers' size."""
        return pixels if pixels.shape == self.shape else nearest(pixels, self.shape)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What evidence amounts to.

    Attributes:
        scores: The figures.
        chances: By name, pixels by probability and truth.
        sweeps: One line for each other threshold or balance.
        quality: By key, how good each answer is, to find the worst and the best.
    """

    scores: Scores
    chances: Mapping[str, ChanceCounts] = field(default_factory=dict)
    sweeps: Sequence[Mapping[str, float]] = ()
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of the eight.

    Attributes:
        name: What it is called.
        figure: The figure of its published table.
        ask: The expressions that it asks of a picture.
        weigh: Asks of a picture and keeps what matters.
        judge: What rows of evidence amount to.
        square: Whether the published evaluation judges at the network's size.
    """

    name: str
    figure: str
    ask: Callable[[Unit, Setting], Sequence[str]]
    weigh: Callable[[Unit, Asker, Setting], Row]
    judge: Callable[[Sequence[Row], Setting], Outcome]
    square: bool = False


def _ask_classes(unit: Unit, setting: Setting) -> list[str]:  # noqa: ARG001 - as all do
    return [expression for own in setting.classes.values() for expression in own]


def _ask_expressions(unit: Unit, setting: Setting) -> list[str]:
    return [expression for _, expression, _ in _expressions(unit, setting)]


def _ask_described(unit: Unit, setting: Setting) -> list[str]:  # noqa: ARG001 - as all do
    return [expression for thing in unit.truth.things for expression in thing.expressions]


def _ask_counted(unit: Unit, setting: Setting) -> list[str]:
    true = _true_counts(unit.truth, setting)
    return [
        expression for label, own in setting.classes.items() if label in true for expression in own
    ]


# --- masks ---------------------------------------------------------------------------------------


def _weigh_referring(unit: Unit, ask: Asker, setting: Setting) -> Row:
    asked = list(_expressions(unit, setting))
    chances = ask.maps([expression for _, expression, _ in asked])
    return {
        "asked": [
            {"label": label, "expression": expression, "chances": _packed(chance, ask.mask(mask()))}
            for (label, expression, mask), chance in zip(asked, chances, strict=True)
        ]
    }


def _expressions(unit: Unit, setting: Setting) -> Iterator[tuple[str, str, Callable[[], Bools]]]:
    """Label, expression and truth of what is asked of a picture."""
    if unit.example is None:
        for triplet in unit.triplets:
            yield triplet.label, triplet.expression, triplet.mask.pixels
        return
    shape = unit.picture.shape
    for thing in unit.example.things:
        for expression in thing.expressions:
            yield thing.label, expression, thing.pixels(shape).pixels
    if not any(thing.expressions for thing in unit.example.things):
        for label, true in _class_truths(unit.example, setting):
            yield label, setting.classes[label][0], true


def _class_truths(example: Example, setting: Setting) -> Iterator[tuple[str, Callable[[], Bools]]]:
    """The classes that are there, with their pixels."""
    for label in setting.classes:
        own = [thing for thing in example.things if thing.label == label]
        if own:
            yield label, partial(_union, own, example.picture.shape)


def _union(things: Sequence[Thing], shape: tuple[int, int]) -> Bools:
    whole = np.zeros(shape, np.bool_)
    for thing in things:
        whole |= thing.pixels(shape).pixels()
    return whole


def _judge_referring(rows: Sequence[Row], setting: Setting) -> Outcome:
    empty = 0.0 if setting.published else 1.0
    score, chances = ReferringScore(empty=empty), ChanceCounts.none()
    by_label: dict[str, tuple[ReferringScore, ChanceCounts]] = {}
    quality = {}
    for row in rows:
        for number, one in enumerate(row["asked"]):
            counts = _unpacked(one["chances"])
            step = threshold_steps(setting.threshold_of(one["label"]))
            common, every = counts.counts(step)
            score.add_counts(common, every)
            chances += counts
            own, seen = by_label.get(
                one["label"], (ReferringScore(empty=empty), ChanceCounts.none())
            )
            own.add_counts(common, every)
            by_label[one["label"]] = own, seen + counts
            quality[f"{row['key']}.{number}"] = common / every if every else empty
    scores = score.scores()
    named = {label: own for label, own in sorted(by_label.items()) if label}
    return Outcome(
        scores=Scores(
            overall=scores.overall,
            by_class={label: own.scores().overall for label, (own, _) in named.items()},
        ),
        chances={"all": chances} | {label: seen for label, (_, seen) in named.items()},
        quality=quality,
    )


def _weigh_semantic(unit: Unit, ask: Asker, setting: Setting) -> Row:
    names = _semantic_names(setting)
    truth = _class_map(unit.truth, names)
    truth = truth if truth.shape == ask.shape else nearest(truth, ask.shape)
    asked = [name for name in names if name in setting.classes]
    maps, chances = [], {}
    for name in asked:
        chance = ask.of_class(name, setting)
        maps.append(chance)
        chances[name] = _packed(chance, truth == names.index(name), truth != UNKNOWN)
    limits = [setting.threshold_of(name) for name in asked]
    if setting.published:
        # Every class decides for itself, and of those that claim a pixel the last one has it.
        found = np.zeros(ask.shape, np.int64)
        for number, (chance, limit) in enumerate(zip(maps, limits, strict=True), start=1):
            found[chance > limit] = number
    else:
        found = semantic(maps, threshold=limits).astype(np.int64)
    silent = NOTHING if NOTHING in names else BACKGROUND
    places = np.array([names.index(name) for name in (silent, *asked)])
    score = SemanticScore(names, ignore=UNKNOWN)
    score.add(places[found], truth)
    return {
        "confusion": [
            [int(true), int(answer), int(score.confusion[true, answer])]
            for true, answer in np.argwhere(score.confusion)
        ],
        "chances": chances,
    }


def _semantic_names(setting: Setting) -> list[str]:
    """The classes a pixel may have: a background for what no class claims, or a name that is none."""
    if BACKGROUND in setting.classes:
        return [*setting.classes, NOTHING]
    return [BACKGROUND, *setting.classes]


def _class_map(example: Example, names: Sequence[str]) -> NDArray[np.uint8]:
    """The true class of each pixel, by its place among the names."""
    if example.classes is not None:
        table = np.full(256, UNKNOWN, np.uint8)
        for number, name in enumerate(example.classes.names):
            if name in names:
                table[number] = names.index(name)
        return table[example.classes.read()]
    drawn = np.full(example.picture.shape, names.index(BACKGROUND), np.uint8)
    masks = [(thing.pixels(example.picture.shape), thing.label) for thing in example.things]
    for mask, label in sorted(masks, key=lambda one: -one[0].area):  # small ones lie on large ones
        if label in names:
            drawn[mask.pixels()] = names.index(label)
    return drawn


def _judge_semantic(rows: Sequence[Row], setting: Setting) -> Outcome:
    names = _semantic_names(setting)
    # Silence is no class; a background is one where the truth knows it.
    silent = names[-1] if names[-1] == NOTHING else names[0]
    never = not any(true == names.index(silent) for row in rows for true, _, _ in row["confusion"])
    score = SemanticScore(names, left_out=[silent] if never else [])
    chances: dict[str, ChanceCounts] = {}
    quality = {}
    for row in rows:
        confusion = np.zeros((len(names), len(names)), np.int64)
        for true, found, times in row["confusion"]:
            confusion[true, found] += times
        score.add_counts(confusion)
        quality[row["key"]] = float(np.diag(confusion).sum() / max(1, confusion.sum()))
        for label, packed in row["chances"].items():
            chances[label] = chances.get(label, ChanceCounts.none()) + _unpacked(packed)
    return Outcome(scores=score.scores(), chances=chances, quality=quality)


# --- objects -------------------------------------------------------------------------------------


def _weigh_detection(unit: Unit, ask: Asker, setting: Setting, *, oriented: bool = False) -> Row:
    example, contour = unit.truth, ask.contours()
    by_label = {}
    for label in setting.classes:
        chance = ask.of_class(label, setting)
        own = [thing for thing in example.things if thing.label == label]
        by_label[label] = {
            "true": [_corners(thing) if oriented else thing.box for thing in own],
            "difficult": [thing.difficult for thing in own],
            "crowd": [thing.crowd for thing in own],
            "found": {
                str(limit): _found(
                    _objects(chance, contour, label, limit, setting, oriented=oriented), oriented
                )
                for limit in (setting.threshold_of(label), *setting.thresholds)
            },
        }
    return {"classes": by_label}


def _objects(
    chance: Chances,
    contour: NDArray[np.uint8] | None,
    label: str,
    limit: float,
    setting: Setting,
    *,
    oriented: bool = False,
) -> Detections:
    return detect(
        chance,
        threshold=limit,
        contour=contour,
        oriented=oriented,
        min_score=setting.min_score,
        min_area=setting.least_area(label),
        suppress=setting.suppress,
    )


def _found(objects: Detections, oriented: bool) -> Row:
    boxes = objects.corners.round(3) if oriented else objects.boxes
    return {"boxes": boxes.tolist(), "score": objects.score.tolist()}


def _corners(thing: Thing) -> list[tuple[float, float]]:
    if thing.corners is not None:
        return list(thing.corners)
    if thing.mask is not None and thing.mask.area:
        objects = detect(thing.mask.pixels().astype(np.float32), oriented=True, suppress="none")
        if len(objects) == 1:
            return [(float(x), float(y)) for x, y in objects.corners[0]]
    x0, y0, x1, y1 = thing.box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _judge_detection(rows: Sequence[Row], setting: Setting, *, oriented: bool = False) -> Outcome:
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
                np.array(values, np.float64)
                for values in (found["boxes"], found["score"], own["true"])
            )
            single.add(row["key"], label, boxes, score, true)
        figure = single.scores().overall["AP50"]
        if not np.isnan(figure):
            quality[row["key"]] = figure
    sweeps = [{"threshold": limit, **at(limit).overall} for limit in setting.thresholds]
    return Outcome(scores=at(None), sweeps=sweeps, quality=quality)


def _weigh_grounding(unit: Unit, ask: Asker, setting: Setting) -> Row:
    asked = [(thing, expression) for thing in unit.truth.things for expression in thing.expressions]
    rows = []
    for (thing, expression), chance in zip(
        asked, ask.maps([expression for _, expression in asked]), strict=True
    ):
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


def _judge_grounding(rows: Sequence[Row], setting: Setting) -> Outcome:
    def at(limit: float | None) -> tuple[Scores, dict[str, Scores], dict[str, float]]:
        whole = GroundingScore(published=setting.published)
        parts: dict[str, GroundingScore] = {}
        quality = {}
        for place, (key, one) in enumerate(_each(rows)):
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
    return Outcome(
        scores=Scores(overall=scores.overall, by_class=named),
        sweeps=[{"threshold": t, **at(t)[0].overall} for t in setting.thresholds],
        quality=quality,
    )


def _each(rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    for row in rows:
        for number, one in enumerate(row["asked"]):
            yield f"{row['key']}.{number}", one


def _weigh_counting(unit: Unit, ask: Asker, setting: Setting) -> Row:
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


def _judge_counting(rows: Sequence[Row], setting: Setting) -> Outcome:
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
    return Outcome(scores=at(None), sweeps=sweeps, quality=quality)


# --- labels and sentences ------------------------------------------------------------------------


def _weigh_labels(unit: Unit, ask: Asker, setting: Setting) -> Row:
    example = unit.truth
    scores = {}
    for label in setting.classes:
        chance = ask.of_class(label, setting)
        scores[label] = [float(chance.max()), float(chance.mean(dtype=np.float64))]
    true = list(dict.fromkeys((*example.labels, *(thing.label for thing in example.things))))
    return {"scores": scores, "true": [label for label in true if label in setting.classes]}


def _mixed(pair: Sequence[float], balance: float) -> float:
    return balance * pair[0] + (1 - balance) * pair[1]


def _judge_multi_label(rows: Sequence[Row], setting: Setting) -> Outcome:
    def at(threshold: float | None, balance: float) -> MultiLabelScore:
        score = MultiLabelScore(list(setting.classes))
        for row in rows:
            score.add(
                [
                    label
                    for label, pair in row["scores"].items()
                    if _mixed(pair, balance)
                    > (setting.threshold_of(label) if threshold is None else threshold)
                ],
                row["true"],
            )
        return score

    balance = MULTI_LABEL_BALANCE if setting.balance is None else setting.balance
    quality = {}
    for row in rows:
        right = sum(
            (_mixed(pair, balance) > setting.threshold_of(label)) == (label in row["true"])
            for label, pair in row["scores"].items()
        )
        quality[row["key"]] = right / max(1, len(row["scores"]))
    return Outcome(
        scores=at(None, balance).scores(),
        sweeps=_label_sweeps(setting, balance, lambda t, b: at(t, b).scores()),
        quality=quality,
    )


def _label_sweeps(
    setting: Setting, balance: float, at: Callable[[float | None, float], Scores]
) -> list[dict[str, float]]:
    sweeps = [
        {"threshold": limit, "balance": balance, **at(limit, balance).overall}
        for limit in setting.thresholds
    ]
    base = setting.threshold if isinstance(setting.threshold, int | float) else 0.5
    return sweeps + [
        {"threshold": base, "balance": other, **at(None, other).overall}
        for other in setting.balances
    ]


def _judge_single_label(rows: Sequence[Row], setting: Setting) -> Outcome:
    judged = [row for row in rows if row["true"]]

    def best(row: Row, threshold: float | None, balance: float) -> str | None:
        label, pair = max(row["scores"].items(), key=lambda one: _mixed(one[1], balance))
        limit = setting.threshold_of(label) if threshold is None else threshold
        return label if _mixed(pair, balance) >= limit else None

    def at(threshold: float | None, balance: float) -> Scores:
        score = SingleLabelScore(list(setting.classes))
        for row in judged:
            score.add(best(row, threshold, balance), row["true"][0])
        return score.scores()

    balance = SINGLE_LABEL_BALANCE if setting.balance is None else setting.balance
    quality = {
        row["key"]: _mixed(row["scores"][row["true"][0]], balance)
        - max((_mixed(p, balance) for label, p in row["scores"].items() if label != row["true"][0]), default=0.0)
        for row in judged
    }  # fmt: skip
    return Outcome(
        scores=at(None, balance), sweeps=_label_sweeps(setting, balance, at), quality=quality
    )


def _weigh_caption(unit: Unit, ask: Asker, setting: Setting) -> Row:
    centres = {}
    for label in setting.classes:
        chance = ask.of_class(label, setting)
        limit = setting.threshold_of(label)
        centres[label] = _objects(chance, None, label, limit, setting).centres
    return {"said": caption(centres, ask.shape), "true": list(unit.truth.captions)}


def _judge_captions(rows: Sequence[Row], setting: Setting) -> Outcome:  # noqa: ARG001 - as all do
    score = CaptionScore()
    for row in rows:
        score.add(row["key"], row["said"], row["true"])
    return Outcome(scores=score.scores(), quality=score.by_picture())


# --- counts as text ------------------------------------------------------------------------------


def _packed(chance: Chances, truth: Bools, known: Bools | None = None) -> list[list[list[int]]]:
    """The counts that are not 0, as pairs of code and number."""
    counts = chance_counts(np.ascontiguousarray(chance), truth, known)
    return [
        [[int(code), int(part[code])] for code in np.flatnonzero(part)]
        for part in (counts.true, counts.false)
    ]


def _unpacked(packed: Sequence[Sequence[Sequence[int]]]) -> ChanceCounts:
    parts = []
    for pairs in packed:
        part = np.zeros(FULL + 1, np.int64)
        for code, times in pairs:
            part[code] = times
        parts.append(part)
    return ChanceCounts(true=parts[0], false=parts[1])


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(name="referring", figure="oIoU", ask=_ask_expressions, weigh=_weigh_referring,
             judge=_judge_referring, square=True),
        Task(name="semantic", figure="mIoU", ask=_ask_classes, weigh=_weigh_semantic,
             judge=_judge_semantic, square=True),
        Task(name="detection", figure="AP50", ask=_ask_classes, weigh=_weigh_detection, judge=_judge_detection),
        Task(name="oriented", figure="AP50", ask=_ask_classes, weigh=partial(_weigh_detection, oriented=True),
             judge=partial(_judge_detection, oriented=True)),
        Task(name="grounding", figure="AP50", ask=_ask_described, weigh=_weigh_grounding, judge=_judge_grounding),
        Task(name="multi-label", figure="accuracy", ask=_ask_classes, weigh=_weigh_labels,
             judge=_judge_multi_label),
        Task(name="single-label", figure="accuracy", ask=_ask_classes, weigh=_weigh_labels,
             judge=_judge_single_label),
        Task(name="counting", figure="accuracy", ask=_ask_counted, weigh=_weigh_counting, judge=_judge_counting),
        Task(name="captioning", figure="CIDEr-D", ask=_ask_classes, weigh=_weigh_caption, judge=_judge_captions),
    )
}  # fmt: skip
"""The tasks by name; detection is there twice, with upright and with turned boxes."""
