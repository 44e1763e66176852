"""Small layouts: RefSegRS, captions in the style of Karpathy, folders of scenes, questions of counting."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from PIL import Image

from .faults import (
    DamageError,
    ReaderLog,
    ReadOptions,
    entry,
    label_json,
    label_text,
    reader,
)
from .picture_files import EXTENSIONS, opened_picture, write_picture, write_whole
from .records import Example, Picture, Triplet
from .run_length_mask import Mask

__all__ = [
    "read_captions",
    "read_counts",
    "read_refsegrs",
    "read_scenes",
    "write_captions",
    "write_counts",
    "write_refsegrs",
    "write_scenes",
]

_ASKED = re.compile(r"the number of (.+?)\s*(?:[.?]|$)", re.IGNORECASE)


@reader
def read_refsegrs(
    folder: Path | str,
    split: str,
    **options: Unpack[ReadOptions],
) -> Iterator[Triplet]:
    """Triplets of RefSegRS: `output_phrase_<split>.txt` beside `images/*.tif` and `masks/*.tif`.

    Args:
        folder: Of the data set.
        split: "train", "val" or "test".
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing or damaged.
    """
    folder = Path(folder)
    log = ReaderLog(**options)
    lines = label_text(folder / f"output_phrase_{split}.txt", log.limits).splitlines()
    for position, line in enumerate(lines):
        if not line.strip():
            continue
        with log.passing(f"line {position + 1} of output_phrase_{split}.txt"):
            name, _, expression = line.strip().partition(" ")
            if not expression.strip():
                raise DamageError("label file", f"{line[:60]!r}: an id, a blank, an expression")
            picture = opened_picture(folder / "images", f"{name}.tif", log.limits)
            drawn = opened_picture(folder / "masks", f"{name}.tif", log.limits)
            if drawn.shape != picture.shape:
                raise DamageError("mask", f"mask {drawn.shape}, picture {picture.shape}")
            mask = Mask.of(drawn.read().max(axis=2) > 0)
            yield Triplet(
                picture=picture,
                expression=expression.strip(),
                mask=mask,
                kind="one-to-one" if mask.area else "one-to-zero",
                source=log.source,
                split=split,
                id=f"{name}.{position}",
            )
    log.warn(f"reading {folder.name}")


def write_refsegrs(triplets: Iterable[Triplet], folder: Path | str) -> int:
    """Write triplets as RefSegRS has them; the number written.

    There a mask belongs to a picture: one that has several masks is written once for each.
    """
    folder = Path(folder)
    lines: dict[str, list[str]] = {}
    known: dict[tuple[str, Mask], str] = {}
    for triplet in triplets:
        key = (triplet.picture.name, triplet.mask)
        if key not in known:
            same = sum(name == triplet.picture.name for name, _ in known)
            stem = Path(triplet.picture.name).stem.replace(" ", "_")
            known[key] = f"{stem}_{same}" if same else stem
            write_picture(triplet.picture, folder / "images", stem=known[key])
            _write_tiff(folder / "masks" / f"{known[key]}.tif", triplet.mask)
        said = " ".join(triplet.expression.split())
        lines.setdefault(triplet.split or "train", []).append(f"{known[key]} {said}\n")
    for split, rows in lines.items():
        write_whole(folder / f"output_phrase_{split}.txt", "".join(rows).encode())
    return sum(map(len, lines.values()))


def _write_tiff(path: Path, mask: Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = Image.fromarray(mask.pixels().astype(np.uint8) * 255)
    grey.save(path, compression="tiff_deflate")


@reader
def read_captions(
    labels: Path | str,
    images: Path | str,
    *,
    split: str | None = None,
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures with sentences, as UCM-Captions and RSICD have them (`dataset.json`).

    Args:
        labels: The JSON file.
        images: Where the pictures lie.
        split: Which one; None for all.
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing or damaged.
    """
    labels = Path(labels)
    log = ReaderLog(**options)
    for row in entry(label_json(labels, log.limits), "images", list, labels.name):
        with log.passing(labels.name):
            name, own = (entry(row, key, str, "an image") for key in ("filename", "split"))
            if split is not None and own != split:
                continue
            said = tuple(
                entry(sentence, "raw", str, f"a sentence of {name}") for sentence in entry(row, "sentences", list, name)
            )
            if not said:
                raise DamageError("label file", f"{name} has no sentence")
            picture = opened_picture(Path(images), name, log.limits)
            yield Example(picture=picture, captions=said, split=own, source=log.source)
    log.warn(f"reading {labels.name}")


