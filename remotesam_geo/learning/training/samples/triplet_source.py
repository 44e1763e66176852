"""Triplets as batches: the same batch for the same step, in any process, at any time."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import NoneType

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, instance_of, number_in, one_of
from remotesam_geo.learning.datasets import Triplet, split_by_place
from remotesam_geo.learning.evaluation.answerers import nearest
from remotesam_geo.learning.labelling import PALETTE
from remotesam_geo.model.processor import resize

from .batches import Batch
from .flips import WAYS, Way, flipped, moved

__all__ = ["Augment", "TripletSource", "TripletSubset", "split_parts"]

COLOURS = frozenset({*PALETTE, "gray", "beige", "pink", "cyan", "dark", "light", "bright", "pale"})


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is changed from visit to visit; expressions stay true.

    Attributes:
        flip: Mirror pictures and turn them by half, and say left for right, top for bottom and so on.
        turn: Turn them by quarters, where no question names a direction.
        light: Largest change of brightness and of contrast, as a share. Hues are never moved, and where a question
            names a colour nothing is changed: a white roof in shade is a grey one.
    """

    flip: bool = True
    turn: bool = True
    light: float = 0.15

    def __post_init__(self) -> None:
        one_of("flip", self.flip, (True, False))
        one_of("turn", self.turn, (True, False))
        number_in("light", self.light, 0, 1)
        if self.light == 1:
            raise InputError("light=1 would turn pictures black: give a share below 1")


class TripletSubset(Sequence[Triplet]):
    """Some triplets of a sequence, by their numbers; none is held in memory."""

    def __init__(self, triplets: Sequence[Triplet], numbers: Sequence[int]) -> None:
        self._triplets, self._numbers = triplets, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Triplet:  # type: ignore[override]  # slices are not needed
        return self._triplets[self._numbers[index]]


def split_parts(
    triplets: Sequence[Triplet], *, held_out: float = 0.1, square: float = 2000.0, seed: int = 0
) -> tuple[TripletSubset, TripletSubset]:
    """What to train on, and what is held out.

    Triplets that say "train" and "val" are taken at their word. Where none says so, they are split by place: whole
    squares of the Earth on each side, pictures without a place by their name (see `split_by_place`).

    Args:
        triplets: All triplets.
        held_out: Share that is held out.
        square: Side of the squares in metres.
        seed: Of the split.

    Raises:
        InputError: One of the two is empty.
    """
    number_in("held_out", held_out, 0, 1)
    number_in("square", square, 0, open_low=True)
    number_in("seed", seed, 0, whole=True)
    numbers: dict[str, list[int]] = {"train": [], "val": []}
    said = {triplet.split for triplet in _checked_triplets(triplets)}
    known: dict[str, str | None] = {}
    shares = {"train": 1 - held_out, "val": held_out}
    for number, triplet in enumerate(triplets):
        if "train" in said:
            split: str | None = triplet.split
        else:
            name = triplet.picture.name
            if name not in known:
                one = next(split_by_place([triplet], shares=shares, square=square, seed=seed), None)
                known[name] = None if one is None else one.split
            split = known[name]
        if split in numbers:
            numbers[split].append(number)
    if not numbers["train"] or not numbers["val"]:
        raise InputError(
            f"{len(numbers['train'])} triplets to train on and {len(numbers['val'])} held out: choose another held_out="
            f"{held_out} or smaller squares than square={square:g} m, or give triplets with splits."
        )
    return TripletSubset(triplets, numbers["train"]), TripletSubset(triplets, numbers["val"])


def _checked_triplets(triplets: Sequence[Triplet]) -> Iterator[Triplet]:
    instance_of("triplets", triplets, Sequence, "a TripletStore or a list of triplets")
    for number, triplet in enumerate(triplets):
        instance_of(f"triplets[{number}]", triplet, Triplet, "a Triplet")
        yield triplet


