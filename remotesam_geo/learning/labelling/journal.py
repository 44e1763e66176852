"""What the engine has done, picture by picture: a run that was killed goes on after the last whole picture."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import (
    GroundPlace,
    Mask,
    Picture,
    Triplet,
    TripletStore,
    write_store,
)
from remotesam_geo.learning.datasets.store import ABOUT, BEGUN, keep_picture

__all__ = ["Journal", "JournalLine"]

NAME = "journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class JournalLine:
    """One picture's outcome, as plain values.

    Attributes:
        picture: Its name.
        triplets: How many were kept.
        kept: Of what kinds and rules: "one-to-one colour" and the like.
        dropped: Reasons, by kind: "one-to-one: too small".
        hash: Of `difference_hash`.
    """

    picture: str
    triplets: int
    kept: Mapping[str, int]
    dropped: Mapping[str, int]
    hash: int


class Journal:
    """Lines of JSON, one a picture, after a first one that says how they were made.

    Args:
        folder: Where the store comes to lie.
        about: How triplets are made; a journal made otherwise is refused.
    """

    def __init__(self, folder: Path | str, about: str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / NAME
        self.entries: list[JournalLine] = []
        if self._path.exists() and self._path.stat().st_size:
            whole, position = _whole_lines(self._path)
            if position != self._path.stat().st_size:
                os.truncate(self._path, position)  # a line that a kill has cut
            if whole and whole[0].get("about") != about:
                raise InputError(
                    f"{self.folder} was begun with {whole[0].get('about')}, now it is {about}: go on with the same "
                    "steps, or choose a new folder"
                )
            self.entries = [_line_of_journal(line) for line in whole[1:]]
            if whole:
                return
        self._append({"about": about})

    def add(self, picture: Picture, triplets: list[Triplet], dropped: Counter[str], hashed: int) -> JournalLine:
        """Write what became of a picture, and the picture where something is asked of it."""
        kept = Counter(f"{t.kind} {t.attributes.get('rule', '')}".strip() for t in triplets)
        line = {
            "picture": picture.name,
            "file": keep_picture(picture, self.folder) if triplets else "",
            "shape": picture.shape,
            "place": None if picture.place is None else [picture.place.crs, *picture.place.transform],
            "triplets": [
                {
                    "expression": t.expression, "mask": t.mask.counts, "kind": t.kind, "label": t.label,
                    "attributes": dict(t.attributes), "source": t.source, "split": t.split, "id": t.id,
                }
                for t in triplets
            ],
            "kept": dict(kept),
            "dropped": dict(dropped),
            "hash": hashed,
        }  # fmt: skip
        self._append(line)
        self.entries.append(_line_of_journal(line))
        return self.entries[-1]

    def finish(self) -> TripletStore:
        """The store of all that was kept. The journal stays, as the record of how it was made."""
        about = self.folder / ABOUT
        if about.exists():
            store = TripletStore(self.folder)
            if len(store) == sum(entry.triplets for entry in self.entries):
                return store
            about.replace(self.folder / BEGUN)  # pictures came in since it was written
        return write_store(self._triplets(), self.folder)

    def _triplets(self) -> Iterator[Triplet]:
        with self._path.open(encoding="utf-8") as file:
            next(file)
            for text in file:
                line = json.loads(text)
                if not line["triplets"]:
                    continue
                place = line["place"]
                picture = Picture(
                    name=line["picture"],
                    content=self.folder / line["file"],
                    shape=(line["shape"][0], line["shape"][1]),
                    place=None if place is None else GroundPlace(crs=place[0], transform=tuple(place[1:])),
                )
                for row in line["triplets"]:
                    mask = Mask(shape=picture.shape, counts=row.pop("mask"))
                    yield Triplet(picture=picture, mask=mask, **row)

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that are whole, and where the last of them ends."""
    found: list[dict[str, Any]] = []
    position = 0
    with path.open("rb") as file:
        for text in file:
            if not text.endswith(b"\n"):
                break
            found.append(json.loads(text))
            position += len(text)
    return found, position


def _line_of_journal(line: Mapping[str, Any]) -> JournalLine:
    return JournalLine(
        picture=line["picture"], triplets=len(line["triplets"]), kept=line["kept"], dropped=line["dropped"],
        hash=line["hash"],
    )  # fmt: skip
