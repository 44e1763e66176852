"""How like is like enough: the threshold of a similarity filter, from pairs that are known to be right or wrong."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Triplet

from .steps import related

__all__ = ["ChosenLeast", "choose_least", "right_and_wrong"]

SURE = 0.95


@dataclass(frozen=True, kw_only=True)
class ChosenLeast:
    """A threshold, and what it does to pairs whose truth is known.

    Attributes:
        least: Scores from here on are kept.
        wanted: The precision that was asked for.
        precision: Share of right ones among what is kept.
        doubted: What it is at least, as sure as 95 %, by the number of pairs: with few of them not much.
        recall: Share of the right ones that is kept.
        leak: Share of the wrong ones that is kept.
        share: Share of right ones among what is filtered, as it was assumed.
        right: Right pairs.
        wrong: Wrong pairs.
    """

    least: float
    wanted: float
    precision: float
    doubted: float
    recall: float
    leak: float
    share: float
    right: int
    wrong: int

    def table(self) -> str:
        """As Markdown."""
        rows = [
            ("threshold", f"{self.least:.4f}"),
            ("precision", f"{self.precision:.1%} ({self.wanted:.1%} wanted)"),
            ("precision, at least (95 %)", f"{self.doubted:.1%}"),
            ("right ones kept", f"{self.recall:.1%} of {self.right:,}"),
            ("wrong ones kept", f"{self.leak:.1%} of {self.wrong:,}"),
            ("share of right ones assumed", f"{self.share:.1%}"),
        ]
        return "\n".join(["| | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])


def choose_least(
    right: Sequence[float],
    wrong: Sequence[float],
    *,
    precision: float = 0.95,
    share: float | None = None,
) -> ChosenLeast:
    """The lowest threshold at which enough of what is kept is right.

    Args:
        right: Scores of pairs that are right.
        wrong: Scores of pairs that are wrong.
        precision: Share of right ones that is wanted among what is kept.
        share: Share of right ones among what will be filtered; by default that of the pairs given.

    Raises:
        InputError: No pairs, or no threshold is that precise.

    Examples:
        >>> from remotesam_geo.learning.labelling import choose_least
        >>> chosen = choose_least([0.10, 0.14, 0.15, 0.20], [0.02, 0.05, 0.08, 0.11], precision=0.95)
        >>> chosen.least, chosen.precision, chosen.recall
        (0.14, 1.0, 0.75)
    """
    good, bad = np.sort(np.asarray(right, float)), np.sort(np.asarray(wrong, float))
    if not good.size or not bad.size or not np.isfinite(np.concatenate([good, bad])).all():
        raise InputError(f"{good.size} scores of right pairs and {bad.size} of wrong ones: give finite scores of both")
    share = good.size / (good.size + bad.size) if share is None else share
    if not 0 < share < 1 or not 0 < precision <= 1:
        raise InputError(f"share={share}, precision={precision}: give shares of 1")
    least = np.unique(good)
    kept = 1 - np.searchsorted(good, least) / good.size
    passed = bad.size - np.searchsorted(bad, least)
    precise = _precision_of_threshold(kept, passed / bad.size, share)
    reached = np.flatnonzero(precise >= precision)
    if not reached.size:
        best = int(precise.argmax())
        raise InputError(
            f"no threshold is {precision:.1%} precise: the best, {least[best]:.4f}, is {precise[best]:.1%} and keeps "
            f"{kept[best]:.1%} of the right ones. Want less, or take another model"
        )
    k = int(reached[0])
    # A band that holds for all thresholds at once (Dvoretzky, Kiefer, Wolfowitz): the lowest good one is a lucky one.
    below, above = (math.sqrt(math.log(2 / (1 - SURE)) / (2 * some.size)) for some in (good, bad))
    fewest = np.maximum(kept[k : k + 1] - below, 0)
    leak = passed[k : k + 1] / bad.size
    return ChosenLeast(
        least=float(least[k]), wanted=precision, precision=float(precise[k]),
        doubted=float(_precision_of_threshold(fewest, np.minimum(leak + above, 1), share)[0]), recall=float(kept[k]),
        leak=float(leak[0]), share=float(share), right=good.size, wrong=bad.size,
    )  # fmt: skip


def right_and_wrong(
    triplets: Iterable[Triplet], *, most: int = 500, seed: int = 0
) -> tuple[list[Triplet], list[Triplet]]:
    """Pairs of region and words that are right, and others that are wrong: words of an unrelated class.

    So they tell a wrong thing from a right one, not a wrong place or colour from a right one.

    Args:
        triplets: A `TripletStore` that is trusted, such as one made by rules.
        most: Pairs of each.
        seed: Of the drawing.

    Raises:
        InputError: There are no two unrelated classes.
    """
    rng = random.Random(seed)  # noqa: S311 - no secrets
    there = [one for one in triplets if one.kind != "one-to-zero" and one.label and one.mask.area]
    right = rng.sample(there, min(most, len(there)))
    said: dict[str, list[str]] = {}
    for one in there:
        said.setdefault(one.label, []).append(one.expression)
    others = {label: [o for o in said if not related(label, o)] for label in said}
    wrong = [
        replace(one, expression=rng.choice(said[rng.choice(others[one.label])])) for one in right if others[one.label]
    ]
    if not wrong:
        raise InputError(f"the classes are {sorted(said)}: give triplets of two unrelated classes")
    return right, wrong


def _precision_of_threshold(kept: NDArray[np.float64], leak: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    return np.asarray(share * kept / (share * kept + (1 - share) * leak), np.float64)
