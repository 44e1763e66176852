"""Who answers: a network, any function, or an oracle that knows the truth. A picture is one view."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Example, Mask, Triplet
from remotesam_geo.predictors.protocol import predicted_probabilities
from remotesam_geo.tasks import FULL

__all__ = ["Answerer", "Chances", "Oracle", "answerer", "nearest", "resized"]

Chances = NDArray[np.float32]
RGB = NDArray[np.uint8]

TOGETHER = 8  # expressions whose maps are in memory at once


@runtime_checkable
class Answerer(Protocol):
    """What is evaluated: pictures and expressions in, probabilities out."""

    @property
    def identity(self) -> str:
        """What its answers depend on: the hash of its weights, or a name."""

    @property
    def image_size(self) -> int | None:
        """Side of the square that it sees, in pixels; None where it sees a picture as it is."""

    def answers(self, picture: RGB, expressions: Sequence[str]) -> Iterator[Chances]:
        """A map for each expression, one after the other.

        Args:
            picture: H x W x 3.
            expressions: As they are.

        Yields:
            Probabilities, S x S where there is a size, else H x W.
        """


def answerer(model: Any) -> Answerer:
    """A `RemoteSAM`, its model, or an `Answerer`, as an `Answerer`.

    Networks answer in float32; a model that only gives codes is read as the codes say.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(model, Answerer):
        return model
    inner = getattr(model, "model", model)
    size, identity = getattr(inner, "image_size", None), getattr(inner, "identity", None)
    if not isinstance(size, int) or not isinstance(identity, str):
        raise InputError(
            f"a {type(model).__name__} cannot be evaluated: give a RemoteSAM, or an object with identity, image_size "
            "and answers(picture, expressions)"
        )
    predictor = getattr(inner, "predictor", None)
    if predictor is not None:
        return _Square(
            image_size=size,
            identity=identity,
            ask=predictor.probabilities,
            together=predictor.probabilities_each,
        )
    return _Square(
        image_size=size,
        identity=identity,
        ask=lambda images, expressions: predicted_probabilities(inner, images, expressions),
    )


@dataclass(frozen=True, kw_only=True)
class _Square:
    """A network that sees squares of one size."""

    image_size: int
    identity: str
    ask: Callable[[RGB, Sequence[str]], Chances]  # B x S x S x 3 and P to B x P x S x S
    together: Callable[[RGB, Sequence[Sequence[str]]], Sequence[Chances]] | None = None

    def answers(self, picture: RGB, expressions: Sequence[str]) -> Iterator[Chances]:
        seen = resized(picture, (self.image_size, self.image_size))[None]
        for start in range(0, len(expressions), TOGETHER):
            yield from self.ask(seen, expressions[start : start + TOGETHER])[0]

    def answers_each(self, pictures: Sequence[RGB], questions: Sequence[Sequence[str]]) -> Sequence[Sequence[Chances]]:
        """Maps for several pictures with questions of their own, so that batches are full."""
        if self.together is None:
            return [list(self.answers(picture, asked)) for picture, asked in zip(pictures, questions, strict=True)]
        size = (self.image_size, self.image_size)
        squares = np.stack([resized(picture, size) for picture in pictures])
        return [list(maps) for maps in self.together(squares, questions)]


def resized(picture: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """A picture (H x W x 3, uint8) or a map (H x W, float32) at another size, bilinear and anti-aliased."""
    if picture.shape[:2] == shape:
        return picture
    height, width = shape
    image = Image.fromarray(np.ascontiguousarray(picture))
    back = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    if back.dtype == np.float32:
        np.clip(back, 0, 1, out=back)  # rounding may go beyond
    return back


def nearest(truth: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """A mask or class map at another size, each pixel from the nearest one."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(shape, truth.shape, strict=True)
    )
    drawn: NDArray[Any] = truth[rows[:, None], columns]
    return drawn


@dataclass
class Oracle:
    """Answers from the truth: what a perfect network would get, and so what a data set allows at best.

    Things of a class that touch are one for it as for any network, unless it is asked for contours too.

    Args:
        data: Examples or triplets, all that will be asked about.
        classes: What each label is asked as.
        identity: What its evidence is kept under.
        image_size: None: it answers at the size of each picture.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation import Oracle
        >>> from remotesam_geo.learning.datasets import Example, Picture, Thing
        >>> picture = Picture.of("a", np.zeros((4, 4, 3), np.uint8))
        >>> ship = Thing(label="ship", box=(0, 0, 2, 2))
        >>> oracle = Oracle([Example(picture=picture, things=(ship,))], {"ship": ("a ship",)})
        >>> [float(chance.sum()) for chance in oracle.answers(picture.read(), ["a ship", "a tree"])]
        [4.0, 0.0]
    """

    data: Iterable[Example | Triplet]
    classes: Mapping[str, Sequence[str]]
    identity: str = "oracle"
    image_size: None = None
    _known: dict[bytes, dict[str, Mask]] = field(default_factory=dict, repr=False)
    _lines: dict[bytes, list[Mask]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for one in self.data:
            key = _answered_picture_key(one.picture.read())
            own = self._known.setdefault(key, {})
            if isinstance(one, Triplet):
                own[one.expression] = one.mask
                continue
            self._lines.setdefault(key, []).extend(thing.pixels(one.picture.shape) for thing in one.things)
            for label, expressions in self.classes.items():
                mask = _answered_class_mask(one, label)
                own |= {expression: Mask.union([mask, own.get(expression, mask)]) for expression in expressions}
            for thing in one.things:
                own |= dict.fromkeys(thing.expressions, thing.pixels(one.picture.shape))

    def answers(self, picture: RGB, expressions: Sequence[str]) -> Iterator[Chances]:
        """The truth; nothing for what it does not know."""
        known = self._known.get(_answered_picture_key(picture), {})
        for expression in expressions:
            mask = known.get(expression)
            yield (np.zeros(picture.shape[:2], np.float32) if mask is None else mask.pixels().astype(np.float32))

    def contours(self, pictures: RGB) -> RGB:
        """Where one thing ends and another begins beside it, as codes (B x H x W x 3 to B x H x W)."""
        return np.stack([self._lines_of(picture) for picture in pictures])

    def _lines_of(self, picture: RGB) -> RGB:
        owner = np.zeros(picture.shape[:2], np.int64)
        for number, mask in enumerate(self._lines.get(_answered_picture_key(picture), ()), start=1):
            owner[mask.pixels()] = number
        line = np.zeros(owner.shape, np.bool_)
        for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
            moved = np.roll(owner, (-down, -across), axis=(0, 1))
            near = (owner != moved) & (owner > 0) & (moved > 0)
            if down:
                near[-1] = False
            if across:
                near[:, -1 if across > 0 else 0] = False
            line |= near
        return np.where(line, np.uint8(FULL), np.uint8(0))


def _answered_class_mask(example: Example, label: str) -> Mask:
    shape = example.picture.shape
    if example.classes is not None and label in example.classes.names:
        return Mask.of(example.classes.read() == example.classes.names.index(label))
    own = [thing.pixels(shape) for thing in example.things if thing.label == label]
    if own:
        return Mask.union(own)
    if label in example.labels:
        return Mask.of(np.ones(shape, np.bool_))
    return Mask.empty(shape)


def _answered_picture_key(picture: RGB) -> bytes:
    return hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).digest()