def write_captions(examples: Iterable[Example], folder: Path | str) -> int:
    """Write captions as `dataset.json` beside `images/`; the number of pictures written."""
    folder = Path(folder)
    rows: list[dict[str, Any]] = []
    sentence = 0
    for example in examples:
        name = write_picture(example.picture, folder / "images")
        said = [
            {"tokens": text.split(), "raw": text, "imgid": len(rows), "sentid": sentence + k}
            for k, text in enumerate(example.captions)
        ]
        sentence += len(said)
        rows.append(
            {
                "filename": name,
                "imgid": len(rows),
                "split": example.split or "train",
                "sentences": said,
                "sentids": [one["sentid"] for one in said],
            }
        )
    whole = {"images": rows, "dataset": folder.name}
    write_whole(folder / "dataset.json", json.dumps(whole).encode())
    return len(rows)


@reader
def read_scenes(
    folder: Path | str,
    *,
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures with one label: a folder for each class (UC Merced, AID, RESISC45).

    Args:
        folder: The folder of folders.
        split: What the folder is.
        **options: See `ReadOptions`.

    Raises:
        DamageError: A picture cannot be read, or there is no folder with pictures.
    """
    folder = Path(folder)
    log = ReaderLog(**options)
    suffixes = {extension.lower() for extension in EXTENSIONS}
    found = [
        path
        for own in sorted(path for path in folder.glob("*") if path.is_dir())
        for path in sorted(own.iterdir())
        if path.suffix.lower() in suffixes
    ]
    if not found:
        raise DamageError("missing labels", f"there is no folder with pictures in {folder}")
    for path in found:
        with log.passing(path.name):
            name = f"{path.parent.name}/{path.name}"
            yield Example(
                picture=Picture.of(name, path, limits=log.limits),
                labels=(path.parent.name,),
                split=split,
                source=log.source,
            )
    log.warn(f"reading {folder.name}")


def write_scenes(examples: Iterable[Example], folder: Path | str) -> int:
    """Write pictures with one label into a folder for each; the number written."""
    count = 0
    for example in examples:
        if len(example.labels) != 1 or "/" in example.labels[0]:
            raise DamageError("label", f"{example.picture.name} has the labels {example.labels}")
        write_picture(example.picture, Path(folder) / example.labels[0])
        count += 1
    return count


@reader
def read_counts(
    labels: Path | str,
    images: Path | str,
    *,
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures with questions "... the number of <class>." and their answers.

    Args:
        labels: A JSON list of `{"images": [path], "conversations": [question, answer]}`.
        images: Where the pictures lie; only the last part of a path is used.
        split: What the file is.
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing or damaged.
    """
    labels = Path(labels)
    log = ReaderLog(**options)
    rows = label_json(labels, log.limits)
    if not isinstance(rows, list):
        raise DamageError("label file", f"{labels.name} holds a {type(rows).__name__}, not a list")
    for position, row in enumerate(rows):
        with log.passing(f"row {position} of {labels.name}"):
            paths = entry(row, "images", list, "a row")
            said = entry(row, "conversations", list, "a row")
            if len(paths) != 1 or len(said) != 2:
                raise DamageError("label file", "a row has one picture, a question and an answer")
            question, answer = (entry(one, "content", str, "a row").strip() for one in said)
            asked = _ASKED.search(question)
            if asked is None or not answer.isdecimal():
                raise DamageError("label file", f"{question[-60:]!r} is answered by {answer[:20]!r}")
            name = str(paths[0]).rsplit("/", 1)[-1]
            picture = opened_picture(Path(images), name, log.limits)
            counts = {asked[1]: int(answer)}
            yield Example(picture=picture, counts=counts, split=split, source=log.source)
    log.warn(f"reading {labels.name}")


def write_counts(examples: Iterable[Example], folder: Path | str) -> int:
    """Write questions of counting as `counts.json` beside `images/`; the number of questions written."""
    folder = Path(folder)
    rows = []
    for example in examples:
        name = write_picture(example.picture, folder / "images")
        for label, count in example.counts.items():
            said = [f"Count and give the number of {label}.", str(count)]
            rows.append({"images": [name], "conversations": [{"content": content} for content in said]})
    write_whole(folder / "counts.json", json.dumps(rows).encode())
    return len(rows)