class TripletSource:
    """Batches of triplets: pictures in an order of their own each round, some of the questions about each.

    Args:
        triplets: A `TripletStore`, a list, or a `TripletSubset`; those of one picture share its name.
        size: Side of the network's square; pictures of another size are resized to it, masks by the nearest pixel.
        pictures: Pictures a batch.
        questions: Expressions a picture; the kinds have equal chances, and come again where there are too few.
        augment: What to change; None for nothing.
        seed: Of all drawing.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.training import TripletSource
        >>> from remotesam_geo.learning.datasets import Mask, Picture, Triplet
        >>> picture = Picture.of("a", np.zeros((40, 40, 3), np.uint8))
        >>> mask = Mask.of_box((0, 0, 9, 9), (40, 40))
        >>> one = Triplet(picture=picture, expression="ship", mask=mask, kind="one-to-many")
        >>> batch = TripletSource([one], 32, pictures=1, questions=2).batch(0)
        >>> batch.pictures.shape, batch.masks.shape, batch.kinds
        ((1, 32, 32, 3), (1, 2, 32, 32), (('one-to-many', 'one-to-many'),))
    """

    def __init__(
        self,
        triplets: Sequence[Triplet],
        size: int,
        *,
        pictures: int = 2,
        questions: int = 2,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        number_in("pictures", pictures, 1, whole=True)
        number_in("questions", questions, 1, whole=True)
        number_in("size", size, 1, whole=True)
        number_in("seed", seed, 0, whole=True)
        instance_of("augment", augment, (Augment, NoneType), "an Augment")
        self._triplets, self._size = triplets, size
        self._pictures, self._questions = pictures, questions
        self._augment, self._seed = augment, seed
        by_name: dict[str, dict[str, list[int]]] = {}
        for number, triplet in enumerate(_checked_triplets(triplets)):
            by_name.setdefault(triplet.picture.name, {}).setdefault(triplet.kind, []).append(number)
        if not by_name:
            raise InputError("there is no triplet: give one at least.")
        self._asked = list(by_name.values())
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    @property
    def batches(self) -> int:
        """Batches until each picture was there once."""
        return -(-len(self._asked) // self._pictures)

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        first = step * self._pictures
        seen = [self._one(number) for number in range(first, first + self._pictures)]
        return Batch(
            pictures=np.stack([rgb for rgb, _, _, _ in seen]),
            expressions=tuple(texts for _, texts, _, _ in seen),
            masks=np.stack([masks for _, _, masks, _ in seen]),
            kinds=tuple(kinds for _, _, _, kinds in seen),
        )

    def _one(self, number: int) -> tuple[NDArray[np.uint8], tuple[str, ...], NDArray[np.uint8], tuple[str, ...]]:
        round_, place = divmod(number, len(self._asked))
        if self._order[0] != round_:
            order = np.random.default_rng([self._seed, round_]).permutation(len(self._asked))
            self._order = round_, order
        rng = random.Random(f"{self._seed} {number}")  # noqa: S311 - no secrets
        asked = self._asked[int(self._order[1][place])]
        some = [self._triplets[k] for k in _drawn_triplets(asked, self._questions, rng)]
        rgb = resize(some[0].picture.read(), self._size)
        shape = (self._size, self._size)
        masks = [nearest(t.mask.pixels().astype(np.uint8), shape) for t in some]
        texts = [t.expression for t in some]
        if self._augment is not None:
            rgb, texts, masks = self._changed(rgb, some, masks, rng)
        return rgb, tuple(texts), np.stack(masks), tuple(t.kind for t in some)

    def _changed(
        self,
        rgb: NDArray[np.uint8],
        some: Sequence[Triplet],
        masks: list[NDArray[np.uint8]],
        rng: random.Random,
    ) -> tuple[NDArray[np.uint8], list[str], list[NDArray[np.uint8]]]:
        augment = self._augment or Augment(flip=False, turn=False, light=0)
        texts = [t.expression for t in some]
        possible: dict[Way, list[str]] = {}
        for way in WAYS:
            wanted = augment.turn if "quarter" in way else augment.flip or way == "as it is"
            new = [flipped(t.expression, way, relation=t.attributes.get("rule") == "relation") for t in some]
            if wanted and (sure := [text for text in new if text is not None]) and len(sure) == len(new):
                possible[way] = sure
        way = rng.choice(list(possible))
        brightness, contrast = (1 + augment.light * rng.uniform(-1, 1) for _ in range(2))
        if augment.light and not _names_colour(texts):
            rgb = _relit_picture(rgb, brightness, contrast)
        return moved(rgb, way), possible[way], [moved(mask, way) for mask in masks]


def _drawn_triplets(asked: dict[str, list[int]], count: int, rng: random.Random) -> list[int]:
    """Numbers of triplets: a kind at random, one of it, none twice before all were drawn."""
    chosen: list[int] = []
    left: dict[str, list[int]] = {}
    while len(chosen) < count:
        if not left:
            left = {kind: list(numbers) for kind, numbers in asked.items()}
        kind = rng.choice(list(left))
        chosen.append(left[kind].pop(rng.randrange(len(left[kind]))))
        if not left[kind]:
            del left[kind]
    return chosen


def _names_colour(texts: Iterable[str]) -> bool:
    return any(not COLOURS.isdisjoint(text.lower().replace("-", " ").split()) for text in texts)


def _relit_picture(rgb: NDArray[np.uint8], brightness: float, contrast: float) -> NDArray[np.uint8]:
    values = rgb.astype(np.float32)
    middle = values.mean()
    lit = ((values - middle) * contrast + middle) * brightness
    return np.asarray(lit.round().clip(0, 255), np.uint8)
