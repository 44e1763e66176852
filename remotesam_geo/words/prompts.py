"""Prompts: what is asked, under which label, with which threshold, at which ground resolution."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil, inf, isfinite
from numbers import Real
from typing import Literal, TypeGuard, TypeVar
from warnings import warn

from remotesam_geo.errors import InputError, RemoteSAMWarning

from .categories import vocabulary
from .doubts import warn_of_commas, warn_of_unknown_words
from .english import basic_words

__all__ = [
    "CLASS_TEMPLATE",
    "Prompt",
    "PromptLike",
    "Resolution",
    "ResolutionLike",
    "check_resolutions",
    "distinct_expressions",
    "parse_prompts",
    "threshold_steps",
]

Resolution = float | Literal["auto"] | None
"""Metres a pixel on the ground, "auto" from the vocabulary, or None for the scene's own."""

CLASS_TEMPLATE = "{name} in the image"
"""What a class name is asked as: the form of the released weights' training."""

DEFAULT_THRESHOLD = 0.5
STEPS = 200  # thresholds are whole numbers of 1 / 200
READ_WORDS = 19  # the text encoder reads 20 tokens, of which the first only marks the beginning
SHORTEST_MISTAKE = 4  # letters; below, too many words are one letter apart

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One question: the expressions whose maps are joined by maximum, under one label.

    Attributes:
        label: The name that results carry.
        expressions: What the network is asked, as it is; one or more.
        threshold: A pixel belongs where its probability is larger; rounded up to steps of 0.005.
        resolution: True ground metres a pixel, "auto", or None for the scene's own.

    Raises:
        InputError: One of them cannot be used; the message names it.

    Examples:
        >>> from remotesam_geo.words import Prompt
        >>> Prompt(label="ship", expressions=("a ship", "a boat"), threshold=0.4).resolution is None
        True
    """

    label: str
    expressions: tuple[str, ...]
    threshold: float = DEFAULT_THRESHOLD
    resolution: Resolution = None

    def __post_init__(self) -> None:
        check_resolutions(self.resolution)
        object.__setattr__(self, "label", _words_of_text(self.label, "a label"))
        said: object = self.expressions
        if isinstance(said, str) or not isinstance(said, Sequence):
            raise InputError(f"the expressions of {self.label!r} are {said!r}: give a tuple of texts")
        if not self.expressions:
            raise InputError(f"{self.label!r} has no expression: give at least one")
        texts = tuple(_words_of_text(text, f"an expression of {self.label!r}") for text in self.expressions)
        object.__setattr__(self, "expressions", texts)
        object.__setattr__(self, "threshold", _rounded_threshold(self.threshold, self.label))
        object.__setattr__(
            self,
            "resolution",
            _checked_resolution(self.resolution, f"resolution of {self.label!r}"),
        )


PromptLike = str | Prompt | Iterable[str | Prompt] | Mapping[str, str | Sequence[str]]
"""What verbs take as prompts."""

ResolutionLike = float | Literal["auto", "native"]
"""What verbs take as a resolution."""


def parse_prompts(
    prompts: PromptLike,
    *,
    template: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    resolution: ResolutionLike | Mapping[str, ResolutionLike] | None = None,
    cut_words: Callable[[str], str] | None = None,
    unknown_words: Callable[[str], Sequence[str]] | None = None,
    suggest: bool = True,
) -> tuple[Prompt, ...]:
    """Turn what a user wrote into prompts, in the order written, or say what is wrong with it.

    Args:
        prompts: A name or expression, several, or a mapping from label to expression(s), which
            are used as they are. Prompts are taken over.
        template: What a bare name is asked as, `CLASS_TEMPLATE` in class verbs; None asks it as
            it is written.
        threshold: One for all, or by label (others keep theirs); None leaves 0.5 or the prompt's.
        resolution: The same for metres a pixel, "auto" or "native".
        cut_words: Gives the end of an expression that the network will not read, such as
            `RemoteSAMProcessor.cut_words`; without it, what is certainly not read.
        unknown_words: Gives the words of an expression that the model does not know, such as
            `RemoteSAMProcessor.unknown_words`; they warn, with the names that it knows.
        suggest: Warn where a class name looks like a slip of a known category, and where one prompt
            lists several.

    Raises:
        InputError: No prompt, an empty one, the same label twice, an unknown label in a mapping,
            a threshold or resolution that cannot be used.

    Examples:
        >>> from remotesam_geo.words import CLASS_TEMPLATE, parse_prompts
        >>> plane, tank = parse_prompts(
        ...     ["airplane", "storage tank"], template=CLASS_TEMPLATE, threshold={"airplane": 0.4}
        ... )
        >>> plane.expressions, plane.threshold, tank.threshold
        (('airplane in the image',), 0.4, 0.5)
        >>> parse_prompts({"red roof": "the buildings with a red roof"})[0].label
        'red roof'
    """
    check_resolutions(resolution)
    if template is not None and "{name}" not in template:
        raise InputError(f"the template {template!r} has no place for the class: write '{{name}}'")
    pairs = _label_expression_pairs(prompts)
    if not pairs:
        raise InputError(f"no prompt in {prompts!r}: name at least one thing to look for")
    labels = _distinct_prompt_labels(label for label, _ in pairs)
    thresholds = _by_label(threshold, labels, "threshold")
    resolutions = _by_label(resolution, labels, "resolution")

    parsed = []
    for label, said in pairs:
        if isinstance(said, Prompt):
            expressions, own = said.expressions, said
        elif said is None:
            expressions = (template.replace("{name}", label) if template else label,)
            own = None
            if template is not None and suggest:
                _suggest_prompt_name(label)
        else:
            expressions, own = said, None
        limit: object = thresholds.get(label, own.threshold if own else DEFAULT_THRESHOLD)
        metres: object = resolutions.get(label, own.resolution if own else None)
        parsed.append(
            Prompt(
                label=label,
                expressions=expressions,
                threshold=_rounded_threshold(limit, label),
                resolution=_checked_resolution(metres, f"resolution of {label!r}"),
            )
        )
    for prompt in parsed:
        for expression in prompt.expressions:
            _warn_of_cut_prompt(expression, cut_words)
    if suggest:
        names = [label for label, said in pairs if said is None and template is not None]
        commas = warn_of_commas(parsed, names)
        if unknown_words is not None:
            warn_of_unknown_words(parsed, unknown_words, commas=commas)
    return tuple(parsed)


def threshold_steps(threshold: object, name: str = "threshold") -> int:
    """A threshold in steps of 0.005, rounded up: probabilities are stored in such steps.

    Examples:
        >>> from remotesam_geo.words import threshold_steps
        >>> threshold_steps(0.35), threshold_steps(0.333)
        (70, 67)
    """
    if not _is_prompt_number(threshold) or not 0 <= _finite_prompt_number(threshold) <= 1:
        raise InputError(f"{name} is {threshold!r}: give a number from 0 to 1")
    return ceil(float(threshold) * STEPS - 1e-4)  # numbers in float32 are a little off


def distinct_expressions(
    prompts: Sequence[Prompt], tokenize: Callable[[str], Sequence[Hashable]] | None = None
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """The expressions to ask, each once, and which of them answer each prompt.

    Args:
        prompts: Prompts that are asked at one resolution.
        tokenize: What the text encoder will read of an expression, so that those it cannot tell
            apart are asked once; without it, words compared without case and accents.

    Returns:
        The expressions in order of first use, and per prompt the indices of its own.

    Examples:
        >>> from remotesam_geo.words import distinct_expressions, parse_prompts
        >>> distinct_expressions(parse_prompts({"a": "the ship", "b": ["The Ship", "a pier"]}))
        (('the ship', 'a pier'), ((0,), (0, 1)))
    """
    tokenize = basic_words if tokenize is None else tokenize
    places: dict[tuple[Hashable, ...], int] = {}
    asked: list[str] = []
    answers = []
    for prompt in prompts:
        own: dict[int, None] = {}  # an ordered set
        for expression in prompt.expressions:
            place = places.setdefault(tuple(tokenize(expression)), len(asked))
            if place == len(asked):
                asked.append(expression)
            own[place] = None
        answers.append(tuple(own))
    return tuple(asked), tuple(answers)


def _label_expression_pairs(
    prompts: PromptLike,
) -> list[tuple[str, tuple[str, ...] | Prompt | None]]:
    """Label and what to ask under it; None for a bare name."""
    if isinstance(prompts, str | Prompt):
        prompts = [prompts]
    if isinstance(prompts, Mapping):
        return [
            (_words_of_text(label, "a label"), _expressions_of_label(label, said)) for label, said in prompts.items()
        ]
    several: object = prompts
    if isinstance(several, bytes) or not isinstance(several, Iterable):
        raise InputError(
            f"prompts are {prompts!r}: give a text, a list of texts, or a mapping from label to expression"
        )
    return [
        (prompt.label, prompt) if isinstance(prompt, Prompt) else (_words_of_text(prompt, "a prompt"), None)
        for prompt in prompts
    ]


def _expressions_of_label(label: object, said: object) -> tuple[str, ...]:
    if isinstance(said, str):
        return (said,)
    if isinstance(said, Iterable) and not isinstance(said, Mapping | bytes):
        return tuple(said)
    raise InputError(f"{label!r} maps to {said!r}: give its expression, or a list of expressions")


def _words_of_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{what} is {text!r} of type {type(text).__name__}: give a text")
    if not any(character.isalnum() for character in text):
        raise InputError(f"{what} is {text!r}, which holds no word: name a thing to look for")
    return " ".join(text.split())


def _comparable_prompt_label(label: str) -> tuple[str, ...]:
    return tuple(basic_words(" ".join(label.split())))


def _distinct_prompt_labels(labels: Iterable[str]) -> tuple[str, ...]:
    seen: dict[tuple[str, ...], str] = {}
    for label in labels:
        if first := seen.get(_comparable_prompt_label(label)):
            raise InputError(
                f"the label {label!r} is there twice"
                + (f" (also as {first!r})" if first != label else "")
                + ": give each label once, and several expressions of one label as a list, "
                + f"{{{first!r}: [...]}}"
            )
        seen[_comparable_prompt_label(label)] = label
    return tuple(seen.values())


def _by_label(given: Value | Mapping[str, Value] | None, labels: Sequence[str], what: str) -> dict[str, Value]:
    """A value for each label that one was given for."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(labels, given)
    known = {_comparable_prompt_label(label): label for label in labels}
    values: dict[str, Value] = {}
    for label, value in given.items():
        key = _comparable_prompt_label(label) if isinstance(label, str) else ()
        if key not in known:
            near = get_close_matches(str(label), labels, n=1)
            raise InputError(
                f"a {what} is given for {label!r}, which is not asked"
                + (f"; did you mean {near[0]!r}?" if near else "")
                + f" The labels are {', '.join(map(repr, labels))}."
            )
        if known[key] in values:
            raise InputError(f"a {what} is given twice for {known[key]!r}: give one")
        values[known[key]] = value
    return values


