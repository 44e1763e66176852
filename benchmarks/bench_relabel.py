"""A round of relabelling with noisy teachers, against training on their raw labels: held-out IoU.

`python benchmarks/bench_relabel.py` prints the table of docs/benchmarks.md; `--quick` is for trying it out. A small
network of 32 px learns to find bright and dark squares. Half of its labels are wrong: moved, or elsewhere altogether. A
network trained on them relabels its own training data; another one, fresh, is trained on what is left. Both are judged
on the truth.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from remotesam_geo.learning.datasets import Mask, Picture, Triplet
from remotesam_geo.learning.labelling import Relabelling, relabel
from remotesam_geo.learning.training import TrainConfig, TripletSource, held_out_scores, train
from tests.learning.training.test_training import SIDE, Squares, small_model, small_processor


def data(seed: int, pictures: int, noise: float) -> list[Triplet]:
    """Squares, with the masks of teachers that are wrong in a share of cases."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(pictures):
        batch = Squares(seed, pictures=1).batch(number)
        picture = Picture.of(f"{seed}-{number}", batch.pictures[0])
        for text, mask in zip(batch.expressions[0][:2], batch.masks[0], strict=False):
            label = mask.astype(bool)
            if rng.random() < noise:
                label = spoilt(label, rng)
            found.append(
                Triplet(
                    picture=picture,
                    expression=text,
                    mask=Mask.of(label),
                    kind="one-to-many",
                    label=text,
                )
            )
    return found


def spoilt(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another place, or the same moved by half."""
    off = rng.integers(5, 20, 2) if rng.random() < 0.6 else rng.integers(3, 7, 2)
    return np.roll(mask, off * rng.choice([-1, 1], 2), (0, 1))


class Network:
    """A trained network as a teacher."""

    image_size = SIDE

    def __init__(self, model: torch.nn.Module, processor: object, name: str) -> None:
        self.model, self.processor, self.identity = model.eval(), processor, name

    @torch.no_grad()
    def answers(self, picture, expressions):
        for expression in expressions:
            tokens = self.processor.tokenize([expression])
            pixels = self.processor.pixel_values(torch.from_numpy(picture[None].copy()))
            logits = self.model(pixels, tokens.input_ids, tokens.attention_mask).logits
            yield logits.softmax(1)[0, 1].numpy()


def trained(triplets, folder: Path, steps: int):
    processor = small_processor()
    config = TrainConfig(
        steps=steps, learning_rate=4e-3, dice="expression", dice_share=0.5, clip=1.0, checkpoint_every=10_000,
        validate_every=10_000,
    )  # fmt: skip
    source = TripletSource(triplets, SIDE, pictures=8, questions=2)
    return train(folder, config=config, model=small_model(processor), processor=processor, source=source)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions with other data")
    parser.add_argument("--steps", type=int, default=250)
    options = parser.parse_args()
    rounds, steps = (1, 60) if options.quick else (options.rounds, options.steps)
    processor = small_processor()
    print(
        "| data | raw labels | relabelled, fresh network | clean labels | IoU of raw labels | of new ones | dropped |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for seed in range(rounds):
        truth = {(t.picture.name, t.expression): t.mask for t in data(seed, 200, 0.0)}
        noisy = data(seed, 200, 0.5)
        held_out = TripletSource(data(1000 + seed, 64, 0.0), SIDE, pictures=8, questions=2)

        def judged(model, held_out=held_out):
            return held_out_scores(model, processor, held_out, batches=8)["one-to-many"]

        def quality(some, truth=truth):
            pairs = [(t.mask.pixels(), truth[t.picture.name, t.expression].pixels()) for t in some]
            return np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs if (a | b).any()])

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            raw = trained(noisy, folder / "raw", steps)
            store, report = relabel(
                noisy,
                Network(raw, processor, f"raw {seed}"),
                folder / "store",
                rule=Relabelling(trust=1.0, least=0.3),
            )
            again = trained(store, folder / "again", steps)
            clean = trained(data(seed, 200, 0.0), folder / "clean", steps)
            print(
                f"| {seed} | {judged(raw):.3f} | {judged(again):.3f} | {judged(clean):.3f} | {quality(noisy):.3f} "
                f"| {quality(store):.3f} | {report.filtered:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
