"""Training's own files: a checkpoint that is always whole, and a log that agrees with it."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from remotesam_geo.errors import ModelError, RemoteSAMWarning
from remotesam_geo.files import sync
from remotesam_geo.model.pth import check_sums

__all__ = ["Log", "last_checkpoint", "previous", "read_checkpoint", "write_checkpoint"]


def write_checkpoint(path: Path, state: Mapping[str, Any], *, keep: bool = False) -> None:
    """Replace a checkpoint at once: a process that is killed leaves the old one or the new one.

    Args:
        path: The file.
        state: Tensors and plain values.
        keep: Whether the old one is kept, as `previous(path)`.
    """
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    if keep and path.exists():
        path.replace(previous(path))
    partial.replace(path)
    sync(path.parent)  # the rename itself must reach the disk


def previous(path: Path) -> Path:
    """Where the checkpoint before this one is kept."""
    return path.with_stem(f"{path.stem}.previous")


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint as it was written; tensors and plain values only, no code.

    Raises:
        ModelError: The file is damaged or no checkpoint of this package.
    """
    try:
        check_sums(path)
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ModelError(f"{path} is no checkpoint: {error}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ModelError(f"{path} is no training checkpoint; start in another folder.")
    return state


def last_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint of a run; where it is damaged the one before it, with a warning. None of a new run.

    Raises:
        ModelError: All that are there are damaged.
    """
    there = [one for one in (path, previous(path)) if one.exists()]
    for number, one in enumerate(there, start=1):
        try:
            return read_checkpoint(one, device)
        except ModelError as error:
            if number == len(there):
                raise
            warnings.warn(
                f"{error} The run goes on from {previous(path).name}.",
                RemoteSAMWarning,
                stacklevel=3,
            )
    return None


class Log:
    """One JSON object a line. A resumed run takes back what came after its checkpoint.

    Args:
        path: The file, continued where it exists.
        step: Steps that are done; lines of later ones are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        if path.exists():
            kept = [line for line in self.lines(path) if line["step"] <= step]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
            partial.replace(path)

    @staticmethod
    def lines(path: Path) -> list[dict[str, Any]]:
        """The whole lines of a log; one cut by a kill is no line."""
        found = []
        for text in path.read_text("utf-8", "replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and type(line.get("step")) is int:
                found.append(line)
        return found

    def write(self, step: int, **values: Any) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
