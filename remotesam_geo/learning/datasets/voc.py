"""Pascal VOC in XML, as DIOR has it, and DIOR-RSVG, which adds a description to each object."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Unpack
from xml.sax.saxutils import escape

from remotesam_geo.errors import MissingExtraError

from .faults import (
    DamageError,
    ReaderLog,
    ReadOptions,
    SizeLimits,
    label_bytes,
    label_text,
    number,
    reader,
)
from .picture_files import checked_box, opened_picture, write_picture, write_whole
from .records import Example, Picture, Thing

__all__ = ["read_rsvg", "read_voc", "write_rsvg", "write_voc"]


@reader
def read_voc(
    labels: Path | str,
    images: Path | str,
    *,
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures of a folder of VOC files, by name.

    Boxes are taken as they are written: xmax and ymax as the edge, not as the last pixel.

    Args:
        labels: The folder of XML files; they are read without entities, so that no file can grow or reach out.
        images: Where the pictures lie.
        split: What the folder is.
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing, damaged or hostile.
        MissingExtraError: defusedxml is not installed.
    """
    log = ReaderLog(**options)
    for path in _annotation_files(Path(labels)):
        with log.passing(path.name):
            root = _parse_xml(path, log.limits)
            picture = _picture_of_annotation(root, path, Path(images), log.limits)
            things = []
            for position, element in enumerate(root.iter("object")):
                with log.passing(f"{path.name}, object {position}"):
                    things.append(_thing_of_element(element, picture, str(position)))
            yield Example(picture=picture, things=tuple(things), split=split, source=log.source)
    log.warn(f"reading {Path(labels).name}")


@reader
def read_rsvg(
    folder: Path | str,
    split: str,
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures of DIOR-RSVG with the objects of one split, each with its description.

    `train.txt`, `val.txt` and `test.txt` hold numbers: objects are counted through all XML files in the order of
    their names. A file that is missing or added would shift all numbers behind it unseen, so a number beyond the
    last object is an error whatever `on_error` says.

    Args:
        folder: With `Annotations`, `JPEGImages` and the split's file of numbers.
        split: "train", "val" or "test".
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing, damaged or hostile, or the numbers do not fit the files.
    """
    folder = Path(folder)
    log = ReaderLog(**options)
    numbers = set()
    for line in label_text(folder / f"{split}.txt", log.limits).split():
        if not line.isdecimal():
            raise DamageError("label file", f"{split}.txt holds {line[:20]!r}, no number of an object")
        numbers.add(int(line))
    place = 0
    for path in _annotation_files(folder / "Annotations"):
        root = _parse_xml(path, log.limits)  # unreadable, it would shift the numbers: never passed over
        objects = list(root.iter("object"))
        chosen = {k: element for k, element in enumerate(objects, place) if k in numbers}
        place += len(objects)
        if not chosen:
            continue
        with log.passing(path.name):
            picture = _picture_of_annotation(root, path, folder / "JPEGImages", log.limits)
            things = []
            for k, element in chosen.items():
                with log.passing(f"{path.name}, object {k}"):
                    things.append(_thing_of_element(element, picture, str(k), described=True))
            yield Example(picture=picture, things=tuple(things), split=split, source=log.source)
    if numbers and max(numbers) >= place:
        raise DamageError(
            "label file",
            f"{split}.txt asks for object {max(numbers)}, but the files hold {place}: one is missing, so that all "
            "numbers behind it mean other objects",
        )
    log.warn(f"reading {folder.name}")


def write_voc(examples: Iterable[Example], folder: Path | str) -> int:
    """Write things as `Annotations/*.xml` beside `JPEGImages/`; the number of pictures written."""
    folder, count = Path(folder), 0
    for example in examples:
        _write_annotation(example, folder, [""] * len(example.things))
        count += 1
    return count


def write_rsvg(examples: Iterable[Example], folder: Path | str) -> int:
    """Write things with their expressions as DIOR-RSVG has them; the number of objects written.

    An object is written once for each of its expressions. Splits go into files of numbers.
    """
    folder = Path(folder)
    splits: dict[str, list[int]] = {}
    place = 0
    # Objects are counted in the order of the files' names, so that is the order to write in.
    for example in sorted(examples, key=lambda example: Path(example.picture.name).stem):
        said = [(thing, text) for thing in example.things for text in thing.expressions]
        one_each = Example(picture=example.picture, things=tuple(thing for thing, _ in said), split=example.split)
        _write_annotation(one_each, folder, [text for _, text in said])
        splits.setdefault(example.split or "train", []).extend(range(place, place + len(said)))
        place += len(said)
    for split, numbers in splits.items():
        write_whole(folder / f"{split}.txt", "".join(f"{k}\n" for k in numbers).encode())
    return place


def _annotation_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise DamageError("missing labels", f"there is no .xml file in {folder}")
    return files


def _parse_xml(path: Path, limits: SizeLimits) -> Any:
    try:
        from defusedxml import DefusedXmlException  # noqa: PLC0415 - an extra
        from defusedxml.ElementTree import ParseError, fromstring  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "reading XML of others needs defusedxml: pip install 'remotesam-geo[evaluate]'"
        ) from error
    try:
        return fromstring(label_bytes(path, limits), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DamageError("xml", f"{path.name} defines entities or a document type: {error}") from error
    except (ParseError, ValueError, LookupError) as error:
        raise DamageError("label file", f"{path.name} is no XML: {error}") from error


def _picture_of_annotation(root: Any, path: Path, images: Path, limits: SizeLimits) -> Picture:
    name = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
    return opened_picture(images, name, limits)


def _thing_of_element(element: Any, picture: Picture, place: str, *, described: bool = False) -> Thing:
    label = (element.findtext("name") or "").strip()
    said = " ".join((element.findtext("description") or "").split())
    if not label or (described and not said):
        raise DamageError("label file", "an object has no name" if not label else "no description")
    box = element.find("bndbox")
    if box is None:
        raise DamageError("label file", f"the object {label!r} has no bndbox")
    sides = [number(box.findtext(side), side) for side in ("xmin", "ymin", "xmax", "ymax")]
    return Thing(
        label=label,
        box=checked_box(sides, picture.shape, label),
        difficult=(element.findtext("difficult") or "0").strip() == "1",
        expressions=(said,) if said else (),
        id=place,
    )


def _write_annotation(example: Example, folder: Path, said: list[str]) -> None:
    name = write_picture(example.picture, folder / "JPEGImages")
    height, width = example.picture.shape
    lines = [
        f"<annotation><filename>{escape(name)}</filename>",
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    for thing, text in zip(example.things, said, strict=True):
        sides = zip(("xmin", "ymin", "xmax", "ymax"), thing.box, strict=True)
        box = "".join(f"<{side}>{value:.12g}</{side}>" for side, value in sides)
        # Readers of DIOR-RSVG count on this order, the description as the fourth child.
        lines.append(
            f"<object><name>{escape(thing.label)}</name><difficult>{int(thing.difficult)}</difficult>"
            f"<bndbox>{box}</bndbox>" + (f"<description>{escape(text)}</description>" if text else "") + "</object>"
        )
    lines.append("</annotation>")
    write_whole(folder / "Annotations" / f"{Path(name).stem}.xml", "\n".join(lines).encode())
