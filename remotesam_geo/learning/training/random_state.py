"""Random numbers of a training run: its own, the same for the same seed, kept in checkpoints process by process."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["every_state", "own_numbers", "restore"]


@contextmanager
def own_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from generators seeded for a run; afterwards those of the process are as they were.

    Args:
        seed: Of the run and the process.
        device: Of the network; the generator of a CUDA device is one of them.
    """
    devices = [device] if device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - others draw from it
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            np.random.seed(seed % (1 << 32))  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _state_of_generators(device: torch.device) -> dict[str, Any]:
    """The generators of this process, as tensors and plain values."""
    state: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, position, has_gauss, gauss = state
    version, numbers, waiting = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [str(kind), keys.tolist(), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(numbers), waiting],
    }


def every_state(device: torch.device) -> list[dict[str, Any]]:
    """The generators of every process of `torch.distributed`, in the order of their ranks; all of them must ask."""
    own = _state_of_generators(device)
    if not torch.distributed.is_initialized():
        return [own]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, own)
    return states


def restore(state: Mapping[str, Any], device: torch.device) -> None:
    """Let this process draw on from where a checkpoint was written."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    version, numbers, waiting = state["python"]
    random.setstate((version, tuple(numbers), waiting))
