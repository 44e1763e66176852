"""Structural mutations of JSON documents: any node replaced, deleted, duplicated or of another type."""

import copy
from typing import Any

import numpy as np

DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 5, 2**70, 10**400, 0.5, 1e300, float("inf"), float("-inf"), float("nan"),
    "", "x", "5", "nan", "-inf", "many", "a" * 5000, "\ud800", "http://[", "http://host:99999/x", "file:///etc/hosts",
    "../../x", "\x00", "2021-13-45", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00",
    "EPSG:0", "EPSG:4979", "EPSG:32631", [], {}, [[]], [5], [None], ["x"], [[{}]], {"x": 5}, {"": None}, [1, 2, 3, 4],
    ["1", "2", "3", "4"], [float("nan")] * 4, [1e9] * 6, {"type": "Point", "coordinates": []}, DEEP,
)  # fmt: skip

Path = tuple[Any, ...]


def paths(doc: Any, before: Path = ()) -> list[Path]:
    """Where every node of a document is."""
    found = [before] if before else []
    members = doc.items() if isinstance(doc, dict) else enumerate(doc) if isinstance(doc, list) else ()
    for key, value in members:
        found += paths(value, (*before, key))
    return found


def mutate(doc: Any, rng: np.random.Generator, within: Path = ()) -> tuple[Any, Path]:
    """A document with one node changed, and where."""
    changed = copy.deepcopy(doc)
    inner = changed
    for key in within:
        inner = inner[key]
    choices = paths(inner, ())
    if not choices:
        return changed, within
    # The upper levels have few nodes and much to break: every depth has the same chance.
    depth = int(rng.choice(sorted({len(path) for path in choices})))
    level = [path for path in choices if len(path) == depth]
    path = level[int(rng.integers(len(level)))]
    holder = inner
    for key in path[:-1]:
        holder = holder[key]
    _change(holder, path[-1], int(rng.integers(6)), rng)
    return changed, (*within, *path)


def _change(holder: Any, key: Any, way: int, rng: np.random.Generator) -> None:
    value = holder[key]
    odd = ODD[int(rng.integers(len(ODD)))]
    if way == 0:
        del holder[key]
    elif way == 1:
        _twice(holder, key)
    elif way == 2:
        holder[key] = _retyped(value)
    elif way == 3 and isinstance(value, list):
        value.insert(int(rng.integers(len(value) + 1)), odd)
    elif way == 3 and isinstance(value, dict):
        value["odd"] = odd
    else:
        holder[key] = odd


def _twice(holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}2"] = copy.deepcopy(holder[key])


def _retyped(value: Any) -> Any:
    if isinstance(value, dict):
        return [[key, inner] for key, inner in value.items()]
    if isinstance(value, list):
        return {str(k): inner for k, inner in enumerate(value)}
    if isinstance(value, str):
        return [value]
    return str(value)
