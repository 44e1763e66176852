"""Tasks that are judged by words: labels of whole pictures, and sentences about them."""

from collections.abc import Callable, Sequence

import numpy as np

from remotesam_geo.tasks import MULTI_LABEL_BALANCE, SINGLE_LABEL_BALANCE, caption

from .metrics import CaptionScore, MultiLabelScore, Scores, SingleLabelScore
from .objectwise import objects_of
from .setting import Setting
from .task_steps import Evidence, PicturePredictor, Row, Unit

__all__ = [
    "judge_captions",
    "judge_multi_label",
    "judge_single_label",
    "weigh_caption",
    "weigh_labels",
]


def weigh_labels(unit: Unit, ask: PicturePredictor, setting: Setting) -> Row:
    """Maximum and mean of each label's map, and the labels that hold."""
    example = unit.truth
    scores = {}
    for label in setting.classes:
        chance = ask.of_class(label, setting)
        scores[label] = [float(chance.max()), float(chance.mean(dtype=np.float64))]
    true = list(dict.fromkeys((*example.labels, *(thing.label for thing in example.things))))
    return {"scores": scores, "true": [label for label in true if label in setting.classes]}


def _balanced_score(pair: Sequence[float], balance: float) -> float:
    return balance * pair[0] + (1 - balance) * pair[1]


def judge_multi_label(rows: Sequence[Row], setting: Setting) -> Evidence:
    """How often labels are right; pictures are ranked by their share of right ones."""

    def at(threshold: float | None, balance: float) -> MultiLabelScore:
        score = MultiLabelScore(list(setting.classes))
        for row in rows:
            score.add(
                [
                    label
                    for label, pair in row["scores"].items()
                    if _balanced_score(pair, balance)
                    > (setting.threshold_of(label) if threshold is None else threshold)
                ],
                row["true"],
            )
        return score

    balance = MULTI_LABEL_BALANCE if setting.balance is None else setting.balance
    quality = {}
    for row in rows:
        right = sum(
            (_balanced_score(pair, balance) > setting.threshold_of(label)) == (label in row["true"])
            for label, pair in row["scores"].items()
        )
        quality[row["key"]] = right / max(1, len(row["scores"]))
    return Evidence(
        scores=at(None, balance).scores(),
        sweeps=_label_sweeps(setting, balance, lambda t, b: at(t, b).scores()),
        quality=quality,
    )


def _label_sweeps(
    setting: Setting, balance: float, at: Callable[[float | None, float], Scores]
) -> list[dict[str, float]]:
    sweeps = [{"threshold": limit, "balance": balance, **at(limit, balance).overall} for limit in setting.thresholds]
    base = setting.threshold if isinstance(setting.threshold, int | float) else 0.5
    return sweeps + [{"threshold": base, "balance": other, **at(None, other).overall} for other in setting.balances]


def judge_single_label(rows: Sequence[Row], setting: Setting) -> Evidence:
    """How often the label is right; pictures are ranked by its lead over the next one."""
    judged = [row for row in rows if row["true"]]

    def best(row: Row, threshold: float | None, balance: float) -> str | None:
        label, pair = max(row["scores"].items(), key=lambda one: _balanced_score(one[1], balance))
        limit = setting.threshold_of(label) if threshold is None else threshold
        return label if _balanced_score(pair, balance) >= limit else None

    def at(threshold: float | None, balance: float) -> Scores:
        score = SingleLabelScore(list(setting.classes))
        for row in judged:
            score.add(best(row, threshold, balance), row["true"][0])
        return score.scores()

    balance = SINGLE_LABEL_BALANCE if setting.balance is None else setting.balance
    quality = {
        row["key"]: _balanced_score(row["scores"][row["true"][0]], balance)
        - max(
            (_balanced_score(p, balance) for label, p in row["scores"].items() if label != row["true"][0]), default=0.0
        )
        for row in judged
    }  # fmt: skip
    return Evidence(scores=at(None, balance), sweeps=_label_sweeps(setting, balance, at), quality=quality)


def weigh_caption(unit: Unit, ask: PicturePredictor, setting: Setting) -> Row:
    """The sentence, and those of people."""
    centres = {}
    for label in setting.classes:
        chance = ask.of_class(label, setting)
        limit = setting.threshold_of(label)
        centres[label] = objects_of(chance, None, label, limit, setting).centres
    return {"said": caption(centres, ask.shape), "true": list(unit.truth.captions)}


def judge_captions(rows: Sequence[Row], setting: Setting) -> Evidence:  # noqa: ARG001 - as all do
    """CIDEr-D; pictures are ranked by theirs."""
    score = CaptionScore()
    for row in rows:
        score.add(row["key"], row["said"], row["true"])
    return Evidence(scores=score.scores(), quality=score.by_picture())
