"""What a language model wrote, read as class and expression: plain JSON found in whatever is round it, or a reason."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remotesam_geo.words import plural

from .steps import spoken

__all__ = ["Reply", "read_reply"]

LONGEST = 20_000  # characters: what is longer ran away
FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
NAME = re.compile(r"[^\W\d_][\w '/()-]{0,59}")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What was read.

    Attributes:
        said: One expression a class.
        refused: Why something was not taken: the whole reply, or one entry of it.
    """

    said: Mapping[str, str]
    refused: tuple[str, ...] = ()


def read_reply(text: str, *, classes: Sequence[str] = (), words: int = 20) -> Reply:
    r"""Read the answer to a parsing prompt: an object of class and expression, in a fence, in prose, or alone.

    Nothing is mended: what is not JSON to the letter might mean something else. Nothing of the text is run.

    Args:
        text: All that was written.
        classes: The classes that may be named, in any spelling the vocabulary knows; none for any.
        words: Words that an expression has at most.

    Returns:
        What can be used, under the names of `classes`; and why the rest cannot.

    Examples:
        >>> from remotesam_geo.learning.labelling import read_reply
        >>> written = 'Sure!\n```json\n{"Ship": "the white ship at the pier", "dam": ""}\n```\nAnything else?'
        >>> reply = read_reply(written, classes=["ship", "dam"])
        >>> dict(reply.said), reply.refused
        ({'ship': 'the white ship at the pier'}, ('empty expression',))
        >>> read_reply('{"ship": "the white ship",}').refused
        ('trailing comma',)
    """
    if len(text) > LONGEST:
        return Reply(said={}, refused=("far too long",))
    objects, fault = _json_objects(text)
    if len(objects) != 1:
        return Reply(said={}, refused=("several objects" if objects else fault,))
    known = {say(spoken(name)): name for name in classes for say in (plural, str)}
    return _entries_of_reply(objects[0], known, words)


Pairs = list[tuple[str, Any]]


class _Object(Pairs):
    """The entries of an object as they stand: a class that comes twice is not lost."""


def _json_objects(text: str) -> tuple[list[_Object], str]:
    """The different objects of a text, those in fences before others; and what is wrong where there are none."""
    fenced = [found[1] for found in FENCE.finditer(text)]
    fault = "no object"
    for parts in (fenced, [text]):
        found: list[_Object] = []
        for part in parts:
            for value in _outermost_values(part):
                if isinstance(value, str):
                    fault = value
                elif value not in found:
                    found.append(value)
        if found:
            return found, ""
    return [], fault


def _outermost_values(text: str) -> Iterator[_Object | str]:
    """The outermost objects of a text, and why what begins like one is none."""
    read = json.JSONDecoder(object_pairs_hook=_Object)
    start = text.find("{")
    while start >= 0:
        try:
            value, end = read.raw_decode(text, start)
        except json.JSONDecodeError as error:
            yield _reply_fault(text, error)
            return  # what follows would be read out of its place
        except (
            ValueError,
            RecursionError,
        ):  # numbers of thousands of digits, thousands of brackets
            yield "absurd values"
            return
        yield value
        start = text.find("{", end)


def _reply_fault(text: str, error: json.JSONDecodeError) -> str:
    """What kind of mistake it is, as the report counts it."""
    before, after = text[: error.pos].rstrip(), text[error.pos :]
    comma = before.endswith(",") if not after.startswith(",") else True
    if comma and after.lstrip(", \t\r\n")[:1] in ("}", "]"):  # Pythons point before or behind it
        return "trailing comma"
    if not after.strip() or error.msg.startswith("Unterminated string"):
        return "cut off"
    return "not JSON"


def _entries_of_reply(pairs: _Object, known: Mapping[str, str], words: int) -> Reply:
    said: dict[str, str] = {}
    refused: list[str] = []
    twice: set[str] = set()
    for key, value in pairs:
        label, reason = _class_of_reply_key(key, known)
        if not reason:
            reason = "class twice" if label in said or label in twice else ""
            if reason:  # neither can be preferred
                refused += [reason] if said.pop(label, None) is not None else []
                twice.add(label)
        expression = " ".join(value.split()) if isinstance(value, str) else ""
        reason = reason or _doubt_of_expression(value, expression, label, words)
        if reason:
            refused.append(reason)
        else:
            said[label] = expression
    return Reply(said=said, refused=tuple(refused))


def _class_of_reply_key(key: str, known: Mapping[str, str]) -> tuple[str, str]:
    name = " ".join(key.replace("_", " ").split()).lower()
    if not NAME.fullmatch(name):
        return "", "no class name"
    if not known:
        return name, ""
    label = known.get(spoken(name), "")
    return label, "" if label else "class not asked for"


def _doubt_of_expression(value: object, expression: str, label: str, words: int) -> str:
    """Why an expression is not taken, or nothing."""
    if not isinstance(value, str):
        return "expression is no text"
    if not expression:
        return "empty expression"
    if not expression.isprintable():
        return "unprintable expression"
    if len(expression.split()) > words:
        return "expression too long"
    bare = re.sub(r"^(?:a|an|the) ", "", expression.lower()).rstrip(".")
    name = spoken(label)
    return "nothing but the class" if spoken(bare) in (name, plural(name)) else ""
