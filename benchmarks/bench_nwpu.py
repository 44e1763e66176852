"""NWPU VHR-10 end to end: instances to triplets, fine-tuning, evaluation on held-out pictures.

`python benchmarks/bench_nwpu.py FOLDER RUN` prints the table of docs/fine-tuning.md. FOLDER holds `images/` (001.jpg
and so on) and `annotations.json` (COCO polygons). The pictures are for research only, and so is what is trained on
them: neither belongs into a repository. RUN takes everything that is made; a run that was killed goes on.

Pictures whose number is divisible by 5 are held out. All are cut into chips of 512 px (or of their shorter side),
halved to the 256 px that tiny sees. Training asks for classes, present and absent: what else the rules say of single
things is counted, but too hard for tiny. Held-out pictures are answered whole: windows like the chips, overlapping by
an eighth, blended by the distance to their borders. Nothing was chosen by the held-out pictures.
"""

import argparse
import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from remotesam_geo import RemoteSAM
from remotesam_geo.learning.datasets import Example, Triplet, read_coco
from remotesam_geo.learning.evaluation import Report, Setting, answerer, asked_as, evaluate
from remotesam_geo.learning.evaluation.answerers import resized
from remotesam_geo.learning.labelling import rules, run_engine
from remotesam_geo.learning.training import TrainConfig, chips, fine_tune, tiny
from remotesam_geo.learning.training.samples.chipping import starts
from remotesam_geo.model.inference import keep_freed_memory

SIZE, SIDE = 512, 256
TRAINED, ANSWERED = 1 / 4, 1 / 8  # least overlap of chips, and of windows
RGB, Chances = NDArray[np.uint8], NDArray[np.float32]
MODELS = ("untrained", "tiny", "fine-tuned")


def parts(folder: Path) -> tuple[list[Example], list[Example]]:
    """Pictures to train on, and those held out."""
    found: tuple[list[Example], list[Example]] = ([], [])
    for example in read_coco(folder / "annotations.json", folder / "images", source="NWPU VHR-10"):
        found[int(Path(example.picture.name).stem) % 5 == 0].append(example)
    return found


def triplets(examples: list[Example], classes: list[str], folder: Path) -> list[Triplet]:
    """What is asked in training: the store holds more."""
    store, report = run_engine(chips(examples, size=SIZE, side=SIDE, overlap=TRAINED), folder, engine=rules(classes))
    print(f"\n{folder.name}: {len(examples)} pictures, {report.pictures} chips, {report.kinds}, "
          f"{report.filtered:.1%} filtered", flush=True)  # fmt: skip
    asked = [
        k for k, one in enumerate(store) if one.attributes["rule"] == "class" or one.attributes.get("absent") == "known"
    ]  # fmt: skip
    return [store[k] for k in asked]


class Windowed:
    """A network that answers a picture of any size by overlapping windows, and remembers what it answered.

    Args:
        model: Who answers windows.
        expressions: All that it will be asked: of a picture, they are answered together.
        memory: A folder for answers.
    """

    image_size = None

    def __init__(self, model: RemoteSAM, expressions: Sequence[str], memory: Path) -> None:
        self.model, self.expressions, self.memory = answerer(model), list(expressions), memory
        self.identity = f"{self.model.identity} by windows of {SIZE}"
        memory.mkdir(parents=True, exist_ok=True)

    def answers(self, picture: RGB, expressions: Sequence[str]) -> Iterator[Chances]:
        path = self.memory / f"{hashlib.sha256(picture.tobytes()).hexdigest()}.npy"
        if not path.exists():
            partial = path.with_suffix(".partial.npy")
            np.save(partial, self._blended(picture).astype(np.float16))
            partial.replace(path)
        maps = np.load(path, mmap_mode="r")
        for expression in expressions:
            yield maps[self.expressions.index(expression)].astype(np.float32)

    def _blended(self, picture: RGB) -> Chances:
        height, width = picture.shape[:2]
        side = min(SIZE, height, width)
        places = [
            (slice(y, y + side), slice(x, x + side))
            for y in starts(height, side, ANSWERED)
            for x in starts(width, side, ANSWERED)
        ]
        windows = np.stack([resized(picture[place], (SIDE, SIDE)) for place in places])
        ramp = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1.0
        weight = np.minimum(ramp[:, None], ramp).astype(np.float32)
        total = np.zeros((len(self.expressions), height, width), np.float32)
        weights = np.zeros((height, width), np.float32)
        for place, maps in zip(places, self.model.ask(windows, self.expressions), strict=True):
            weights[place] += weight
            for number, chance in enumerate(maps):
                total[number][place] += weight * resized(chance, (side, side))
        return total / weights


