"""Every argument with a fixed set of values is checked at the public function, before anything is touched."""

import importlib
import inspect
import typing
from typing import Any, Literal

import pytest

from remotesam_geo.errors import InputError
from tests.test_reference import ROOMS

MODULES = (
    "",
    "remotesam",  # the methods of the accessor are those of RemoteSAM
    *ROOMS,
)
OUTSIDE = {
    # Held by other classes, whose own arguments are checked.
    "Job.__init__",
    # transformers' own.
    "RemoteSAMConfig.__init__",
}
PATHS = ("folder", "path", "labels", "images", "maps")


class Untouched:
    """Stands for every other argument: whoever looks at it before the check fails the test."""

    def __getattr__(self, name):
        raise AssertionError(f".{name} of another argument was used before the check")


def public():
    """Every public function, and every public method of public classes, by a readable name."""
    seen = set()
    for room in MODULES:
        module = importlib.import_module(f"remotesam_geo.{room}" if room else "remotesam_geo")
        for name in module.__all__:
            thing = getattr(module, name)
            if id(thing) in seen or not callable(thing):
                continue
            seen.add(id(thing))
            if not inspect.isclass(thing):
                yield name, thing, None
                continue
            for own, member in vars(thing).items():
                inner = getattr(member, "__func__", member)
                if inspect.isfunction(inner) and (own == "__init__" or not own.startswith("_")):
                    yield f"{name}.{own}", inner, thing


def kinds(function):
    """The annotations of a function; those that only a type checker can resolve are left out."""
    found = {}
    for name, kind in getattr(function, "__annotations__", {}).items():
        if isinstance(kind, str):
            try:
                kind = eval(kind, function.__globals__)  # noqa: S307, PLW2901 - our own source
            except NameError:
                continue
        if typing.get_origin(kind) is typing.Unpack:  # options that several functions share
            (options,) = typing.get_args(kind)
            found |= typing.get_type_hints(options)
        else:
            found[name] = kind
    return found


def choices(kind) -> list[Any]:
    """The values of the Literals in an annotation."""
    if typing.get_origin(kind) is Literal:
        return list(typing.get_args(kind))
    if typing.get_origin(kind) is not None or hasattr(kind, "__args__"):
        parts = [part for part in typing.get_args(kind) if not isinstance(part, list)]
        return [value for part in parts for value in choices(part)]
    return []


def cases():
    for name, function, owner in public():
        if name in OUTSIDE or not hasattr(function, "__annotations__"):
            continue
        for argument, kind in kinds(function).items():
            allowed = list(dict.fromkeys(choices(kind)))
            if argument != "return" and allowed:
                yield pytest.param(function, owner, argument, kind, allowed, id=f"{name}-{argument}")


CASES = list(cases())


def test_there_are_many():
    assert len(CASES) > 90


@pytest.mark.parametrize(("function", "owner", "argument", "kind", "allowed"), CASES)
def test_a_wrong_value_is_refused_before_anything_is_touched(function, owner, argument, kind, allowed):
    text = [value for value in allowed if isinstance(value, str)]
    wrong = [
        "no such value",
        *(value.capitalize() for value in text if value.capitalize() != value),
    ]
    listed = typing.get_origin(kind) is not None and issubclass(
        typing.get_origin(kind) if inspect.isclass(typing.get_origin(kind)) else int,
        typing.get_origin(typing.Sequence[int]),
    )
    for value in wrong:
        with pytest.raises(InputError) as refused:
            call(function, owner, argument, [value] if listed else value)
        message = str(refused.value)
        assert argument in message
        assert all(str(choice) in message for choice in allowed), message


def call(function, owner, argument, value):
    """Call a function with one argument, and something untouchable for all others that it needs."""
    form = inspect.signature(function)
    positional, named = [], {}
    for position, (name, parameter) in enumerate(form.parameters.items()):
        if owner is not None and position == 0:
            is_class = isinstance(inspect.getattr_static(owner, function.__name__), classmethod)
            given = owner if is_class else object.__new__(owner)
        elif name == argument:
            given = value
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= {argument: value} if argument not in form.parameters else {}
            continue
        elif parameter.default is not inspect.Parameter.empty:
            continue
        else:
            given = "/no/such/place" if name in PATHS else Untouched()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            named[name] = given
        elif name == argument or positional is not None:
            positional.append((name, given))
    first = [given for name, given in positional if name != argument or needed(form, name)]
    named |= {name: given for name, given in positional if name == argument and not needed(form, name)}
    return function(*first, **named)


def needed(form, name):
    return form.parameters[name].default is inspect.Parameter.empty
