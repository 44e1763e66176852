"""The file plan.json of a job: its plan, prompts, model and source files, under a seal."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from remotesam_geo import __version__
from remotesam_geo.errors import JobError
from remotesam_geo.job.plan import Plan, prompt_from_json, prompt_to_json
from remotesam_geo.job.source_headers import File
from remotesam_geo.words import Prompt

from .ledger import HELD, LOCK
from .map_store import replace_file, writing

__all__ = [
    "LEDGER",
    "MAPS",
    "PARTS",
    "PLAN",
    "PlanFile",
    "check_free",
    "read_plan_file",
    "write_plan_file",
]

VERSION = 2
PLAN, LEDGER, MAPS, PARTS = "plan.json", "ledger.sqlite", "probabilities.zarr", "parts"
OURS = {LOCK, HELD, LEDGER, f"{LEDGER}-journal", f"{LEDGER}.damaged", MAPS, PARTS}
"""What a job's folder may hold when its plan was lost."""
RESTORE = (
    "Restore it from a copy; or delete it and call Job.create in this folder with the same arguments: blocks that are "
    "stored are used again."
)
"""What to do about a plan that is damaged."""


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """What plan.json holds.

    Attributes:
        plan: The plan.
        prompts: The prompts that the job has now.
        recipe: How the model is opened again; None where only the user can.
        files: The source's files when the job was created.
    """

    plan: Plan
    prompts: tuple[Prompt, ...]
    recipe: Mapping[str, Any] | None
    files: Sequence[File]


def read_plan_file(folder: Path) -> PlanFile:
    """Read the plan of a job.

    Raises:
        JobError: There is none, or it is damaged, or of another version.
    """
    path = folder / PLAN
    try:
        doc = json.loads(path.read_bytes())
        if doc["version"] != VERSION:
            raise JobError(f"{path} was written by another version ({doc.get('remotesam_geo')}): create a new job")
        if doc.pop("seal") != _plan_seal(doc):
            raise JobError(f"{path} is damaged, or was changed by hand. {RESTORE}")
        plan = Plan.from_json(doc["plan"])
        prompts = tuple(map(prompt_from_json, doc["prompts"]))
        recipe, noted = doc["model"], doc["hash"]
        if not isinstance(recipe, dict | None):
            raise TypeError(f"model is {recipe!r}: it must be an object")
        files = _files_from_json(doc["files"])
    except (FileNotFoundError, NotADirectoryError):
        left = any((folder / name).exists() for name in (LEDGER, MAPS, PARTS))
        raise JobError(
            f"{path} is missing, though the folder holds what a job has stored. {RESTORE}"
            if left
            else f"{folder} holds no job: make one with Job.create"
        ) from None
    except OSError as error:
        raise JobError(f"cannot read {path}: {error}") from error
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise JobError(f"cannot understand {path} ({type(error).__name__}: {error}). {RESTORE}") from error
    if noted != plan.digest:
        raise JobError(f"{path} was written by another version ({doc['remotesam_geo']}): create a new job")
    return PlanFile(plan=plan, prompts=prompts, recipe=recipe, files=files)


def write_plan_file(folder: Path, noted: PlanFile) -> None:
    """Write the plan of a job, whole or not at all."""
    doc = {
        "version": VERSION,
        "remotesam_geo": __version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "hash": noted.plan.digest,
        "prompts": [prompt_to_json(prompt) for prompt in noted.prompts],
        "model": noted.recipe,
        "files": list(noted.files),
        "plan": noted.plan.to_json(),
    }
    doc["seal"] = _plan_seal(doc)
    replace_file(folder / PLAN, json.dumps(doc, indent=1).encode())


def check_free(place: Path) -> None:
    """Make sure that a folder holds a job, what is left of one, or nothing; before anything is put there.

    Raises:
        JobError: It holds other things.
    """
    if not place.exists() or (place / PLAN).exists() or (place / LEDGER).exists():
        return
    with writing(place):
        other = sorted(str(path) for path in place.iterdir() if path.name not in OURS and path.suffix != ".partial")
    if other:
        raise JobError(f"{place} holds other things than a job ({', '.join(other[:3])}): give it a folder of its own")


def _plan_seal(doc: Mapping[str, Any]) -> str:
    """A hash of all that a plan's file says."""
    return hashlib.sha256(json.dumps(doc, sort_keys=True).encode()).hexdigest()[:32]


def _files_from_json(doc: Any) -> tuple[Mapping[str, Any], ...]:
    """What a plan notes of the files of its source.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(doc, list) or not all(isinstance(file, dict) for file in doc):
        raise TypeError(f"files is {doc!r}: it must be a list of objects")
    for file in doc:
        if not isinstance(file["href"], str) or not isinstance(file["header"], dict | None):
            raise TypeError(f"{file!r} describes no file")
    return tuple(doc)
