"""One class a pixel: LoveDA, Potsdam and Vaihingen, iSAID with its instances."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from .faults import DamageError, ReaderLog, ReadOptions, SizeLimits, reader
from .picture_files import checked_box, opened_picture, write_picture
from .records import BACKGROUND, UNKNOWN, ClassMap, Example, Picture, Thing
from .run_length_mask import Mask

__all__ = [
    "ISAID",
    "LOVEDA",
    "POTSDAM",
    "read_class_maps",
    "read_isaid",
    "read_loveda",
    "read_potsdam",
    "write_isaid",
    "write_loveda",
    "write_potsdam",
]

Color = tuple[int, int, int]

ISAID: dict[str, Color] = {
    BACKGROUND: (0, 0, 0),
    "ship": (0, 0, 63),
    "storagetank": (0, 63, 63),
    "baseballfield": (0, 63, 0),
    "tenniscourt": (0, 63, 127),
    "basketballcourt": (0, 63, 191),
    "groundtrackfield": (0, 63, 255),
    "bridge": (0, 127, 63),
    "large-vehicle": (0, 127, 127),
    "small-vehicle": (0, 0, 127),
    "helicopter": (0, 0, 191),
    "swimming-pool": (0, 0, 255),
    "roundabout": (0, 191, 127),
    "soccer-ball-field": (0, 127, 191),
    "airplane": (0, 127, 255),
    "harbor": (0, 100, 155),
}
"""Classes of iSAID and their colours."""
LOVEDA = (BACKGROUND, "building", "road", "water", "barren", "forest", "agriculture")
"""Classes of LoveDA; in its files 1 to 7, and 0 for no truth."""
POTSDAM: dict[str, Color] = {
    "impervious_surface": (255, 255, 255),
    "building": (0, 0, 255),
    "low_vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
"""Classes of Potsdam and Vaihingen and their colours; black is a border without truth."""

COLOURS, IDS = "_instance_color_RGB", "_instance_id_RGB"


@reader
def read_class_maps(
    images: Path | str,
    maps: Path | str,
    names: Sequence[str],
    *,
    colors: Sequence[Color] | None = None,
    first: int = 0,
    unknown: Sequence[int | Color] = (),
    suffix: str = "",
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures with a class map each, by name; any layout of two folders.

    Args:
        images: Where the pictures lie.
        maps: Where the class maps lie.
        names: The classes.
        colors: Their colours in the maps; without them the maps hold numbers.
        first: The number of the first class.
        unknown: Numbers or colours without truth.
        suffix: What the names of maps have behind that of their picture.
        split: What the folder is.
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing or damaged.
    """
    folder = Path(maps)
    log = ReaderLog(**options)
    files = [path for path in sorted(folder.glob(f"*{suffix}.*")) if path.stem.endswith(suffix)]
    if not files:
        raise DamageError("missing labels", f"there is no class map *{suffix}.* in {folder}")
    for path in files:
        with log.passing(path.name):
            stem = path.stem.removesuffix(suffix)
            picture = opened_picture(Path(images), f"{stem}{path.suffix}", log.limits)
            classes = ClassMap(
                path=path,
                names=tuple(names),
                colors=None if colors is None else tuple(colors),
                first=first,
                unknown=tuple(unknown),
            )
            if classes.read(log.limits).shape != picture.shape:
                raise DamageError("class map", f"it has another size than its picture, {picture.shape}")
            yield Example(picture=picture, classes=classes, split=split, source=log.source)
    log.warn(f"reading {folder.name}")


