"""What a run made, and what it filtered out and why."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .journal import JournalLine

__all__ = ["EngineReport"]


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """Counts over all pictures.

    Attributes:
        about: The steps, with their choices.
        pictures: Pictures seen.
        kept: Triplets by kind and rule, such as "one-to-one colour".
        dropped: What was filtered, such as "one-to-one: too small".
    """

    about: str
    pictures: int
    kept: dict[str, int]
    dropped: dict[str, int]

    @classmethod
    def of(cls, about: str, entries: Iterable[JournalLine]) -> "EngineReport":
        """The sum of pictures' entries."""
        kept: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        pictures = 0
        for entry in entries:
            pictures += 1
            kept.update(entry.kept)
            dropped.update(entry.dropped)
        return cls(
            about=about, pictures=pictures, kept=dict(sorted(kept.items())),
            dropped=dict(sorted(dropped.items())),
        )  # fmt: skip

    @property
    def kinds(self) -> dict[str, int]:
        """Triplets kept, by kind."""
        counts: Counter[str] = Counter()
        for name, count in self.kept.items():
            counts[name.split(" ")[0]] += count
        return dict(counts)

    @property
    def filtered(self) -> float:
        """The share of all that was made which was dropped."""
        dropped = sum(self.dropped.values())
        made = dropped + sum(self.kept.values())
        return dropped / made if made else 0.0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"filtered": round(self.filtered, 4)}

    def table(self) -> str:
        """As Markdown."""
        rows = [
            f"{self.pictures:,} pictures, {self.filtered:.1%} filtered.",
            "",
            "| kept | |",
            "| --- | --- |",
        ]
        rows += [f"| {name} | {count:,} |" for name, count in self.kept.items()]
        rows += ["", "| filtered | |", "| --- | --- |"] if self.dropped else []
        rows += [f"| {name} | {count:,} |" for name, count in self.dropped.items()]
        return "\n".join(rows)
