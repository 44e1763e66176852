"""Pictures beside their labels: found whatever their extension, and never outside their folder."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .faults import LIMITS, DamageError, SizeLimits, short
from .records import Box, Corners, Picture

__all__ = ["EXTENSIONS", "checked_box", "find_picture", "write_picture", "write_whole"]

EXTENSIONS = (".jpg", ".png", ".tif", ".jpeg", ".tiff", ".bmp", ".JPG", ".PNG", ".TIF")


def find_picture(folder: Path, name: str) -> Path:
    """The file of a picture that labels name; one with another extension will do.

    Raises:
        DamageError: There is none, or the name leads out of the folder.
    """
    path = _picture_path_inside(folder, name)
    try:
        if path.is_file():
            return path
        for extension in EXTENSIONS:
            for other in (path.with_suffix(extension), path.with_name(f"{path.name}{extension}")):
                if other.is_file():
                    return other
    except (OSError, ValueError):  # a name that no file can have
        raise DamageError("picture name", f"the picture is called {short(name)}") from None
    raise DamageError("missing picture", f"there is no picture {name!r} in {folder.name}")


def _picture_path_inside(folder: Path, name: str) -> Path:
    unsafe = not name or "\\" in name or "\0" in name or name.startswith("/")
    if unsafe or ".." in name.split("/"):
        raise DamageError("picture name", f"the picture is called {name[:80]!r}")
    return folder / name


def known_picture(folder: Path, name: str, shape: tuple[int, int], limits: SizeLimits) -> Picture:
    """A picture whose size its labels tell; the file is not opened yet."""
    limits.check_size(shape, f"the picture {name!r}")
    return Picture(name=name, content=find_picture(folder, name), shape=shape)


def opened_picture(folder: Path, name: str, limits: SizeLimits = LIMITS) -> Picture:
    """A picture whose size its own header tells."""
    return Picture.of(name, find_picture(folder, name), limits=limits)


def checked_box(box: Sequence[float], shape: tuple[int, int], what: str) -> Box:
    """A box that has an area and shares some of it with its picture.

    Raises:
        DamageError: It has not.
    """
    x0, y0, x1, y1 = box
    if not (x1 > x0 and y1 > y0):
        raise DamageError("empty box", f"the box of {what} is {tuple(box)}: it has no area")
    if x1 <= 0 or y1 <= 0 or x0 >= shape[1] or y0 >= shape[0]:
        raise DamageError("outside", f"the box of {what} is {tuple(box)}, outside its picture of {shape}")
    return float(x0), float(y0), float(x1), float(y1)


def box_round(corners: Corners) -> Box:
    """The upright box round corners."""
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_picture(picture: Picture, folder: Path, *, stem: str | None = None) -> str:
    """Write a picture's own bytes under its stem, once; the file name it got."""
    data, extension = picture.encoded()
    name = f"{stem or Path(picture.name).stem}{extension}"
    path = folder / name
    if not path.is_file():
        write_whole(path, data)
    elif path.read_bytes() != data:
        raise DamageError("picture name", f"two different pictures are called {name!r}")
    return name
