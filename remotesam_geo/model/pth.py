"""A published .pth, read without trusting it: memory-mapped, and nothing in it is executed."""

import argparse
import pickletools
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from remotesam_geo.errors import ModelError

__all__ = ["check_sums", "read_pth"]

FIXED_TORCH = (2, 10)  # earlier ones have known holes in torch.load, even with weights_only
LARGEST_PICKLE = 16 << 20  # the released one has half a megabyte
DEEPEST_TUPLE = 100  # hashing a tuple in a tuple in a tuple ... overflows the stack at some depth
MOST_SHARED = 4  # weights of one file may share memory, but not without bound
# All that checkpoints of plain tensors name. torch has a list of its own behind this one, but a
# program can lengthen that.
ALLOWED = {
    "argparse Namespace",  # the training script's arguments lie beside the weights
    "collections Counter",
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}" for kind in ("float64", "float32", "float16", "bfloat16", "int64")),
    *(
        f"torch {kind}Storage"
        for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Byte", "Bool")
    ),
}
CALLING = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID"}  # torch uses none
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
    _check_start(path)
    _check_archive(path)
    try:
        with _allow_list, torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ModelError(f"{path} is damaged: {_first_line_of_pth_error(error)}") from error
    weights = _weights_of_content(content, path)
    if sum(tensor.nbytes for tensor in weights.values()) > MOST_SHARED * path.stat().st_size:
        raise ModelError(
            f"{path} is no checkpoint: its tensors claim far more bytes than the file has. "
            f"Save copies of them: {{name: tensor.clone() for name, tensor in weights.items()}}."
        )
    return weights


def check_sums(path: Path) -> None:
    """Compare every part of a checkpoint with the checksum that was stored beside it.

    Raises:
        ModelError: A part is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ModelError(f"{path} is cut short or damaged: {error}; download it again.") from error
    if broken is not None:
        raise ModelError(
            f"{path} is damaged: {broken} has not the checksum that was stored with it; download it again."
        )


def _check_start(path: Path) -> None:
    """Refuse what is no archive at all, saying what it is."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK"):
        return
    for magic, what, remedy in KINDS:
        if start.startswith(magic) and (magic or not start):
            raise ModelError(f"{path} {what}; {remedy}.")
    raise ModelError(f"{path} is no checkpoint of torch.save (it starts {start[:8]!r}).")


def _check_archive(path: Path) -> None:
    """Refuse what is not whole, is compressed, or names in its pickle what no weights need."""
    try:
        left = LARGEST_PICKLE
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:  # it could not be mapped either
                    raise ModelError(f"{path} is no checkpoint: {entry.filename} is compressed.")
                if not entry.filename.endswith(".pkl"):
                    continue
                left -= entry.file_size
                if left < 0:
                    raise ModelError(f"{path} is no checkpoint: {entry.filename} is huge.")
                _check_pickle(archive.read(entry), path)
    except ModelError:
        raise
    except Exception as error:  # damage shows itself in many ways
        raise ModelError(
            f"{path} is cut short or damaged ({path.stat().st_size} bytes: {error}); download it again."
        ) from error


def _check_pickle(code: bytes, path: Path) -> None:
    """Refuse by name what a pickle would look up or call; it is listed here, not run."""
    wanted = {
        str(argument) if operation.name == "GLOBAL" else operation.name
        for operation, argument, _ in pickletools.genops(code)
        if operation.name == "GLOBAL" or operation.name in CALLING
    }
    if refused := sorted(map(_python_3_name, wanted - ALLOWED)):
        raise ModelError(
            f"{path} is refused: beside weights it asks for {', '.join(refused)}, which could run "
            f"anything. Nothing was run. Weights from a source you trust can be written again as "
            f"torch.save({{'model': model.state_dict()}}, path)."
        )
    if _is_deep(code):
        raise ModelError(f"{path} is refused: its pickle nests tuples more than {DEEPEST_TUPLE} deep.")


def _is_deep(code: bytes) -> bool:
    """Whether a pickle nests tuples deeper than weights need; its stack is followed without making anything.

    Tuples are hashed where they are keys, level by level on the stack of the process, which would end it.
    """
    stack: list[int | None] = []  # for each object how deep it is as a tuple; None for a mark
    memo: dict[int, int | None] = {}
    for operation, argument, _ in pickletools.genops(code):
        name, before = operation.name, operation.stack_before
        if name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            memo[len(memo) if argument is None else int(str(argument))] = stack[-1]
            continue
        if name in {"GET", "BINGET", "LONG_BINGET"}:
            stack.append(memo[int(str(argument))])
            continue
        if name == "DUP":
            stack.append(stack[-1])
            continue
        taken: list[int] = []
        if pickletools.markobject in before:
            while (one := stack.pop()) is not None:
                taken.append(one)
            before = before[: before.index(pickletools.markobject)]
        taken += [stack.pop() or 0 for _ in before]
        depth = 1 + max(taken, default=0) if "TUPLE" in name else 0
        if depth > DEEPEST_TUPLE:
            return True
        stack += [None if kind is pickletools.markobject else depth for kind in operation.stack_after]
    return False


def _python_3_name(name: str) -> str:
    """torch.save writes the names of Python 2."""
    module, _, attribute = name.partition(" ")
    return f"{IMPORT_MAPPING.get(module, module)}.{attribute}" if attribute else name


def _weights_of_content(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a dict of weights.")
    state = content.get("model", content)
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{path} holds no weights under 'model'.")
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise ModelError(
                f"{path} holds no weights: {name!r} is a {type(value).__name__}, not a named "
                f"tensor. A checkpoint is a dict with 'model'; this one has "
                f"{', '.join(map(repr, list(content)[:8]))}."
            )
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


def _first_line_of_pth_error(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