def check_resolutions(resolution: object) -> None:
    """Check the form of resolutions, before labels are known.

    Args:
        resolution: Metres a pixel, "auto" or "native"; or a mapping from labels to these; or None.

    Raises:
        InputError: One of them is something else.
    """
    if isinstance(resolution, Mapping):
        for label, value in resolution.items():
            _checked_resolution(value, f"resolution of {label!r}")
    else:
        _checked_resolution(resolution, "resolution")


def _rounded_threshold(value: object, label: str) -> float:
    return threshold_steps(value, f"the threshold of {label!r}") / STEPS


def _finite_prompt_number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return inf


def _is_prompt_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and type(value).__name__ not in ("bool", "bool_")


def _checked_resolution(value: object, name: str) -> Resolution:
    if value is None:
        return None
    if isinstance(value, str):
        if value in ("auto", "native"):
            return "auto" if value == "auto" else None
    elif _is_prompt_number(value):
        metres = _finite_prompt_number(value)
        if isfinite(metres) and metres > 0:
            return metres
    raise InputError(f"the {name} is {value!r}: give metres a pixel above 0, 'auto', or 'native' for the scene's own")


def _suggest_prompt_name(name: str) -> None:
    known = vocabulary()
    if known.has_spelling(name) or len(name) < SHORTEST_MISTAKE:
        return
    near = known.suggest(name, limit=1)
    if near:
        still = "; it is asked as written" if name in known else ""
        warn(
            f"{name!r} is no category of the vocabulary: did you mean {near[0]!r}?{still}",
            RemoteSAMWarning,
            stacklevel=3,
        )


def _warn_of_cut_prompt(expression: str, cut_words: Callable[[str], str] | None) -> None:
    cut = " ".join(basic_words(expression)[READ_WORDS:]) if cut_words is None else cut_words(expression)
    if cut:
        warn(
            f"the network reads 20 tokens of an expression; of {expression!r} it does not read "
            f"{cut!r}. Say it shorter.",
            RemoteSAMWarning,
            stacklevel=3,
        )
