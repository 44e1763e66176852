"""Large pictures as chips of the size that a network sees."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Example, Mask, Picture, Thing
from remotesam_geo.learning.evaluation.answerers import nearest
from remotesam_geo.model.processor import resize

__all__ = ["chips", "starts"]


def chips(
    examples: Iterable[Example],
    *,
    size: int,
    side: int | None = None,
    overlap: float = 0.25,
    empty: bool = False,
) -> Iterator[Example]:
    """Cut pictures into square chips that cover them, evenly spread; things keep the part that a chip shows.

    A picture is read when its turn comes.

    Args:
        examples: Pictures with things; class maps, labels, counts and captions of whole pictures are not carried over.
        size: Side of a chip in pixels of the picture; of a picture that is smaller, its shorter side.
        side: What a chip is resized to; nothing leaves it as it is.
        overlap: Share of a chip that its neighbour shows, too, at least.
        empty: Whether to give chips without a thing.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.training import chips
        >>> from remotesam_geo.learning.datasets import Example, Picture, Thing
        >>> picture = Picture.of("a.png", np.zeros((60, 100, 3), np.uint8))
        >>> ship = Thing(label="ship", box=(30, 10, 50, 20))
        >>> for chip in chips([Example(picture=picture, things=(ship,))], size=60, side=30):
        ...     print(chip.picture.name, chip.picture.shape, chip.things[0].box)
        a 0 0 (30, 30) (15, 5, 25, 10)
        a 40 0 (30, 30) (0, 5, 5, 10)
    """
    if size < 1 or (side is not None and side < 1) or not 0 <= overlap < 1:
        raise InputError(
            f"size={size}, side={side}, overlap={overlap}: give sides of one pixel at least and a share under 1."
        )
    for example in examples:
        rgb = example.picture.read()
        stem = example.picture.name.rsplit(".", 1)[0]
        square = min(size, *rgb.shape[:2])
        known = [(thing, thing.pixels(example.picture.shape)) for thing in example.things]
        for y in starts(rgb.shape[0], square, overlap):
            for x in starts(rgb.shape[1], square, overlap):
                box = (x, y, square, square if side is None else side)
                things = tuple(filter(None, (_part_of_thing(*one, box) for one in known)))
                if things or empty:
                    content = resize(rgb[y : y + square, x : x + square], box[3])
                    picture = Picture.of(f"{stem} {x} {y}", np.ascontiguousarray(content))
                    yield Example(picture=picture, things=things, split=example.split, source=example.source)


def starts(length: int, size: int, overlap: float) -> list[int]:
    """Where windows begin that cover a length, evenly spread, with so much overlap at least.

    Examples:
        >>> starts(100, 60, 0.25), starts(60, 60, 0.25)
        ([0, 40], [0])
    """
    more = -(-(length - size) // max(1, int(size * (1 - overlap))))
    return [round(number * (length - size) / more) for number in range(more + 1)] if more else [0]


def _part_of_thing(thing: Thing, mask: Mask, box: tuple[int, int, int, int]) -> Thing | None:
    """What a chip (x, y, side, side it is resized to) shows of a thing."""
    x, y, square, side = box
    whole = mask.box
    if whole is None or whole[0] >= x + square or whole[1] >= y + square or min(whole[2] - x, whole[3] - y) <= 0:
        return None  # fmt: skip
    seen = mask.pixels()[y : y + square, x : x + square]
    part = Mask.of(nearest(seen, (side, side)))
    if part.box is None:
        return None
    cut = {"cut": "yes"} if int(seen.sum()) < mask.area else {}
    return replace(thing, box=part.box, corners=None, mask=part, attributes={**thing.attributes, **cut})