@reader
def read_loveda(
    folder: Path | str,
    *,
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """LoveDA: `Urban` and `Rural`, each with `images_png` and `masks_png`; or a folder with those two."""
    options.setdefault("source", "LoveDA")
    folder = Path(folder)
    parts = [part for part in (folder / "Rural", folder / "Urban") if part.is_dir()] or [folder]
    for part in parts:
        yield from read_class_maps(
            part / "images_png", part / "masks_png", LOVEDA, first=1, unknown=(0,), split=split,
            **options,
        )  # fmt: skip


@reader
def read_potsdam(
    images: Path | str,
    maps: Path | str,
    *,
    numbers: bool = False,
    suffix: str = "",
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Potsdam or Vaihingen: labels in colours as published, or as numbers 1 to 6, 0 for none (`numbers`)."""
    options.setdefault("source", "Potsdam")
    yield from read_class_maps(
        images, maps, tuple(POTSDAM), colors=None if numbers else tuple(POTSDAM.values()),
        first=1, unknown=(0,) if numbers else ((0, 0, 0),), suffix=suffix, split=split,
        **options,
    )  # fmt: skip


@reader
def read_isaid(
    images: Path | str,
    maps: Path | str,
    *,
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """iSAID: classes from `*_instance_color_RGB`, and where `*_instance_id_RGB` lies beside, things with masks."""
    options.setdefault("source", "iSAID")
    log = ReaderLog(**options)
    for example in read_class_maps(
        images, maps, tuple(ISAID), colors=tuple(ISAID.values()), suffix=COLOURS, split=split,
        source=log.source, on_error=log.on_error, faults=log.faults, limits=log.limits,
    ):  # fmt: skip
        classes = example.classes
        if classes is None:
            continue
        path = classes.path.with_name(f"{classes.path.stem.removesuffix(COLOURS)}{IDS}.png")
        with log.passing(path.name):
            things = _isaid_instances_of_class_map(path, classes, example.picture, log.limits) if path.is_file() else ()
            yield Example(
                picture=example.picture,
                classes=classes,
                things=things,
                split=split,
                source=log.source,
            )
    log.warn(f"reading {Path(maps).name}")


def _isaid_instances_of_class_map(
    path: Path, classes: ClassMap, picture: Picture, limits: SizeLimits
) -> tuple[Thing, ...]:
    drawn = Picture.of(path.name, path, limits=limits)
    rgb = drawn.read().astype(np.int64)
    ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
    labels = classes.read(limits)
    if ids.shape != labels.shape:
        raise DamageError("class map", f"instances {ids.shape}, classes {labels.shape}")
    things = []
    for value in np.unique(ids[ids > 0]).tolist():
        pixels = ids == value
        of = np.bincount(labels[pixels], minlength=256)
        of[[0, UNKNOWN]] = 0
        if not of.any():
            continue  # an instance on the background is none
        mask = Mask.of(pixels)
        things.append(
            Thing(
                label=classes.names[int(of.argmax())],
                box=checked_box(mask.box or (0, 0, 0, 0), picture.shape, f"instance {value}"),
                mask=mask,
                id=str(value),
            )
        )
    return tuple(things)


def write_loveda(examples: Iterable[Example], folder: Path | str) -> int:
    """Write class maps as one part of LoveDA has them; the number of pictures written."""
    return _write_class_maps(examples, Path(folder) / "images_png", Path(folder) / "masks_png", LOVEDA, None)


def write_potsdam(examples: Iterable[Example], folder: Path | str) -> int:
    """Write class maps in the colours of Potsdam, as `images` and `labels`; the number of pictures written."""
    folder, colors = Path(folder), tuple(POTSDAM.values())
    return _write_class_maps(examples, folder / "images", folder / "labels", tuple(POTSDAM), colors)


def write_isaid(examples: Iterable[Example], folder: Path | str) -> int:
    """Write things with masks as iSAID has them, into one folder for pictures and one for maps; the number written."""
    folder, count = Path(folder), 0
    for example in examples:
        name = write_picture(example.picture, folder / "images")
        height, width = example.picture.shape
        color, ids = (np.zeros((height, width, 3), np.uint8) for _ in range(2))
        for number, thing in enumerate(example.things, start=1):
            if thing.label not in ISAID:
                raise DamageError("label", f"{thing.label!r} is no class of iSAID: {', '.join(ISAID)}")
            pixels = thing.pixels(example.picture.shape).pixels()
            color[pixels] = ISAID[thing.label]
            ids[pixels] = (number & 255, number >> 8 & 255, number >> 16)
        for array, suffix in ((color, COLOURS), (ids, IDS)):
            _save_class_map(array, folder / "maps" / f"{Path(name).stem}{suffix}.png")
        count += 1
    return count


def _write_class_maps(
    examples: Iterable[Example],
    images: Path,
    maps: Path,
    names: Sequence[str],
    colors: Sequence[Color] | None,
) -> int:
    count = 0
    for example in examples:
        if example.classes is None or tuple(example.classes.names) != tuple(names):
            raise DamageError("class map", f"{example.picture.name} has not the classes {list(names)}")
        name = write_picture(example.picture, images)
        classes = example.classes.read()
        # One more row or number for what is unknown: black, or 0.
        if colors is None:
            values = np.where(classes == UNKNOWN, 0, classes + 1).astype(np.uint8)
        else:
            table = np.array([*colors, (0, 0, 0)], np.uint8)
            values = table[np.where(classes == UNKNOWN, len(colors), classes)]
        _save_class_map(values, maps / f"{Path(name).stem}.png")
        count += 1
    return count


def _save_class_map(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
