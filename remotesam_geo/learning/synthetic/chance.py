"""Random numbers that depend on a place alone: the same for a cell whoever asks, in any order."""

import random

__all__ = ["chance", "mix"]

_MASK = (1 << 64) - 1


def mix(*keys: int) -> int:
    """A 64-bit hash of whole numbers, negative ones included (splitmix64 finaliser, folded).

    Examples:
        >>> mix(1, 2) == mix(1, 2), mix(1, 2) == mix(2, 1)
        (True, False)
    """
    state = 0x9E3779B97F4A7C15
    for key in keys:
        state = (state + (key & _MASK) * 0xD6E8FEB86659FD93 + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def chance(*keys: int) -> random.Random:
    """A generator of its own for the keys."""
    return random.Random(mix(*keys))  # noqa: S311 - scenery, not secrets
