"""Train tiny: `python -m remotesam_geo.learning.training FOLDER`; with `--data STORE`, fine-tune any weights.

A folder with a run is continued. Under `torchrun` or `accelerate launch` the processes train together.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from remotesam_geo.learning.datasets import TripletStore
from remotesam_geo.model.hardware import choose_precision
from remotesam_geo.model.inference import keep_freed_memory

from . import tiny
from .finetune import fine_tune
from .loop import train
from .settings import TrainConfig

OWN = ("cooldown", "pool", "visual_steps")  # say something about tiny's training alone
TUNING = (
    "held_out", "square", "precision", "dice", "accumulate", "recompute", "freeze", "adapters", "patience",
    "every", "tensorboard",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(prog="remotesam-geo train", usage="%(prog)s FOLDER [options], explained by --help")
    made.add_argument("folder", type=Path, help="where the run lives")
    made.add_argument("--data", type=Path, help="a store of triplets; without it tiny is trained")
    made.add_argument(
        "--from",
        "--start",  # torchrun takes that for an option of its own
        dest="start",
        default=None,
        metavar="WEIGHTS",
        help='"tiny" or a model folder; by default the released ones, and fresh ones for tiny itself',
    )
    made.add_argument("--steps", type=int, default=6000)
    made.add_argument("--learning-rate", type=float, default=None, help="3e-5; 1.2e-3 for tiny, 6e-4 with --from")
    made.add_argument("--pictures", type=int, default=8, help="pictures a batch and process")
    made.add_argument("--questions", type=int, default=2, help="expressions a picture")
    made.add_argument("--seed", type=int, default=0, help="of fresh weights, and of what is drawn to train on")
    made.add_argument("--threads", type=int, default=None)
    made.add_argument("--workers", type=int, default=0, help="processes that make batches ahead, for a GPU")
    own = made.add_argument_group("tiny")
    own.add_argument(
        "--cooldown",
        type=int,
        default=None,
        help="steps of the falling rate at the end: a quarter, all with --from",
    )
    own.add_argument("--pool", type=int, default=4096, help="different scenes")
    own.add_argument(
        "--visual-steps",
        type=int,
        default=None,
        help="steps without text at the start: a quarter, none with --from",
    )
    tuning = made.add_argument_group("fine-tuning")
    tuning.add_argument("--held-out", type=float, default=0.1, help="share of the ground that is held out")
    tuning.add_argument("--square", type=float, default=2000.0, help="metres of the squares held out")
    tuning.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    tuning.add_argument("--dice", choices=("batch", "expression"), default="batch")
    tuning.add_argument("--accumulate", type=int, default=1, help="batches a step")
    tuning.add_argument("--recompute", action="store_true", help="spare memory, spend time")
    tuning.add_argument("--freeze", nargs="*", default=(), metavar="PART", help='such as "text_encoder"')
    tuning.add_argument("--adapters", type=int, default=0, metavar="RANK", help="train low-rank adapters alone")
    tuning.add_argument("--patience", type=int, default=0, help="held-out scores without gain before the end")
    tuning.add_argument("--every", type=int, default=500, help="steps between held-out scores and checkpoints")
    tuning.add_argument("--tensorboard", action="store_true", help="log for TensorBoard, too")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Train, and write the model into FOLDER/model."""
    made = parser()
    options = made.parse_args(arguments)
    unset = object()
    given = made.parse_args(arguments, argparse.Namespace(**dict.fromkeys(vars(options), unset)))
    trained, foreign = ("tiny", TUNING) if options.data is None else ("triplets", OWN)
    for name in foreign:
        if getattr(given, name) is not unset:
            made.error(
                f"--{name.replace('_', '-')} says nothing about training on {trained}: leave it out, "
                f"or {'give' if foreign is TUNING else 'leave out'} --data"
            )
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    if "RANK" in os.environ:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # "cuda" is that one from here on
        torch.distributed.init_process_group()
    if options.data is None:
        _train_tiny(options)
    else:
        _fine_tune(options)


def _fine_tune(options: argparse.Namespace) -> None:
    """Any weights, on triplets."""
    config = TrainConfig(
        steps=options.steps,
        learning_rate=3e-5 if options.learning_rate is None else options.learning_rate,
        precision=options.precision,
        dice=options.dice,
        accumulate=options.accumulate,
        recompute=options.recompute,
        freeze=tuple(options.freeze),
        adapters=options.adapters,
        patience=options.patience,
        seed=options.seed,
        checkpoint_every=options.every,
        validate_every=options.every,
    )
    result = fine_tune(
        options.folder,
        TripletStore(options.data),
        start=options.start,
        config=config,
        held_out=options.held_out,
        square=options.square,
        pictures=options.pictures,
        questions=options.questions,
        logs=("csv", "tensorboard") if options.tensorboard else ("csv",),
        workers=options.workers,
    )
    if os.environ.get("RANK", "0") == "0":
        print(f"held-out IoU before {dict(result.before)}")  # noqa: T201
        print(f"held-out IoU after  {dict(result.after)}")  # noqa: T201
        print(result.folder)  # noqa: T201


def _train_tiny(options: argparse.Namespace) -> None:
    """The built-in model, by its recipe."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = tiny.processor()
    recipe = tiny.training if options.start is None else tiny.further
    config = replace(
        recipe(options.steps, options.cooldown, options.visual_steps),
        precision=choose_precision("auto", device),
        seed=options.seed,
    )
    if options.learning_rate is not None:
        config = replace(config, learning_rate=options.learning_rate)
    trained = train(
        options.folder,
        config=config,
        model=tiny.begun(options.start, options.seed).to(device),
        processor=processor,
        source=tiny.WorldSource(
            pictures=options.pictures,
            questions=options.questions,
            pool=options.pool,
            seed=options.seed,
        ),
        held_out=tiny.WorldSource(tiny.HELD_OUT_SEEDS, pool=64),
        held_out_batches=6,
        workers=options.workers,
    )
    if os.environ.get("RANK", "0") == "0":
        tiny.save(trained, processor, options.folder / "model")


if __name__ == "__main__":
    main()
