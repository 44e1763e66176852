"""A published .pth, read without trusting it: memory-mapped, and nothing in it is executed."""

import argparse
import pickle
import zipfile
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from remotesam_geo.errors import ModelError

__all__ = ["read_pth"]

FIXED_TORCH = (2, 10)  # earlier ones have known holes in torch.load, even with weights_only
ALLOWED = "argparse.Namespace"  # the training script's arguments lie beside the weights
KINDS = (  # what a download may turn out to be: first bytes, what it is, what to do
    (b"", "is empty", "download it again"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights", "run `git lfs pull`"),
    (b"<", "is a web page, not the weights", "download the file itself (the `resolve` link)"),
    (
        b"\x80",
        "is a pickle as torch wrote it before 1.6, which cannot be memory-mapped",
        "write it again: torch.save(torch.load(path, weights_only=True), new_path)",
    ),
)

_allow_list = Lock()  # torch keeps one for the whole process


def read_pth(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, mapped from the file: no byte of them is read yet.

    Args:
        path: A file of `torch.save` that holds a dict with `model` (other entries are left alone),
            or the weights themselves. The prefix `module.` of parallel training is dropped.

    Raises:
        ModelError: The file is damaged, of another kind, holds anything but plain tensors where the
            weights should be, or asks for a class or function to be run.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < FIXED_TORCH:
        raise ModelError(
            f"torch {torch.__version__} has known holes in reading .pth files; install torch "
            f"{'.'.join(map(str, FIXED_TORCH))} or later."
        )
    _check_archive(path)
    _check_pickle(path)
    try:
        with _allow_list, torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ModelError(f"{path} is damaged: {_first_line(error)}") from error
    return _weights(content, path)


def _check_archive(path: Path) -> None:
    """Refuse what is no whole, uncompressed archive."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start.startswith(b"PK"):
        for magic, what, remedy in KINDS:
            if start.startswith(magic) and (magic or not start):
                raise ModelError(f"{path} {what}; {remedy}.")
        raise ModelError(f"{path} is no checkpoint of torch.save (it starts {start[:8]!r}).")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is cut short or damaged ({path.stat().st_size} bytes: {error}); download it "
            f"again."
        ) from error
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:  # torch.save never compresses; a mapped tensor would be read from packed bytes
        raise ModelError(f"{path} is no checkpoint of torch.save: {packed[0]} is compressed.")


def _check_pickle(path: Path) -> None:
    """Refuse by name what the pickle would call, from its listing alone."""
    try:
        wanted = set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))) - {ALLOWED}
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is refused: its pickle holds an instruction that no checkpoint needs "
            f"({_first_line(error)}). Nothing was run."
        ) from error
    except Exception as error:
        raise ModelError(f"{path} is damaged: {_first_line(error)}") from error
    if wanted:
        raise ModelError(
            f"{path} is refused: beside weights it asks for {', '.join(sorted(wanted))}, which "
            f"could run anything. Nothing was run. Weights from a source you trust can be written "
            f"again as torch.save({{'model': model.state_dict()}}, path)."
        )


def _weights(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a dict of weights.")
    state = content.get("model", content)
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{path} holds no weights under 'model'.")
    for name, value in state.items():
        if not (
            isinstance(name, str)
            and isinstance(value, Tensor)
            and value.layout == torch.strided
            and value.device.type == "cpu"
            and not value.is_quantized
        ):
            raise ModelError(
                f"{path} holds no weights: {name!r} is a {type(value).__name__}, not a plain "
                f"tensor. A checkpoint is a dict with 'model'; this one has "
                f"{', '.join(map(repr, list(content)[:8]))}."
            )
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
