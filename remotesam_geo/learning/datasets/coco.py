"""COCO: boxes and masks of things, in one JSON file."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Unpack

from .faults import (
    DamageError,
    ReaderLog,
    ReadOptions,
    SizeLimits,
    entry,
    label_json,
    listed,
    number,
    reader,
    short,
)
from .picture_files import checked_box, known_picture, write_picture, write_whole
from .records import Example, Picture, Thing
from .run_length_mask import Mask

__all__ = ["read_coco", "write_coco"]


@reader
def read_coco(
    labels: Path | str,
    images: Path | str,
    *,
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures of a COCO file, in the order of their ids; those without things too.

    Args:
        labels: The JSON file.
        images: Where the pictures lie.
        split: What the file is.
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing or damaged.
    """
    labels, folder = Path(labels), Path(images)
    log = ReaderLog(**options)
    whole = label_json(labels, log.limits)
    names = {
        entry(row, "id", (int, str), "a category"): entry(row, "name", str, "a category")
        for row in entry(whole, "categories", list, labels.name)
    }
    rows: dict[Any, dict[str, Any]] = {}
    for row in entry(whole, "images", list, labels.name):
        with log.passing(labels.name):
            key = entry(row, "id", (int, str), "an image")
            if key in rows:
                raise DamageError("label file", f"the image {key!r} is there twice")
            rows[key] = row
    of: dict[Any, list[Any]] = {key: [] for key in rows}
    for row in entry(whole, "annotations", list, labels.name):
        with log.passing(labels.name):
            key = entry(row, "image_id", (int, str), "an annotation")
            if key not in of:
                raise DamageError("label file", f"an annotation is of the image {key!r}, which is not listed")
            of[key].append(row)
    for key in sorted(rows, key=lambda key: (isinstance(key, str), key)):
        row = rows[key]
        with log.passing(str(row.get("file_name", key))):
            shape = (entry(row, "height", int, "an image"), entry(row, "width", int, "an image"))
            name = entry(row, "file_name", str, "an image")
            picture = known_picture(folder, name, shape, log.limits)
            things = []
            for annotation in of[key]:
                with log.passing(name):
                    things.append(_thing_of_annotation(annotation, picture, names, log.limits))
            yield Example(picture=picture, things=tuple(things), split=split, source=log.source)
    log.warn(f"reading {labels.name}")


def _thing_of_annotation(row: dict[str, Any], picture: Picture, names: dict[Any, str], limits: SizeLimits) -> Thing:
    label = listed(names, row.get("category_id"))
    if label is None:
        raise DamageError(
            "label file",
            f"an annotation has the category {short(row.get('category_id'))}, which is not listed",
        )
    numbers = entry(row, "bbox", list, "an annotation")
    if len(numbers) != 4:
        raise DamageError("label file", f"an annotation has bbox={numbers}")
    x, y, width, height = (number(value, "a side of a box") for value in numbers)
    what = f"annotation {row.get('id')}"
    segmentation = row.get("segmentation")
    return Thing(
        label=label,
        box=checked_box((x, y, x + width, y + height), picture.shape, what),
        mask=Mask.of_coco(segmentation, picture.shape, limits=limits) if segmentation else None,
        crowd=bool(row.get("iscrowd", 0)),
        id=str(row.get("id", "")),
    )


def write_coco(examples: Iterable[Example], folder: Path | str) -> int:
    """Write things as `annotations.json` beside `images/`; the number of pictures written."""
    folder = Path(folder)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    labels: dict[str, int] = {}
    for example in examples:
        height, width = example.picture.shape
        name = write_picture(example.picture, folder / "images")
        images.append({"id": len(images), "file_name": name, "height": height, "width": width})
        for thing in example.things:
            x0, y0, x1, y1 = thing.box
            row: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": images[-1]["id"],
                "category_id": labels.setdefault(thing.label, len(labels) + 1),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": thing.mask.area if thing.mask is not None else (x1 - x0) * (y1 - y0),
                "iscrowd": int(thing.crowd),
            }
            if thing.mask is not None:
                row["segmentation"] = thing.mask.to_coco()
            annotations.append(row)
    categories = [{"id": k, "name": label} for label, k in labels.items()]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    write_whole(folder / "annotations.json", json.dumps(whole).encode())
    return len(images)
