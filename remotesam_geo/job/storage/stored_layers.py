"""What is on disk of a job: which layers there are, and the outlined blocks, each checked when it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remotesam_geo.errors import JobError
from remotesam_geo.job.plan import Plan, PlanGroup
from remotesam_geo.mapping.polygons import Outline, Pieces
from remotesam_geo.words import Prompt

from .block_files import check, seal_of, unpack
from .ledger import Ledger
from .map_store import DamagedBlockError, Store, replace_file, writing

__all__ = [
    "Place",
    "Records",
    "StoredLayer",
    "checked_part",
    "date_numbers",
    "file_names_words",
    "layers",
    "part_bytes",
    "part_key",
    "unpacked_pieces",
    "write_part",
]

SHOWN = 3
"""Damaged files that a message names."""

Place = tuple[int, int]
"""Date and number of a block."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """What is on disk of a job.

    Attributes:
        plan: Its plan.
        store: Its maps.
        parts: The folder of what was outlined.
        ledger: What was done.
        writable: Whether this process drives the job; else nothing is written.
    """

    plan: Plan
    store: Store
    parts: Path
    ledger: Ledger
    writable: bool = True

    def part(self, key: str, date: int, block: int) -> Path:
        """Where the outlines of a block are."""
        return self.parts / key / f"{date:04d}-{block:08d}.parquet"


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """What is kept of a block: the map of one expression, or the outlines of one prompt.

    Attributes:
        key: Its name on disk.
        needs: The expressions it is made of.
        contours: The expression that parts touching objects in it, if any.
        prompt: What is outlined; None for a map.
    """

    key: str
    needs: tuple[int, ...]
    contours: int | None = None
    prompt: Prompt | None = None


def layers(plan: Plan, group: PlanGroup) -> tuple[StoredLayer, ...]:
    """What is kept of each block of a group of prompts."""
    if plan.keep_probabilities:
        return tuple(
            StoredLayer(key=plan.key("map", group.resolution, expression), needs=(index,))
            for index, expression in enumerate(group.expressions)
        )
    return tuple(
        StoredLayer(
            key=part_key(plan, group, prompt, "polygon"),
            needs=needs,
            contours=group.contours,
            prompt=prompt,
        )
        for prompt, needs in zip(group.prompts, group.members, strict=True)
    )


def part_key(plan: Plan, group: PlanGroup, prompt: Prompt, outline: Outline) -> str:
    """The name of what a prompt's outlines are kept under: the same question finds them again."""
    return plan.key("part", group.resolution, prompt.expressions, prompt.threshold, outline)


def date_numbers(group: PlanGroup) -> range:
    """The numbers of the dates of a group's source."""
    return range(len(group.source.dates))


def part_bytes(path: Path) -> bytes:
    """Read an outlined block.

    Raises:
        DamagedBlockError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedBlockError(path, f"it cannot be read ({error})") from error


def checked_part(records: Records, key: str, place: Place, mark: str) -> bytes:
    """The bytes of a part, if it is what was written for this place."""
    path = records.part(key, *place)
    data = part_bytes(path)
    try:
        if records.plan.keep_probabilities:
            check(data, key, *place, mark)
        else:
            check(data, key, *place)
            if seal_of(data) != mark:
                raise JobError("it is not the file that was noted")
    except JobError as error:
        raise DamagedBlockError(path, str(error)) from error
    return data


def unpacked_pieces(records: Records, group: PlanGroup, key: str, place: Place, mark: str) -> Pieces:
    """The components in a part."""
    data = checked_part(records, key, place, mark)
    try:
        return unpack(data, group.source.geobox)
    except JobError as error:
        raise DamagedBlockError(records.part(key, *place), str(error)) from error


def write_part(records: Records, key: str, place: Place, data: bytes) -> None:
    """Write an outlined block, whole or not at all."""
    path = records.part(key, *place)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)


def file_names_words(paths: Sequence[Path]) -> str:
    """The first few of some paths, and how many more there are."""
    more = len(paths) - SHOWN
    named = ", ".join(map(str, sorted(paths)[:SHOWN]))
    return f"{named}{f' and {more:,} more' if more > 0 else ''}"
