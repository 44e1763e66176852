"""Training's own files: a checkpoint that is always whole, and a log that agrees with it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from remotesam_geo.errors import ModelError
from remotesam_geo.files import sync

__all__ = ["Log", "read_checkpoint", "write_checkpoint"]


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint at once: whoever is killed leaves the old one or the new one."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)  # the rename itself must reach the disk


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint as it was written; tensors and plain values only, no code.

    Raises:
        ModelError: The file is damaged or no checkpoint of this package.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ModelError(f"{path} is no checkpoint: {error}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ModelError(f"{path} is no training checkpoint; start in another folder.")
    return state


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
        for line in path.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return found

    def write(self, step: int, **values: Any) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
