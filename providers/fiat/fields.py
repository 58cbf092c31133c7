"""Reading what a gateway writes. Whatever it may not write raises PermanentError, in which none of it is repeated."""

import json
import re
from collections.abc import Mapping
from typing import Any

from config import assets
from core.errors import PermanentError
from core.http import RefusedError

Json = Mapping[str, Any]

UNITS_MAX = 10**18
"""Of one amount that a gateway tells. More is a mistake of theirs or of ours."""

_WORDS_MAX = 300
_PERSONAL = re.compile(r"[^\s\"'<>]+@[^\s\"'<>]+|\+?\d[\d\s().-]{5,}\d")


def event(body: bytes) -> Json:
    """A webhook's body. Raises PermanentError unless it is a JSON object."""
    try:
        return mapping(json.loads(body, parse_float=str), "event")
    except (ValueError, RecursionError):
        raise PermanentError("a webhook's body is no JSON") from None


def mapping(value: object, name: str) -> Json:
    if not isinstance(value, dict):
        raise PermanentError(f"{name} is no object")
    return value


def listing(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise PermanentError(f"{name} is no list")
    return value


def text(row: Json, name: str) -> str:
    """A text that is there and not empty."""
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise PermanentError(f"{name} is no text")
    return value


def perhaps(row: Json, name: str) -> str | None:
    """A text, or None if there is none."""
    value = row.get(name)
    return value if isinstance(value, str) and value else None


def whole(row: Json, name: str) -> int:
    """A number of units or seconds, written as a whole number."""
    value = row.get(name)
    if type(value) is not int or abs(value) > UNITS_MAX:
        raise PermanentError(f"{name} is no whole number")
    return value


def amount(row: Json, name: str) -> int:
    """The same of what can't be less than nothing: paid, refunded, disputed, a fee."""
    value = whole(row, name)
    if value < 0:
        raise PermanentError(f"{name} is negative")
    return value


def scale(currency: str) -> int:
    """Decimal places of `iso4217:INR`. Raises PermanentError if no chains file describes it."""
    asset = assets.registry().assets.get(currency)
    if asset is None or not currency.startswith("iso4217:"):
        raise PermanentError(f"no chains file describes the currency {currency:.40}")
    return asset.scale


def code(currency: str) -> str:
    """`INR` of `iso4217:INR`."""
    return currency.partition(":")[2]


def currency(row: Json, name: str = "currency") -> str:
    """As we write it, however the provider spells it."""
    said = text(row, name).upper()
    if len(said) != len("XXX") or not (said.isascii() and said.isalpha()):
        raise PermanentError(f"{name} is no currency")
    return f"iso4217:{said}"


def error(refused: RefusedError) -> Json:
    """The object of an answer that refuses; empty if it has none."""
    try:
        said = json.loads(refused.reply.body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def why(*words: object) -> str:
    """In the provider's code and words, without what looks like a person's address or number."""
    said = ": ".join(str(word) for word in words if word)
    return _PERSONAL.sub("…", said[: 4 * _WORDS_MAX])[:_WORDS_MAX] or "no reason given"
