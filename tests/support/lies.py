"""Answers of a node with one thing in them changed at random, for tests of what readers make of a node that lies."""

from copy import deepcopy
from random import Random
from typing import Any

GARBAGE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**30, 0.5, 1e300),
    *("", "x", "0x", "0", "-1", "1.5", "99999999999999999999999", "\ud800", "\u0663", "\0", "é" * 300, "1" * 88),
    *("1" * 32, "ab" * 32, "0x" + "ab" * 32, "T" + "1" * 33),
    *([], {}, [None], [[]], [{}], {"x": []}, [1, 2], ["", ""], {"code": []}),
]


def lie(answer: Any, random: Random) -> Any:
    """A copy in which something is of another kind, is another's, is gone, or is there twice."""
    holder = [deepcopy(answer)]
    places: list[tuple[Any, Any]] = []
    _collect(holder, places)
    at, key = random.choice(places)
    match random.randrange(10):
        case 0:
            del at[key]
        case 1 if isinstance(at, list):
            at.insert(key, deepcopy(at[key]))
        case 2:
            other, its = random.choice(places)
            at[key] = deepcopy(other[its])
        case _:
            at[key] = deepcopy(random.choice(GARBAGE))
    return holder[0] if holder else None


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(inside):
        places.append((value, key))
        if isinstance(part, dict | list):
            _collect(part, places)
