"""The pictures of docs/tiny.md: what tiny answers, first as it comes, then where it fails worst.

python benchmarks/picture_tiny.py FOLDER docs/images
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from remotesam_geo.learning.synthetic import Expression, WorldScene, scene
from remotesam_geo.learning.training import tiny
from remotesam_geo.model import RemoteSAMModel
from remotesam_geo.model.inference import InferenceEngine

SCENES = range(tiny.EXAM_SEEDS, tiny.EXAM_SEEDS + 60)
PANEL, ROWS, COLUMNS = 256, 3, 4
EVENLY = dict.fromkeys(tiny.SHARES, 1.0)  # each kind of question as often
RIGHT, MISSED, WRONG = (64, 220, 120), (255, 170, 0), (240, 50, 90)


def overlay(view: WorldScene, answer: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Image.Image:
    """Found in green, missed in orange, wrongly found in red."""
    shown = view.rgb.astype(np.float32)
    for where, colour in (
        (answer & truth, RIGHT),
        (truth & ~answer, MISSED),
        (answer & ~truth, WRONG),
    ):
        shown[where] = 0.45 * shown[where] + 0.55 * np.array(colour)
    return Image.fromarray(shown.astype(np.uint8))


def sheet(shown: list[tuple[float, Image.Image, str]]) -> Image.Image:
    page = Image.new("RGB", (COLUMNS * (PANEL + 6), ROWS * (PANEL + 24)), "white")
    draw = ImageDraw.Draw(page)
    for place, (score, panel, text) in enumerate(shown[: ROWS * COLUMNS]):
        row, column = divmod(place, COLUMNS)
        x, y = column * (PANEL + 6), row * (PANEL + 24)
        page.paste(panel, (x, y + 18))
        draw.text((x + 2, y + 3), f"{text}: {score:.2f}", fill="black")
    return page


def main() -> None:
    folder, out = sys.argv[1], Path(sys.argv[2])
    engine = InferenceEngine(RemoteSAMModel.from_pretrained(folder).float().eval())
    processor = tiny.processor()
    answers: list[tuple[str, float, Image.Image, str]] = []
    for seed in SCENES:
        view, rng = scene(seed), random.Random(seed)  # noqa: S311
        seen = engine.look(torch.from_numpy(view.rgb[None]))
        asked: list[tuple[str, Expression]] = tiny.ask(view, rng, 4, EVENLY)
        tokens = processor.tokenize([e.text for _, e in asked])
        text = engine.encode(tokens.input_ids, tokens.attention_mask)
        for i, (kind, expression) in enumerate(asked):
            chance = engine.ask(seen, text[i : i + 1], tokens.attention_mask[i : i + 1])[0]
            answer, truth = chance.numpy() > 0.5, expression.mask(view)
            union = (answer | truth).sum()
            score = float((answer & truth).sum() / union) if union else 1.0
            answers.append((kind, score, overlay(view, answer, truth), expression.text))
    out.mkdir(parents=True, exist_ok=True)
    first = [(score, panel, text) for _, score, panel, text in answers[:: len(answers) // 12]]
    sheet(first).save(out / "tiny-answers.jpg", quality=80)
    worst: list[tuple[float, Image.Image, str]] = []
    for kind in ("class", "colour", "size", "position", "relation", "absent", "absent colour"):
        of = sorted((a for a in answers if a[0] == kind and a[1] < 1), key=lambda a: a[1])
        worst += [(score, panel, text) for _, score, panel, text in of[:2]]
    sheet(worst).save(out / "tiny-failures.jpg", quality=80)


if __name__ == "__main__":
    main()
