"""Fields of a node's JSON, as several kinds of chain have them. What no node may say raises MalformedError."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from chains.errors import MalformedError

Json = Mapping[str, Any]

NUMBER_MAX = 2**63 - 1
"""Of a block, a slot, a version, a log. No chain comes near it, and PostgreSQL's bigint holds no more (EIP-1985)."""
U64_MAX = 2**64 - 1
"""Of amounts, nonces: what a chain has 64 bits for."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES_END = datetime(9999, 1, 1, tzinfo=UTC)
"""A year before datetime's own end, so that a deadline can be added and a time zone applied to what was read."""

_PLAIN_HASH = re.compile(r"[0-9a-f]{64}")
_PREFIXED_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


def mapping(value: object) -> Json:
    if not isinstance(value, dict):
        raise MalformedError(f"{value!r:.80} is not an object")
    return value


def listing(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError(f"{value!r:.80} is not a list")
    return value


def text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{value!r:.80} is not a text")
    return value


def whole(value: object, most: int = NUMBER_MAX) -> int:
    """A number that is written as one, from 0 to `most`."""
    if type(value) is not int:
        raise MalformedError(f"{value!r:.80} is not a whole number")
    return bounded(value, most)


def bounded(number: int, most: int = NUMBER_MAX) -> int:
    if not 0 <= number <= most:
        raise MalformedError(f"{number!r:.80} is not a number from 0 to {most}")
    return number


def time_of(count: int, unit: timedelta) -> datetime:
    """So many units since 1970."""
    try:
        time = _EPOCH + count * unit
    except OverflowError:
        time = _TIMES_END
    if not _EPOCH <= time < _TIMES_END:
        raise MalformedError(f"{count!r:.80} is not a time")
    return time


def plain_hash(value: object) -> str:
    """64 hex digits in lower case, and no others."""
    if not isinstance(value, str) or not _PLAIN_HASH.fullmatch(value):
        raise MalformedError(f"{value!r:.80} is not a hash")
    return value


def prefixed_hash(value: object) -> str:
    """0x and 64 hex digits; in lower case, however it was spelled."""
    if not isinstance(value, str) or not _PREFIXED_HASH.fullmatch(value):
        raise MalformedError(f"{value!r:.80} is not a hash")
    return value.lower()
