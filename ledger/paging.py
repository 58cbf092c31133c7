"""Pages of the books, and the cursors between them.

Listings of entries name, for each row of an account, the version at which they go on: versions never change, so pages
stay put while money moves. A cursor may be made up by anybody, and can show nothing but what its listing may show.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from core.errors import InvalidRequestError

PAGE_MAX = 1_000
_BIGINT_END = 2**63
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    rows: tuple[T, ...]
    cursor: str | None
    """Give it back for the next page; None on the last one."""


def bounded(limit: int) -> int:
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidRequestError(f"a page has 1 to {PAGE_MAX} rows", field="limit")
    return limit


def moment(at: datetime, *, field: str) -> datetime:
    if at.tzinfo is None:
        raise InvalidRequestError(f"{field} needs a time zone", field=field)
    return at


def sealed(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")


def opened(cursor: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):  # RecursionError: a cursor made up of brackets
        raise bad_cursor() from None


def runs(versions: Mapping[int, int]) -> list[list[int]]:
    """Versions by account row, packed for a cursor: [id, version, version, ...] for each run of ids.

    The stripes of an account have ids in a row.
    """
    made: list[list[int]] = []
    for key, version in sorted(versions.items()):
        if made and made[-1][0] + len(made[-1]) - 1 == key:
            made[-1].append(version)
        else:
            made.append([key, version])
    return made


def versions(content: Any) -> dict[int, int]:
    """What `runs` packed."""
    made: dict[int, int] = {}
    for run in content if isinstance(content, list) else [content]:
        if not (isinstance(run, list) and len(run) > 1 and all(bigint(number) for number in run)):
            raise bad_cursor()
        made |= {run[0] + place: version for place, version in enumerate(run[1:])}
    return made


def bigint(value: object) -> bool:
    """Is it an id, a number or a version, as far as can be said without looking?"""
    return type(value) is int and 0 <= value < _BIGINT_END


def bad_cursor() -> InvalidRequestError:
    return InvalidRequestError("this cursor was not made by this listing", field="cursor")