def config(steps: int, cooldown: int) -> TrainConfig:
    """Tiny's own loss at a third of its rate."""
    return TrainConfig(
        steps=steps,
        learning_rate=4e-4,
        betas=(0.9, 0.98),
        clip=1.0,
        warmup=30,
        schedule="hold",
        cooldown=cooldown,
        class_weights=(0.9, 1.6),
        dice_share=0.4,
        dice="expression",
        ema=0.99,
        precision="bfloat16",
        checkpoint_every=25,
        validate_every=steps,
    )


def judged(
    name: str, source: str | Path, held_out: list[Example], classes: list[str], folder: Path
) -> dict[str, Report]:
    """IoU by class and AP50 on whole pictures."""
    model = RemoteSAM.from_pretrained(source, device="cpu", precision="float32")
    memory = folder / f"{name} maps"
    setting = Setting(classes=asked_as(classes))
    asked = Windowed(model, [one for one, *_ in setting.classes.values()], memory)
    reports = {
        task: evaluate(
            task, held_out, asked, setting=setting, name="NWPU VHR-10, held out",
            folder=folder / f"{name} {task}",
        )
        for task in ("semantic", "detection")
    }  # fmt: skip
    shutil.rmtree(memory)
    return reports


def table(reports: dict[str, dict[str, Report]], held_out: list[Example]) -> str:
    """IoU and AP50 by class, and their means over the classes."""
    columns = [
        (f"{name}, {key}", {k: v[key] for k, v in reports[name][task].by_class.items()})
        for name in reports
        for task, key in (("semantic", "IoU"), ("detection", "AP50"))
    ]
    rows = [
        "| class | instances | " + " | ".join(title for title, _ in columns) + " |",
        "| --- | --- |" + " --- |" * len(columns),
    ]
    every = [thing.label for example in held_out for thing in example.things]
    labels = sorted(set(every))
    for label in labels:
        figures = " | ".join(f"{values[label]:.3f}" for _, values in columns)
        rows.append(f"| {label.replace('_', ' ')} | {every.count(label)} | {figures} |")
    means = [np.mean([values[label] for label in labels]) for _, values in columns]
    rows.append(f"| mean | {len(every)} | " + " | ".join(f"{one:.3f}" for one in means) + " |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Report]]:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="with images/ and annotations.json")
    parser.add_argument("run", type=Path, help="where everything comes to lie")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "--cooldown",
        type=int,
        default=200,
        help="steps of the falling rate; `touch RUN/run/finish` begins it",
    )
    parser.add_argument("--pictures", type=int, default=4, help="chips a batch")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    own, held_out = parts(options.folder)
    classes = sorted({thing.label for one in (*own, *held_out) for thing in one.things})
    train_on, asked = (
        triplets(some, classes, options.run / name) for name, some in (("trained on", own), ("held out", held_out))
    )
    begun = time.monotonic()
    result = fine_tune(
        options.run / "run", train_on, start="tiny", held_out=asked, config=config(options.steps, options.cooldown),
        pictures=options.pictures, questions=2,
    )  # fmt: skip
    print(f"fine-tuning took {(time.monotonic() - begun) / 60:.0f} min (of this process); held-out chips, mean IoU by "
          f"kind: {dict(result.before)} before, {dict(result.after)} after", flush=True)  # fmt: skip
    tiny.save(tiny.new_model(), tiny.processor(), options.run / "untrained")
    sources = (options.run / "untrained", "tiny", result.folder)
    reports = {
        name: judged(name, source, held_out, classes, options.run / "evaluation")
        for name, source in zip(MODELS, sources, strict=True)
    }
    print(f"\n{len(held_out)} held-out pictures, {options.threads} thread\n")
    print(table(reports, held_out))
    return reports


if __name__ == "__main__":
    main()
