"""The records: a picture with its truth, and the triplet of picture, expression and mask."""

import hashlib
import io
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.errors import InputError, one_of
from remotesam_geo.words import CLASS_TEMPLATE

from .faults import LIMITS, DamageError, SizeLimits
from .run_length_mask import Mask

__all__ = [
    "BACKGROUND",
    "UNKNOWN",
    "ClassMap",
    "Example",
    "GroundPlace",
    "Kind",
    "Picture",
    "Thing",
    "Triplet",
    "triplets_of",
]

Kind = Literal["one-to-one", "one-to-many", "one-to-zero"]
"""Whether an expression means one thing, all of a class, or nothing that is there."""
Box = tuple[float, float, float, float]
Corners = tuple[tuple[float, float], ...]

UNKNOWN = 255
"""In a class map: no truth here."""
BACKGROUND = "background"
"""The name of a class that is none, and that is not asked for."""
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}  # of 8 bits
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")


@dataclass(frozen=True, kw_only=True)
class GroundPlace:
    """Where a picture lies on Earth.

    Attributes:
        crs: Its CRS, as text that PROJ reads.
        transform: From column and row to the CRS: a, b, c, d, e, f.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]

    @property
    def affine(self) -> Affine:
        """The transform as an `Affine`."""
        return Affine(*self.transform)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture that is read when it is asked for.

    Attributes:
        name: What it is called in its data set; a file name, mostly.
        content: Its file, the bytes of one, or its pixels (H x W x 3).
        shape: Height and width; what is read has it.
        place: Where it lies.
        sha256: How the SHA-256 of its file begins, where that is known: another file is refused.
    """

    name: str
    content: Path | bytes | NDArray[np.uint8]
    shape: tuple[int, int]
    place: GroundPlace | None = None
    sha256: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        content: Path | bytes | NDArray[np.uint8],
        *,
        place: GroundPlace | None = None,
        limits: SizeLimits = LIMITS,
    ) -> "Picture":
        """A picture whose shape is found out: of a file only the header is read.

        Raises:
            DamageError: It is missing, no picture, or absurdly large.
        """
        if isinstance(content, np.ndarray):
            if content.dtype != np.uint8 or content.ndim != 3 or content.shape[2] != 3:
                raise InputError(
                    f"the picture {name!r} is {content.dtype} of the shape {content.shape}: give uint8 H x W x 3"
                )
            shape = (content.shape[0], content.shape[1])
        else:
            with _open_image(name, content) as opened:
                shape = (opened.height, opened.width)
        limits.check_size(shape, f"the picture {name!r}")
        return cls(name=name, content=content, shape=shape, place=place)

    def read(self) -> NDArray[np.uint8]:
        """Its pixels, H x W x 3.

        Raises:
            DamageError: The file cannot be read, or has changed its size.
        """
        if isinstance(self.content, np.ndarray):
            return self.content
        content: Path | bytes = self.content
        if self.sha256 and isinstance(content, Path):
            path, content = content, self._bytes()
            if not hashlib.sha256(content).hexdigest().startswith(self.sha256):
                raise DamageError("picture", f"the file {path} of the picture {self.name!r} is damaged")
        with _open_image(self.name, content) as opened:
            if (opened.height, opened.width) != self.shape:
                raise DamageError(
                    "picture",
                    f"the picture {self.name!r} has {opened.height} x {opened.width} pixels, no longer {self.shape}",
                )
            if opened.mode not in MODES:
                raise DamageError(
                    "picture",
                    f"the picture {self.name!r} of mode {opened.mode!r} does not hold 8-bit colours: stretch it first",
                )
            try:
                return np.asarray(opened.convert("RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                raise DamageError("picture", f"the picture {self.name!r} is cut off: {error}") from error

    def encoded(self) -> tuple[bytes, str]:
        """The bytes of its file as they are, or of a PNG, and the extension."""
        if isinstance(self.content, np.ndarray):
            buffer = io.BytesIO()
            Image.fromarray(self.content).save(buffer, "PNG")
            return buffer.getvalue(), ".png"
        data = self._bytes()
        with _open_image(self.name, data) as opened:
            extension = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}
            return data, extension.get(str(opened.format), f".{str(opened.format).lower()}")

    def _bytes(self) -> bytes:
        """The bytes of its file."""
        if not isinstance(self.content, Path):
            return bytes(self.content)
        try:
            return self.content.read_bytes()
        except OSError as error:
            raise DamageError(
                "missing picture", f"the picture {self.name!r} cannot be read: {error.strerror}"
            ) from error


def _open_image(name: str, content: Path | bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Our own limit is stricter than the one that Pillow warns of, or the user's own choice.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS)
    except FileNotFoundError:
        raise DamageError("missing picture", f"the picture {name!r} is missing") from None
    except Image.DecompressionBombError as error:
        raise DamageError(
            "size", f"the picture {name!r}: {error} For more, raise PIL.Image.MAX_IMAGE_PIXELS too."
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DamageError("picture", f"the picture {name!r} cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing that is known to be in a picture.

    Attributes:
        label: Its class, as the data set spells it.
        box: x0, y0, x1, y1 in pixels, half-open.
        corners: Four corners x, y, where it is known turned.
        mask: Its pixels, where they are known.
        difficult: Whether it need not be found.
        crowd: Whether it is many things in one.
        expressions: What it is called, as free text.
        id: Its number or name in the data set.
        attributes: What else is known of it ("colour": "red", ...).
    """

    label: str
    box: Box
    corners: Corners | None = None
    mask: Mask | None = None
    difficult: bool = False
    crowd: bool = False
    expressions: tuple[str, ...] = ()
    id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)

    def pixels(self, shape: tuple[int, int]) -> Mask:
        """Its mask; where none is known, its rectangle."""
        if self.mask is not None:
            return self.mask
        if self.corners is not None:
            return Mask.of_polygons([[value for point in self.corners for value in point]], shape)
        return Mask.of_box(self.box, shape)


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """One class for each pixel of a picture, in a file of its own.

    Attributes:
        path: The file: a palette, one channel of numbers, or colours.
        names: The classes 0, 1, ...; one called "background" is not asked for.
        colors: The colour of each class, where the file holds colours.
        first: The number in the file that means class 0, where it holds numbers.
        unknown: Numbers or colours that mean no truth.
    """

    path: Path
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] | None = None
    first: int = 0
    unknown: tuple[int | tuple[int, int, int], ...] = ()

    def read(self, limits: SizeLimits = LIMITS) -> NDArray[np.uint8]:
        """Classes, and `UNKNOWN` (H x W).

        Raises:
            DamageError: The file is missing, damaged, or holds a value that means nothing.
        """
        with _open_image(self.path.name, self.path) as opened:
            limits.check_size((opened.height, opened.width), f"the class map {self.path.name!r}")
            try:
                values = np.asarray(opened if self.colors is None else opened.convert("RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                raise DamageError("class map", f"{self.path.name} is cut off: {error}") from error
        if self.colors is None:
            if values.ndim != 2:
                raise DamageError("class map", f"{self.path.name} has {values.shape[2]} channels, not one")
            numbers = values.astype(np.int64)
            known = {self.first + k: k for k in range(len(self.names))}
            unknown = {value for value in self.unknown if isinstance(value, int)}
        else:
            numbers = _record_numbers(values)
            known = {_record_number(color): k for k, color in enumerate(self.colors)}
            unknown = {_record_number(value) for value in self.unknown if isinstance(value, tuple)}
        found, where = np.unique(numbers, return_inverse=True)
        table = []
        for value in found.tolist():
            if value not in known and value not in unknown:
                said = value if self.colors is None else (value >> 16, value >> 8 & 255, value & 255)
                raise DamageError("class map", f"{self.path.name} holds {said}, which is no class")
            table.append(known.get(value, UNKNOWN))
        return np.array(table, np.uint8)[where.reshape(numbers.shape)]


def _record_number(color: Sequence[int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _record_numbers(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    wide = rgb.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A picture with all that a data set says of it.

    Attributes:
        picture: The picture.
        things: Things in it.
        labels: Labels of the whole picture.
        captions: Sentences about it.
        counts: How many things of a class there are, where only that is known.
        classes: The class of each pixel.
        split: "train", "val", "test" or what the data set calls it; "" where it says nothing.
        source: The data set.
    """

    picture: Picture
    things: tuple[Thing, ...] = ()
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    classes: ClassMap | None = None
    split: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Triplet:
    """A picture, an expression, and the mask of what it means.

    Attributes:
        picture: The picture.
        expression: What is asked, as it is.
        mask: The answer.
        kind: Whether the expression means one thing, all of a class, or nothing that is there.
        label: The class it is about, "" where unknown.
        attributes: What the expression uses ("colour": "red", ...), or other notes.
        source: The data set.
        split: As in `Example`.
        id: Unique in its data set.
    """

    picture: Picture
    expression: str
    mask: Mask
    kind: Kind
    label: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    split: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))
        if self.mask.shape != self.picture.shape:
            raise DamageError(
                "mask",
                f"the mask of {self.expression!r} has the shape {self.mask.shape}, its picture {self.picture.name!r} "
                f"{self.picture.shape}",
            )


def triplets_of(
    example: Example,
    *,
    classes: Sequence[str] = (),
    absent: int = 0,
    template: str = CLASS_TEMPLATE,
    spelling: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Iterator[Triplet]:
    """The triplets of a picture: each thing's expressions, each class that is there, some that are not.

    Args:
        example: The picture with its truth.
        classes: All classes that the data set knows; absent ones are drawn from these.
        absent: How many absent classes to ask for (one-to-zero).
        template: How a class is asked for.
        spelling: How to write classes, where the data set's spelling is not to be asked.
        seed: Of the drawing; with the picture's name it decides.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.datasets import Example, Picture, Thing, triplets_of
        >>> picture = Picture.of("a", np.zeros((8, 8, 3), np.uint8))
        >>> ships = tuple(Thing(label="ship", box=(x, 0, x + 2, 2)) for x in (0, 4))
        >>> for triplet in triplets_of(Example(picture=picture, things=ships), classes=["ship", "dam"], absent=1):
        ...     print(triplet.kind, "|", triplet.expression, "|", triplet.mask.area)
        one-to-many | ship in the image | 8
        one-to-zero | dam in the image | 0
    """
    shape, name = example.picture.shape, example.picture.name
    spelled = spelling or {}

    def made(expression: str, mask: Mask, kind: Kind, label: str, number: int | str) -> Triplet:
        return Triplet(
            picture=example.picture, expression=expression, mask=mask, kind=kind, label=label,
            source=example.source, split=example.split, id=f"{name}/{number}",
        )  # fmt: skip

    for index, thing in enumerate(example.things):
        for turn, expression in enumerate(thing.expressions):
            number = f"{thing.id or index}" + (f".{turn}" if turn else "")
            yield made(expression, thing.pixels(shape), "one-to-one", thing.label, number)
    present = list(dict.fromkeys(thing.label for thing in example.things))
    class_map = None if example.classes is None else example.classes.read()
    if example.classes is not None and class_map is not None:
        for k, label in enumerate(example.classes.names):
            if label != BACKGROUND and (class_map == k).any():
                present.append(label)
                asked = template.replace("{name}", spelled.get(label, label))
                yield made(asked, Mask.of(class_map == k), "one-to-many", label, label)
    else:
        for label in present:
            masks = [thing.pixels(shape) for thing in example.things if thing.label == label]
            asked = template.replace("{name}", spelled.get(label, label))
            yield made(asked, Mask.union(masks), "one-to-many", label, label)
    missing = [label for label in classes if label not in present]
    chosen = random.Random(f"{seed} {name}").sample(missing, min(absent, len(missing)))  # noqa: S311
    for label in chosen:
        asked = template.replace("{name}", spelled.get(label, label))
        yield made(asked, Mask.empty(shape), "one-to-zero", label, label)
