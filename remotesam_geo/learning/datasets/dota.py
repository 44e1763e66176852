"""DOTA: turned boxes, a text file a picture, with or without header lines."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Unpack

from .faults import DamageError, ReaderLog, ReadOptions, label_text, number, reader
from .picture_files import box_round, checked_box, opened_picture, write_picture, write_whole
from .records import Example, Picture, Thing

__all__ = ["read_dota", "write_dota"]

HEADERS = ("imagesource", "gsd")


@reader
def read_dota(
    labels: Path | str,
    images: Path | str,
    *,
    split: str = "",
    **options: Unpack[ReadOptions],
) -> Iterator[Example]:
    """Pictures of a folder of DOTA text files, by name; an empty file is a picture without things.

    A line is eight coordinates, the class and, mostly, 0 or 1 for difficult.

    Args:
        labels: The folder of text files.
        images: Where the pictures lie.
        split: What the folder is.
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing or damaged.
    """
    folder, pictures = Path(labels), Path(images)
    log = ReaderLog(**options)
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise DamageError("missing labels", f"there is no .txt file in {folder}")
    for path in files:
        with log.passing(path.name):
            text = label_text(path, log.limits)
            picture = opened_picture(pictures, f"{path.stem}.png", log.limits)
            things = []
            for position, line in enumerate(text.splitlines(), start=1):
                if not line.strip() or line.split(":", 1)[0].strip().lower() in HEADERS:
                    continue
                with log.passing(f"{path.name}, line {position}"):
                    things.append(_thing_of_line(line, picture))
            yield Example(picture=picture, things=tuple(things), split=split, source=log.source)
    log.warn(f"reading {folder.name}")


def _thing_of_line(line: str, picture: Picture) -> Thing:
    fields = line.split()
    if len(fields) not in (9, 10):
        raise DamageError(
            "label file",
            f"{line[:80]!r} has {len(fields)} fields: eight coordinates, the class and 0 or 1 for difficult",
        )
    values = [number(value, "a coordinate") for value in fields[:8]]
    corners = tuple(zip(values[::2], values[1::2], strict=True))
    if len(fields) == 10 and fields[9] not in ("0", "1", "2"):
        raise DamageError("label file", f"difficult is {fields[9][:20]!r}: 0, 1 or 2")
    return Thing(
        label=fields[8],
        box=checked_box(box_round(corners), picture.shape, fields[8]),
        corners=corners,
        difficult=len(fields) == 10 and fields[9] != "0",
    )


def write_dota(examples: Iterable[Example], folder: Path | str) -> int:
    """Write things as `labelTxt/*.txt` beside `images/`; the number of pictures written.

    Blanks in a class become hyphens, for a line is cut at blanks.
    """
    folder, count = Path(folder), 0
    for example in examples:
        name = write_picture(example.picture, folder / "images")
        lines = []
        for thing in example.things:
            x0, y0, x1, y1 = thing.box
            corners = thing.corners or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
            numbers = " ".join(f"{value:.12g}" for point in corners for value in point)
            label = "-".join(thing.label.split())
            lines.append(f"{numbers} {label} {int(thing.difficult)}\n")
        write_whole(folder / "labelTxt" / f"{Path(name).stem}.txt", "".join(lines).encode())
        count += 1
    return count
