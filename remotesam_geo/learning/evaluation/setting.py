"""How something is evaluated: what is asked, and by which rules."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

from remotesam_geo.errors import InputError, each_of, instance_of, number_in, one_of
from remotesam_geo.tasks import FULL, MIN_SCORE, Suppress
from remotesam_geo.words import CLASS_TEMPLATE, threshold_steps, vocabulary

__all__ = ["Setting", "asked_as"]

Spelling = Literal["plain", "as is"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is asked and how answers are judged.

    Attributes:
        classes: What each label is asked as; several expressions are joined by maximum. See `asked_as`.
        threshold: A pixel (or a label's score) belongs where its probability is larger: one, or by label.
        published: Judge as the published evaluation does where that differs (see docs/evaluation.md).
        suppress: Which boxes give way.
        min_score: Least mean probability of an object.
        min_area: Least pixels of an object, one or by label; the published prior for counting is one.
        balance: Weight of the maximum against the mean in labels' scores; None for the published 0.5 or 1.
        thresholds: More thresholds at which detection, counting and grounding are judged, to compare.
        balances: More balances at which labels are judged, to compare.
        absent: Whether absent classes are counted too (the answer is 0).
        most: Boxes a picture and class that count in detection.
    """

    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    threshold: float | Mapping[str, float] = 0.5
    published: bool = False
    suppress: Suppress = "published"
    min_score: float = MIN_SCORE
    min_area: int | Mapping[str, int] = 1
    balance: float | None = None
    thresholds: tuple[float, ...] = ()
    balances: tuple[float, ...] = ()
    absent: bool = False
    most: int = 100

    def __post_init__(self) -> None:
        instance_of("classes", self.classes, Mapping, "the expressions of each label: asked_as([...])")
        one_of("suppress", self.suppress, get_args(Suppress))
        one_of("published", self.published, (True, False))
        number_in("min_score", self.min_score, 0, 1)
        if self.balance is not None:
            number_in("balance", self.balance, 0, 1)
        for balance in each_of("balances", self.balances, Real, "numbers"):
            number_in("balance", balance, 0, 1)
        number_in("most", self.most, 1, whole=True)
        areas = self.min_area.values() if isinstance(self.min_area, Mapping) else [self.min_area]
        for area in areas:
            number_in("min_area", area, 0)
        threshold: float | dict[str, float]
        if isinstance(self.threshold, Mapping):
            threshold = {label: _threshold_rounded_up(value) for label, value in self.threshold.items()}
        else:
            threshold = _threshold_rounded_up(self.threshold)
        object.__setattr__(self, "threshold", threshold)
        object.__setattr__(
            self,
            "thresholds",
            tuple(map(_threshold_rounded_up, each_of("thresholds", self.thresholds, Real, "numbers"))),
        )
        for label, expressions in self.classes.items():
            if not each_of(f"classes[{label!r}]", expressions, str, "expressions"):
                raise InputError(f"classes[{label!r}] is empty: give a tuple of expressions")

    def threshold_of(self, label: str) -> float:
        """The threshold of a label."""
        if isinstance(self.threshold, Mapping):
            return float(self.threshold.get(label, 0.5))
        return float(self.threshold)

    def least_area(self, label: str) -> int:
        """The least number of pixels of an object of a label."""
        return self.min_area.get(label, 1) if isinstance(self.min_area, Mapping) else self.min_area

    def to_json(self) -> dict[str, Any]:
        """As plain values, to be kept and compared."""
        said = asdict(self)
        said["classes"] = {label: list(texts) for label, texts in self.classes.items()}
        if isinstance(self.threshold, Mapping):
            said["threshold"] = dict(self.threshold)
        if isinstance(self.min_area, Mapping):
            said["min_area"] = dict(self.min_area)
        return said | {"thresholds": list(self.thresholds), "balances": list(self.balances)}


def asked_as(
    labels: Sequence[str], *, spelling: Spelling = "plain", template: str = CLASS_TEMPLATE
) -> dict[str, tuple[str, ...]]:
    """What labels of a data set are asked as.

    Args:
        labels: As the data set spells them.
        spelling: "plain" asks for "storage tank" where the data set says "storagetank" or "storage_tank"; "as is" asks
            for what it says, as the released weights were trained and evaluated.
        template: The expression of a name.

    Examples:
        >>> from remotesam_geo.learning.evaluation import asked_as
        >>> asked_as(["storage_tank"])["storage_tank"], asked_as(["storagetank"], spelling="as is")["storagetank"]
        (('storage tank in the image',), ('storagetank in the image',))
    """
    one_of("spelling", spelling, get_args(Spelling))
    instance_of("template", template, str, "text with {name} in it")
    return {
        label: (template.replace("{name}", _setting_label(label) if spelling == "plain" else label),)
        for label in _checked_labels(labels)
    }


def _checked_labels(labels: Sequence[str]) -> list[str]:
    names: list[str] = each_of("labels", labels, str, "names")
    for number, name in enumerate(names):
        if not name.strip():
            raise InputError(f"labels[{number}] is empty: give the name of a class")
    return names


def _setting_label(label: str) -> str:
    words = label.replace("_", " ").replace("-", " ").strip().lower()
    known = vocabulary()
    category = known.get(words)
    if category is None:
        return words
    # A synonym stays what it is, well spelt: a soccer field is not asked for as its category.
    return words if known.has_spelling(words) else known.suggest(words, limit=1)[0]


def _threshold_rounded_up(threshold: float) -> float:
    return threshold_steps(threshold) / FULL
