"""Train tiny: `python -m remotesam_geo.learning.train FOLDER`. A folder with a run is continued.

Under `torchrun` the processes train together.
"""

import argparse
import os
from pathlib import Path

import torch

from remotesam_geo.model.inference import keep_freed_memory

from . import tiny
from .loop import train


def main(arguments: list[str] | None = None) -> None:
    """Train, and write the model into FOLDER/model."""
    parser = argparse.ArgumentParser(prog="python -m remotesam_geo.learning.train")
    parser.add_argument("folder", type=Path, help="where the run lives")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--cooldown", type=int, default=None, help="steps of the falling rate")
    parser.add_argument("--pictures", type=int, default=8, help="pictures a batch and process")
    parser.add_argument("--questions", type=int, default=2, help="expressions a picture")
    parser.add_argument("--pool", type=int, default=4096, help="different scenes")
    parser.add_argument("--visual-steps", type=int, default=None, help="steps without text")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    if "RANK" in os.environ:
        torch.distributed.init_process_group()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = tiny.processor()
    trained = train(
        options.folder,
        config=tiny.training(options.steps, options.cooldown, options.visual_steps),
        model=tiny.new_model().to(device),
        processor=processor,
        source=tiny.WorldSource(
            pictures=options.pictures, questions=options.questions, pool=options.pool
        ),
        held_out=tiny.WorldSource(tiny.HELD_OUT_SEEDS, pool=64),
        held_out_batches=6,
    )
    if os.environ.get("RANK", "0") == "0":
        tiny.save(trained, processor, options.folder / "model")


if __name__ == "__main__":
    main()
