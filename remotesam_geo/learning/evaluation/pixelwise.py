"""Tasks that are judged by pixels: what expressions mean, and one class for each pixel."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.learning.datasets import BACKGROUND, UNKNOWN, Example, Thing
from remotesam_geo.tasks import FULL, semantic
from remotesam_geo.words import threshold_steps

from .answerers import Chances, nearest
from .metrics import ChanceCounts, ReferringScore, Scores, SemanticScore, chance_counts
from .setting import Setting
from .task_steps import Evidence, PicturePredictor, Row, Unit

__all__ = [
    "ask_expressions",
    "judge_referring",
    "judge_semantic",
    "weigh_referring",
    "weigh_semantic",
]

Bools = NDArray[np.bool_]
NOTHING = "(none)"


def ask_expressions(unit: Unit, setting: Setting) -> list[str]:
    """The expressions that are referred by."""
    return [expression for _, expression, _ in _expressions_of_picture(unit, setting)]


def weigh_referring(unit: Unit, ask: PicturePredictor, setting: Setting) -> Row:
    """Pixels by probability and truth, for each expression."""
    asked = list(_expressions_of_picture(unit, setting))
    chances = ask.maps([expression for _, expression, _ in asked])
    return {
        "asked": [
            {
                "label": label,
                "expression": expression,
                "chances": _packed_counts(chance, ask.mask(mask())),
            }
            for (label, expression, mask), chance in zip(asked, chances, strict=True)
        ]
    }


def _expressions_of_picture(unit: Unit, setting: Setting) -> Iterator[tuple[str, str, Callable[[], Bools]]]:
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
            yield label, partial(_union_mask, own, example.picture.shape)


def _union_mask(things: Sequence[Thing], shape: tuple[int, int]) -> Bools:
    whole = np.zeros(shape, np.bool_)
    for thing in things:
        whole |= thing.pixels(shape).pixels()
    return whole


def judge_referring(rows: Sequence[Row], setting: Setting) -> Evidence:
    """How well masks fit; expressions are ranked by IoU."""
    empty = 0.0 if setting.published else 1.0
    score, chances = ReferringScore(empty=empty), ChanceCounts.none()
    by_label: dict[str, tuple[ReferringScore, ChanceCounts]] = {}
    quality = {}
    for row in rows:
        for number, one in enumerate(row["asked"]):
            counts = _unpacked_counts(one["chances"])
            step = threshold_steps(setting.threshold_of(one["label"]))
            common, every = counts.counts(step)
            score.add_counts(common, every)
            chances += counts
            own, seen = by_label.get(one["label"], (ReferringScore(empty=empty), ChanceCounts.none()))
            own.add_counts(common, every)
            by_label[one["label"]] = own, seen + counts
            quality[f"{row['key']}.{number}"] = common / every if every else empty
    scores = score.scores()
    named = {label: own for label, own in sorted(by_label.items()) if label}
    return Evidence(
        scores=Scores(
            overall=scores.overall,
            by_class={label: own.scores().overall for label, (own, _) in named.items()},
        ),
        chances={"all": chances} | {label: seen for label, (_, seen) in named.items()},
        quality=quality,
    )


def weigh_semantic(unit: Unit, ask: PicturePredictor, setting: Setting) -> Row:
    """Pixels by true and answered class, and for each class by probability and truth."""
    names = _semantic_names(setting)
    truth = _class_map(unit.truth, names)
    truth = truth if truth.shape == ask.shape else nearest(truth, ask.shape)
    asked = [name for name in names if name in setting.classes]
    maps, chances = [], {}
    for name in asked:
        chance = ask.of_class(name, setting)
        maps.append(chance)
        chances[name] = _packed_counts(chance, truth == names.index(name), truth != UNKNOWN)
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


def judge_semantic(rows: Sequence[Row], setting: Setting) -> Evidence:
    """How well classes fit; pictures are ranked by the share of right pixels."""
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
            chances[label] = chances.get(label, ChanceCounts.none()) + _unpacked_counts(packed)
    return Evidence(scores=score.scores(), chances=chances, quality=quality)


def _packed_counts(chance: Chances, truth: Bools, known: Bools | None = None) -> list[list[list[int]]]:
    """The counts that are not 0, as pairs of code and number."""
    counts = chance_counts(np.ascontiguousarray(chance), truth, known)
    return [[[int(code), int(part[code])] for code in np.flatnonzero(part)] for part in (counts.true, counts.false)]


def _unpacked_counts(packed: Sequence[Sequence[Sequence[int]]]) -> ChanceCounts:
    parts = []
    for pairs in packed:
        part = np.zeros(FULL + 1, np.int64)
        for code, times in pairs:
            part[code] = times
        parts.append(part)
    return ChanceCounts(true=parts[0], false=parts[1])
