"""A job from a YAML file, which is read as plain data: nothing in it runs anything."""

import datetime as dt
import json
from collections.abc import Callable, Hashable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml

from remotesam_geo.errors import InputError, number_in, one_of

from . import scene_inputs as places

__all__ = ["job_options"]

LARGEST = 1 << 20
"""Bytes of a file that is read."""

Check = Callable[[str, Any], Any]
"""Gives a value as `Job.create` takes it, or raises an InputError that names the key."""


def job_options(path: Path) -> dict[str, Any]:
    """What `Job.create` takes, from a YAML file.

    Raises:
        InputError: The file cannot be read, or holds something that is not understood.
    """
    given = _read_yaml_file(path)
    for name in given:
        if name not in CHECKS:
            near = get_close_matches(str(name), CHECKS, n=1)
            raise InputError(
                f"{path} has the unknown key {name!r}{f': did you mean {near[0]!r}?' if near else '.'} "
                f"Known are {', '.join(CHECKS)}."
            )
    for name, example in (("source", "scene.tif"), ("prompts", "[storage tank]")):
        if name not in given and not (name == "source" and "catalog" in given):
            raise InputError(f"{path} lacks {name}: write a line such as '{name}: {example}'")
    values = {name: _checked_field(path, name, value) for name, value in given.items()}
    where = {name: values.pop(name, None) for name in ("catalog", "bbox", "datetime", "max_items")}
    load = values.pop("load", None)
    scene = places.opened(
        values.pop("source", places.NO_SOURCE), **where, collection=values.pop("collections", None),
        load=None if load is None else json.dumps(load),
    )  # fmt: skip
    return {"model": "released", **values, "source": scene}


def _read_yaml_file(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST:,} bytes: it is no job file")
        given = yaml.load(path.read_text("utf-8"), Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{path} holds no mapping: write lines such as 'source: scene.tif'")
    return given


class _PlainLoader(yaml.SafeLoader):
    """Plain values only: no key twice, and no aliases, by which few bytes become very many."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {mark.line + 1}: write the value again in place of an alias")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a key must be a text")
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _checked_field(path: Path, name: str, value: Any) -> Any:
    try:
        return CHECKS[name](name, value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _text_field(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} is {value!r}: give a text")
    return value


def _text_list_field(name: str, value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise InputError(f"{name} is {value!r}: give a text, or a list of texts")
    return [_text_field(name, one) for one in value]


def _date_field(name: str, value: Any) -> str:
    if isinstance(value, dt.date):  # YAML knows dates, and times, by itself
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text_field(name, value)


def _bbox_field(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 4:
        raise InputError(f"{name} is {value!r}: give [west, south, east, north] in degrees")
    for number in value:
        number_in(name, number, -360, 360)
    return tuple(value)


def _count_field(name: str, value: Any) -> int:
    number_in(name, value, 1, whole=True)
    return int(value)


def _load_field(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{name} is {value!r}: give a mapping, such as {{resolution: 0.6}}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {value!r}: give numbers, texts and lists") from error
    return value


def _prompts_field(name: str, value: Any) -> Any:
    if isinstance(value, dict) and value:
        return {_text_field(name, label): _text_list_field(f"{name}: {label}", said) for label, said in value.items()}
    return _text_list_field(name, value)


def _by_label(check: Check) -> Check:
    def checked(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {_text_field(name, label): check(f"{name} of {label!r}", own) for label, own in value.items()}
        return check(name, value)

    return checked


def _threshold_field(name: str, value: Any) -> float:
    number_in(name, value, 0, 1)
    return float(value)


def _resolution_field(name: str, value: Any) -> float | str:
    if isinstance(value, str):
        one_of(name, value, ("native", "auto"))
        return value
    number_in(name, value, 0, open_low=True)
    return float(value)


def _bands_field(name: str, value: Any) -> Any:
    if isinstance(value, list) and value and all(type(band) in (str, int) for band in value):
        return value
    return _text_field(name, value)


def _seam_field(name: str, value: Any) -> str:
    from remotesam_geo.mapping.stitch import Seam

    one_of(name, value, get_args(Seam))
    return str(value)


def _share_field(name: str, value: Any) -> float:
    number_in(name, value, 0, 0.5)
    return float(value)


def _flag_field(name: str, value: Any) -> bool:
    one_of(name, value, (True, False))
    return bool(value)


CHECKS: Mapping[str, Check] = {
    "source": _text_field,
    "catalog": _text_field,
    "collections": _text_list_field,
    "bbox": _bbox_field,
    "datetime": _date_field,
    "max_items": _count_field,
    "load": _load_field,
    "prompts": _prompts_field,
    "model": _text_field,
    "threshold": _by_label(_threshold_field),
    "resolution": _by_label(_resolution_field),
    "bands": _bands_field,
    "overlap": _share_field,
    "seam": _seam_field,
    "keep_probabilities": _flag_field,
}
"""The keys of a job file."""
