"""The way of one window from `detect` to the GeoDataFrame: which functions of the package handle it.

One call of `detect` over a scene of exactly one window is traced with `sys.setprofile`. A function is *on the way* if
it receives or returns the window's pixels, probabilities, components or features. It is a *step* if it hands them on to
another such function; the others are *tools*, which take arrays and give arrays. Methods of the values that travel
(`Features.take`, `Table.score`) belong to the values, and are not counted. Nor are checks of arguments, which return
nothing.

Command: `python benchmarks/trace_window.py [picture.svg]`
"""

import dataclasses
import sys
import threading
import warnings
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import geopandas as gpd
import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros

import remotesam_geo
from remotesam_geo import RemoteSAM

ROOT = str(Path(remotesam_geo.__file__).parent)
VALUES = {"Table", "Features", "Pieces", "Components", "Regions", "Carried", "Found", "Survey"}
CHECKS = ("check", "instance_of", "one_of", "number_in")
SIDE = 72  # no other array of the call has sides of this length


class Bright:
    """Answers with the brightness."""

    image_size, identity = SIDE, "bright"

    def predict(self, images, expressions):
        return np.stack([images[..., 0] // 2] * len(expressions), axis=1)


def scene():
    place = GeoBox.from_bbox((500000, 0, 500000 + SIDE, SIDE), crs="EPSG:32633", resolution=1)
    grey = xr_zeros(place, "uint8").to_dataset(name="red")
    grey.red[20:30, 20:40] = 250
    return grey.assign(green=grey.red, blue=grey.red)


def carries(value, depth=0):
    """Whether a value holds what came of the window."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return bool(value.size) and hasattr(value.flat[0], "geom_type")
        return value.shape.count(SIDE) >= 2
    if isinstance(value, gpd.GeoDataFrame):
        return True
    if depth > 3 or isinstance(value, type):
        return False
    if dataclasses.is_dataclass(value):
        if type(value).__name__ in VALUES:
            return True
        given = ("scene", "source", "work", "maps")  # the whole scene, not the window
        return any(
            carries(getattr(value, field.name, None), depth + 1)
            for field in dataclasses.fields(value)
            if field.name not in given
        )
    if isinstance(value, dict):
        value = tuple(value.values())
    return isinstance(value, tuple | list) and any(carries(one, depth + 1) for one in value[:20])


def named(code):
    """A function of the package by file and name; None for others, comprehensions, and methods of values."""
    if not code.co_filename.startswith(ROOT) or code.co_qualname.endswith(">"):
        return None
    if code.co_qualname.split(".")[0] in VALUES or code.co_name.lstrip("_").startswith(CHECKS):
        return None
    return f"{code.co_filename[len(ROOT) + 1 :]}:{code.co_qualname}"


class Trace:
    """Functions on the way with those that they were called from, and value classes built."""

    def __init__(self):
        self.entered, self.on_way, self.callers, self.classes = {}, {}, set(), {}

    def __call__(self, frame, event, arg):
        code = frame.f_code
        name = named(code)
        if name is not None:
            if event == "call":
                self.entered.setdefault(name)
                names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
                if any(carries(frame.f_locals.get(one)) for one in names):
                    self._found(name, frame)
            elif event == "return" and carries(arg):
                self._found(name, frame)
        elif event == "return" and code.co_name == "__init__" and code.co_filename == "<string>":
            made = frame.f_locals.get("self")
            if type(made).__module__.startswith("remotesam_geo"):
                self.classes[type(made).__name__] = carries(made) or self.classes.get(type(made).__name__, False)

    def _found(self, name, frame):
        self.on_way.setdefault(name)
        above = frame.f_back
        while above is not None:
            if (caller := named(above.f_code)) is not None:
                self.callers.add(caller)
                return
            above = above.f_back


def trace():
    """Trace one call, after one that fills caches."""
    model, place = RemoteSAM(Bright()), scene()
    found = Trace()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.detect(place, ["roof"], progress=False)
        threading.setprofile(found)
        sys.setprofile(found)
        try:
            model.detect(place, ["roof"], progress=False)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return found


def picture(steps):
    """The steps as an SVG: one row a step, one column a folder."""
    columns = list(dict.fromkeys(name.split("/")[0] for name in steps))
    wide, high, top = 190, 30, 40
    size = f'width="{wide * len(columns) + 20}" height="{high * len(steps) + top + 10}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, folder in enumerate(columns):
        out.append(f'<text x="{number * wide + 20}" y="22" font-weight="bold">{escape(folder)}/</text>')
    spots = [(columns.index(name.split("/")[0]) * wide + 15, row * high + top) for row, name in enumerate(steps)]
    for (x, y), (to_x, to_y) in pairwise(spots):
        out.append(f'<line x1="{x + 82}" y1="{y + 20}" x2="{to_x + 82}" y2="{to_y}" stroke="#8aa" stroke-width="1.5"/>')
    for (x, y), name in zip(spots, steps, strict=True):
        place, function = name.split(":")
        text = f"{Path(place).stem}.{function.replace('.<locals>', '')}"
        out.append(f'<rect x="{x}" y="{y}" width="165" height="20" rx="4" fill="#e8f1f2" stroke="#589"/>')
        out.append(f'<text x="{x + 6}" y="{y + 14}" font-size="10.5">{escape(text)}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    found = trace()
    for name in found.on_way:
        print("step" if name in found.callers else "tool", name)
    built = [name for name, carried in found.classes.items() if carried]
    print("value classes:", *built)
    steps = [name for name in found.on_way if name in found.callers]
    print(
        f"{len(found.entered)} functions entered, {len(found.on_way)} on the way of the window: {len(steps)} steps and "
        f"{len(found.on_way) - len(steps)} tools; {len(built)} value classes carry it, {len(found.classes)} are built"
    )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(picture(steps), encoding="utf-8")
