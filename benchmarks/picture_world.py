"""The picture of docs/world.md: districts, classes, and one place at two times.

python benchmarks/picture_world.py docs/images/world.png
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from remotesam_geo.learning.synthetic import CLASSES, Acquisition, World, WorldScene, scene

THEMES = (
    *("airport", "harbour", "tanks", "sports", "residential", "parking"),
    *("industrial", "beach", "farmland", "woodland", "works", "lake"),
)
SIDE, CHIP, GAP, TEXT = 150, 74, 4, 14
VIEW = (222, 305)
WIDE = 6 * (SIDE + GAP) - GAP


def best(theme: str) -> WorldScene:
    """Of some scenes of a theme, the one with most kinds of things in it."""
    some = [scene(seed, 256, 0.4, theme=theme) for seed in range(40, 60)]
    return max(some, key=lambda s: len({i.name for i in s.instances}) + len(s.instances) / 40)


def chip(name: str, place: int) -> Image.Image:
    """One object of a class, whole, at the scale that fills a small picture."""
    for seed in itertools.count():
        picture = scene(seed, 512, 0.25)
        for one in picture.of(name):
            x0, y0, x1, y1 = one.box
            half = max(x1 - x0, y1 - y0) * 0.75
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            box = (x - half, y - half, x + half, y + half)
            if one.across > 14 and min(box) >= 0 and max(box) <= 512:
                place -= 1
                break
        if place < 0:
            break
    view = Image.fromarray(picture.rgb)
    return view.transform((CHIP, CHIP), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)


def outlined(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Image.Image:
    shown = rgb.copy()
    edge = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1))
    shown[edge] = (255, 60, 160)
    return Image.fromarray(shown)


def main() -> None:
    target = Path(sys.argv[1])
    rows = 2 * (SIDE + TEXT + GAP) + 2 * (CHIP + TEXT + GAP) + VIEW[0] + TEXT
    page = Image.new("RGB", (WIDE, rows), "white")
    draw = ImageDraw.Draw(page)

    def place(picture: Image.Image, x: int, y: int, text: str) -> None:
        draw.text((x + 1, y + 1), text, fill="black")
        page.paste(picture, (x, y + TEXT))

    for k, theme in enumerate(THEMES):
        row, column = divmod(k, 6)
        view = Image.fromarray(best(theme).rgb).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        place(view, column * (SIDE + GAP), row * (SIDE + TEXT + GAP), theme)
    top = 2 * (SIDE + TEXT + GAP)
    step = WIDE // len(CLASSES)
    for k, name in enumerate(CLASSES):
        for row in (0, 1):
            place(chip(name, row), k * step, top + row * (CHIP + TEXT + GAP), name if not row else "")
    top += 2 * (CHIP + TEXT + GAP)
    world = World(
        11,
        change=0.35,
        acquisitions=(
            Acquisition(time="2024-06-01"),
            Acquisition(time="2025-06-01", clouds=0.15, shift=(2.0, 0.0)),
        ),
    )
    window = world.geobox("EPSG:32632", resolution=0.5, shape=VIEW, centre=(260, -120))
    views = [Image.fromarray(world.render(window, time=k)) for k in (0, 1)]
    views.append(outlined(world.render(window), world.labels(window) > 0))
    texts = ("one place", "a year later: a cloud, another sun, 2 m off", "its truth")
    for k, (view, text) in enumerate(zip(views, texts, strict=True)):
        place(view, k * (VIEW[1] + GAP), top, text)
    target.parent.mkdir(parents=True, exist_ok=True)
    colours = page.quantize(256, kmeans=2, dither=Image.Dither.NONE)
    colours.save(target, optimize=True)
    print(target, target.stat().st_size // 1000, "kB", page.size)


if __name__ == "__main__":
    main()
