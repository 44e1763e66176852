"""The command `train`: the built-in model from scratch, or any weights on triplets."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import printing as saying

if TYPE_CHECKING:
    from remotesam_geo.learning.training import FineTuned

__all__ = ["register"]

TINY, TUNING = "Options for tiny", "Options for fine-tuning"
OF_TINY = {"cooldown", "pool", "visual_steps"}
OF_TUNING = {
    "held_out", "square", "precision", "dice", "accumulate", "recompute", "freeze", "adapters", "patience", "every",
    "tensorboard",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", rich_help_panel="Models")(train)


def train(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where the run lives. A run that is there goes on.")],
    data: Annotated[Path | None, typer.Option(help="A store of triplets; without it tiny is trained.")] = None,
    # torchrun has an option of its own that begins with --start
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--start",
            help="'tiny' or a model folder. By default the released weights; for tiny itself fresh ones.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 6000,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="By default 3e-5; for tiny 1.2e-3, or 6e-4 with --from.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures in a batch of one process.")] = 8,
    questions: Annotated[int, typer.Option(min=1, help="Expressions for each picture.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of fresh weights, and of what is drawn to train on.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads of each process.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make batches ahead, for a GPU.")] = 0,
    cooldown: Annotated[
        int | None,
        typer.Option(
            min=0, help="Steps of the falling rate at the end: a quarter, or all with --from.", rich_help_panel=TINY
        ),
    ] = None,
    pool: Annotated[int, typer.Option(min=1, help="Different scenes.", rich_help_panel=TINY)] = 4096,
    visual_steps: Annotated[
        int | None,
        typer.Option(
            min=0, help="Steps without text at the start: a quarter, or none with --from.", rich_help_panel=TINY
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the ground that is held out.", rich_help_panel=TUNING)
    ] = 0.1,
    square: Annotated[
        float, typer.Option(min=0, help="Metres of the squares held out.", rich_help_panel=TUNING)
    ] = 2000.0,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Numbers of the network.", rich_help_panel=TUNING)
    ] = "float32",
    dice: Annotated[
        Literal["batch", "expression"], typer.Option(help="What the Dice loss is taken of.", rich_help_panel=TUNING)
    ] = "batch",
    accumulate: Annotated[int, typer.Option(min=1, help="Batches in a step.", rich_help_panel=TUNING)] = 1,
    recompute: Annotated[bool, typer.Option("--recompute", help="Save memory, spend time.", rich_help_panel=TUNING)] = (
        False
    ),
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="A part to keep as it is, such as text_encoder; may be given again.", rich_help_panel=TUNING),
    ] = None,
    adapters: Annotated[
        int, typer.Option(min=0, help="Train low-rank adapters of this rank alone.", rich_help_panel=TUNING)
    ] = 0,
    patience: Annotated[
        int, typer.Option(min=0, help="Held-out scores without gain before the end.", rich_help_panel=TUNING)
    ] = 0,
    every: Annotated[
        int, typer.Option(min=1, help="Steps between held-out scores and checkpoints.", rich_help_panel=TUNING)
    ] = 500,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write a log for TensorBoard, too.", rich_help_panel=TUNING)
    ] = False,
) -> None:
    """Train a model into FOLDER/model: tiny, or with --data any weights on triplets.

    Under `torchrun -m remotesam_geo train` or `accelerate launch` the processes train together.
    """
    if data is None:
        saying.refuse(context, OF_TUNING, "without --data")
    else:
        saying.refuse(context, OF_TINY, "with --data")
    with saying.working():
        _prepare_torch_for_training(threads)
        if data is None:
            _train_tiny(
                folder, start, steps=steps, cooldown=cooldown, visual_steps=visual_steps, rate=learning_rate,
                seed=seed, pictures=pictures, questions=questions, pool=pool, workers=workers,
            )  # fmt: skip
            return
        from remotesam_geo.learning.datasets import TripletStore
        from remotesam_geo.learning.training import TrainConfig

        config = TrainConfig(
            steps=steps, learning_rate=3e-5 if learning_rate is None else learning_rate, precision=precision, dice=dice,
            accumulate=accumulate, recompute=recompute, freeze=tuple(freeze or ()), adapters=adapters,
            patience=patience, seed=seed, checkpoint_every=every, validate_every=every,
        )  # fmt: skip
        result = _fine_tune(
            folder, TripletStore(data), start=start, config=config, held_out=held_out, square=square,
            pictures=pictures, questions=questions, logs=("csv", "tensorboard") if tensorboard else ("csv",),
            workers=workers,
        )  # fmt: skip
    if _is_first_process():
        saying.text(f"held-out IoU before {dict(result.before)}")
        saying.text(f"held-out IoU after  {dict(result.after)}")
        saying.text(str(result.folder))


def _prepare_torch_for_training(threads: int | None) -> None:
    import torch

    from remotesam_geo.model.inference import keep_freed_memory

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    if "RANK" in os.environ:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # "cuda" is that one from here on
        torch.distributed.init_process_group()


def _fine_tune(*given: Any, **options: Any) -> "FineTuned":
    from remotesam_geo.learning.training import fine_tune

    return fine_tune(*given, **options)


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _train_tiny(
    folder: Path,
    start: str | None,
    *,
    steps: int,
    cooldown: int | None,
    visual_steps: int | None,
    rate: float | None,
    seed: int,
    pictures: int,
    questions: int,
    pool: int,
    workers: int,
) -> None:
    """Train the built-in model by its recipe."""
    import torch

    from remotesam_geo.learning import training
    from remotesam_geo.learning.training import tiny
    from remotesam_geo.model.hardware import choose_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = tiny.processor()
    recipe = tiny.training if start is None else tiny.further
    config = recipe(steps, cooldown, visual_steps)
    config = replace(config, precision=choose_precision("auto", device), seed=seed)
    trained = training.train(
        folder,
        config=config if rate is None else replace(config, learning_rate=rate),
        model=tiny.begun(start, seed).to(device),
        processor=processor,
        source=tiny.WorldSource(pictures=pictures, questions=questions, pool=pool, seed=seed),
        held_out=tiny.WorldSource(tiny.HELD_OUT_SEEDS, pool=64),
        held_out_batches=6,
        workers=workers,
    )
    if _is_first_process():
        tiny.save(trained, processor, folder / "model")
