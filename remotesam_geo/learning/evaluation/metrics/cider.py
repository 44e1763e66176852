"""CIDEr-D: how much of what several people said of a picture a caption says, weighed by how telling it is."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from remotesam_geo.errors import InputError

from .summary import Scores, mean

__all__ = ["CaptionScore", "words_of"]

LONGEST = 4  # words of a phrase
SPREAD = 6.0  # how much lengths may differ

Phrase = tuple[str, ...]
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


def words_of(sentence: str) -> list[str]:
    """The words of a sentence: lower case, without punctuation.

    The published evaluation uses the PTB tokenizer, a Java program, and drops its punctuation; on plain English
    sentences these are the same words, save that it parts "don't" and "it's" in two.

    Examples:
        >>> from remotesam_geo.learning.evaluation.metrics import words_of
        >>> words_of("There is a piece of farm-land .")
        ['there', 'is', 'a', 'piece', 'of', 'farm-land']
    """
    return _WORD.findall(sentence.lower())


class CaptionScore:
    """CIDEr-D over a set of pictures; how telling a phrase is, is counted in the same set.

    Examples:
        >>> from remotesam_geo.learning.evaluation.metrics import CaptionScore
        >>> score = CaptionScore()
        >>> score.add("1", "a red ship at sea", ["a red ship at sea"])
        >>> score.add("2", "green trees", ["a yellow field"])
        >>> round(score.scores().overall["CIDEr-D"], 6)
        5.0
    """

    def __init__(self) -> None:
        self._said: dict[str, tuple[list[str], list[list[str]]]] = {}

    def add(self, picture: str, caption: str, references: Sequence[str]) -> None:
        """One picture: its name, the caption, and what people said."""
        if not references or isinstance(references, str):
            raise InputError(f"{picture!r} has the references {references!r}: give one or more")
        if picture in self._said:
            raise InputError(f"the picture {picture!r} was counted already")
        self._said[picture] = words_of(caption), [words_of(text) for text in references]

    def merge(self, other: "CaptionScore") -> None:
        """Take over what another one counted."""
        if both := self._said.keys() & other._said.keys():
            raise InputError(f"the picture {min(both)!r} was counted by both")
        self._said |= other._said

    def by_picture(self) -> dict[str, float]:
        """CIDEr-D of each picture, 0 to 10."""
        seen: Counter[Phrase] = Counter()
        for _, references in self._said.values():
            seen.update({phrase for words in references for phrase in _phrase_counts(words)})
        pictures = math.log(len(self._said)) if self._said else 0.0
        rare = {phrase: pictures - math.log(times) for phrase, times in seen.items()}
        return {
            name: mean(_cider_likeness(words, other, rare, pictures) for other in references)
            for name, (words, references) in self._said.items()
        }

    def scores(self) -> Scores:
        """CIDEr-D (0 to 10; tables often print a hundred times that) and the number of pictures."""
        every = self.by_picture()
        return Scores(overall={"CIDEr-D": mean(every.values()), "count": len(every)})


def _phrase_counts(words: Sequence[str]) -> Counter[Phrase]:
    return Counter(
        tuple(words[start : start + n]) for n in range(1, LONGEST + 1) for start in range(len(words) - n + 1)
    )


def _cider_likeness(words: Sequence[str], reference: Sequence[str], rare: dict[Phrase, float], unseen: float) -> float:
    """Ten times the mean over lengths of the clipped cosine, damped by the difference in length."""
    weights = [
        {phrase: n * rare.get(phrase, unseen) for phrase, n in _phrase_counts(text).items()}
        for text in (words, reference)
    ]
    total = []
    for length in range(1, LONGEST + 1):
        one, other = ({phrase: weight for phrase, weight in of.items() if len(phrase) == length} for of in weights)
        norms = [math.sqrt(math.fsum(w * w for w in of.values())) for of in (one, other)]
        common = math.fsum(
            min(weight, other[phrase]) * other[phrase] for phrase, weight in one.items() if phrase in other
        )
        total.append(common / (norms[0] * norms[1]) if all(norms) else 0.0)
    # The published measure takes for a text's length its number of pairs of words.
    pairs = [max(0, len(text) - 1) for text in (words, reference)]
    damping = math.exp(-((pairs[0] - pairs[1]) ** 2) / (2 * SPREAD**2))
    return 10.0 * damping * math.fsum(total) / LONGEST
