"""Expressions by a writer: local patches are described, descriptions parsed, and what they mean is drawn by others."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, each_of, instance_of, number_in
from remotesam_geo.learning.datasets import Mask, Triplet
from remotesam_geo.learning.evaluation import answerer
from remotesam_geo.learning.evaluation.answerers import resized
from remotesam_geo.words import view_words

from .mask_sources import agreement
from .replies import read_reply
from .steps import Material, Refused, describe, related

__all__ = ["CAPTION_PROMPT", "PARSE_PROMPT", "AskedModel", "Captioned", "Referrer", "Writer"]


Pixels = NDArray[np.uint8]
Writer = Callable[[Pixels | None, str], str]
"""Writes what it is asked for: from a picture (H x W x 3) or None, and a request, to a text."""
Referrer = Callable[[Pixels, Sequence[str]], Sequence[NDArray[np.bool_]]]
"""Draws what expressions mean: from a picture (H x W x 3) and expressions to a mask (H x W) each, empty for nothing."""

CAPTION_PROMPT = (
    "This is a part of a picture taken from the air or from space. Describe the objects on the ground that can be told "
    "apart: what each is, its colour, its size, its shape, and what lies next to it. Speak only of what can be seen."
)
"""What a writer is asked of a patch."""
PARSE_PROMPT = (
    "Below is a description of an aerial picture. For each class of objects in it, choose the one object that is "
    "described best, and write one short noun phrase of at most {words} words by which only this object is meant. "
    "{classes}Answer with a single JSON object whose keys are class names and whose values are the phrases, and with "
    'nothing else. Example: {{"ship": "the white ship next to the long pier"}}\n\nDescription: {caption}'
)
"""What it is asked then; {words}, {classes} and {caption} are filled in."""


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """Draws what an expression means by a model that takes expressions: RemoteSAM itself (a referrer of `Captioned`).

    Attributes:
        model: A `RemoteSAM`, or whatever `remotesam_geo.learning.evaluation` takes for one.
        threshold: Above which a probability means yes.
    """

    model: Any = field(repr=False)
    threshold: float = 0.5

    def __repr__(self) -> str:
        return f"AskedModel(model={answerer(self.model).identity}, threshold={self.threshold})"

    def __call__(self, rgb: Pixels, expressions: Sequence[str]) -> list[NDArray[np.bool_]]:
        """A mask (H x W) for each expression."""
        chances = answerer(self.model).answers(rgb, expressions)
        return [resized(chance, rgb.shape[:2]) > self.threshold for chance in chances]


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One-to-one expressions from captions of local patches, drawn where referrers agree.

    A patch is captioned, the caption parsed to one expression a class, and referrers are asked each expression of the
    whole picture: what they draw outside the patch shows that the words fit something else as well. What is not taken
    is counted with its reason.

    Attributes:
        writer: Who describes and parses, such as `neural.QwenWriter`.
        referrers: Who draws, such as `AskedModel` or `neural.BoxedSegmenter`; with one there is no agreement to be had.
        classes: The classes that may be named; none for any.
        side: Of a patch in pixels; a smaller picture is one patch.
        overlap: Pixels that neighbouring patches share at least.
        least: The mean IoU of each two referrers' masks that is needed.
        inside: Share of the mask that must lie in the patch.
        words: Words that an expression has at most.
        caption: The request for a caption.
        parse: The request for JSON, with places for {words}, {classes} and {caption}.
    """

    writer: Writer
    referrers: tuple[Referrer, ...]
    classes: tuple[str, ...] = ()
    side: int = 448
    overlap: int = 0
    least: float = 0.5
    inside: float = 0.8
    words: int = 20
    caption: str = CAPTION_PROMPT
    parse: str = PARSE_PROMPT

    def __post_init__(self) -> None:
        if not each_of("referrers", self.referrers, object, "referrers"):
            raise InputError("referrers is empty: give one referrer at least")
        each_of("classes", self.classes, str, "names of classes")
        number_in("least", self.least, 0, 1)
        number_in("inside", self.inside, 0, 1)
        number_in("side", self.side, 1, whole=True)
        number_in("overlap", self.overlap, 0, self.side - 1, whole=True)
        number_in("words", self.words, 1, whole=True)
        instance_of("caption", self.caption, str, "text")
        instance_of("parse", self.parse, str, "text")
        try:
            self.parse.format(words=self.words, classes="", caption="")
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"parse={self.parse!r} cannot be filled in ({error}): name {{words}}, {{classes}} and {{caption}}, and "
                "write other braces twice"
            ) from error

    def __repr__(self) -> str:
        who = ", ".join(map(describe, self.referrers))
        rest = (self.classes, self.side, self.overlap, self.least, self.inside, self.words)
        asked = (self.caption, self.parse)
        return f"Captioned(writer={describe(self.writer)}, referrers=({who}), {rest}, {asked})"

    def __call__(self, material: Material, rng: random.Random) -> Iterator[Triplet | Refused]:  # noqa: ARG002 - nothing is drawn
        """One-to-one, or one-to-many where several known things are meant; and what was refused."""
        rgb = material.rgb
        patches = _patches_of_picture((rgb.shape[0], rgb.shape[1]), self.side, self.overlap)
        said: list[tuple[_Patch, str, str]] = []
        for patch in patches:
            reply = read_reply(self._written(rgb, patch), classes=self.classes, words=self.words)
            yield from (Refused(what="caption", reason=reason) for reason in reply.refused)
            for label, text in reply.said.items():
                if len(patches) > 1 and view_words(text):
                    yield Refused(what="caption", reason="true of its patch only")
                else:
                    said.append((patch, label, text))
        if not said:
            return
        drawn = [refer(rgb, [text for _, _, text in said]) for refer in self.referrers]
        for (patch, label, text), versions in zip(said, zip(*drawn, strict=True), strict=True):
            mask, reason = self._agreed(patch, versions)
            if reason:
                yield Refused(what="one-to-one", reason=reason)
            else:
                yield _captioned_triplet(material, patch, label, text, mask)

    def _written(self, rgb: Pixels, patch: "_Patch") -> str:
        x0, y0, x1, y1 = patch
        caption = self.writer(np.ascontiguousarray(rgb[y0:y1, x0:x1]), self.caption)
        only = f"Use only these classes: {', '.join(self.classes)}. " if self.classes else ""
        return self.writer(None, self.parse.format(words=self.words, classes=only, caption=caption))

    def _agreed(self, patch: "_Patch", versions: Sequence[NDArray[np.bool_]]) -> tuple[NDArray[np.bool_], str]:
        """The pixels that most referrers mean, and what is wrong with them."""
        whole = np.asarray(np.sum(versions, axis=0) * 2 > len(versions), np.bool_)
        if not any(version.any() for version in versions):
            return whole, "nobody finds it"
        if agreement(versions) < self.least or not whole.any():
            return whole, "referrers disagree"
        x0, y0, x1, y1 = patch
        within = whole[y0:y1, x0:x1].sum() / whole.sum()
        return whole, "" if within >= self.inside else "means something outside its patch"


_Patch = tuple[int, int, int, int]


def _patches_of_picture(shape: tuple[int, int], side: int, overlap: int) -> list[_Patch]:
    """Patches of one size that cover a picture, x0, y0, x1, y1; evenly spread, none beyond the border."""
    height, width = (min(side, length) for length in shape)
    tops, lefts = (_patch_starts(length, side, overlap) for length in shape)
    return [(x, y, x + width, y + height) for y in tops for x in lefts]


def _patch_starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(k * (length - side) / (count - 1)) for k in range(count)]


def _captioned_triplet(material: Material, patch: _Patch, label: str, text: str, mask: NDArray[np.bool_]) -> Triplet:
    example = material.example
    meant = 0
    for thing in example.things:
        if thing.mask is not None and related(thing.label, label):
            own = thing.mask.pixels()
            meant += int((own & mask).sum()) * 2 > int(own.sum())
    place = " ".join(map(str, patch))
    return Triplet(
        picture=example.picture, expression=text, mask=Mask.of(mask), kind="one-to-many" if meant > 1 else "one-to-one",
        label=label, attributes={"rule": "caption", "patch": place}, source=example.source, split=example.split,
        id=f"{example.picture.name}/caption {place} {label}",
    )  # fmt: skip
