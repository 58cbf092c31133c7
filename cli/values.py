"""What people type: spans of time, moments, rates."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from core import clock

_SPAN = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SECONDS_MAX = 100 * 365 * 86_400
_RATE = re.compile(r"(\d{1,6})/(s|m|h)")


def span(text: str) -> timedelta:
    """`90s`, `15m`, `12h`, `30d`, `2w`."""
    found = _SPAN.fullmatch(text)
    if not found:
        raise typer.BadParameter(f"{text!r} is no span of time: write 90s, 15m, 12h, 30d or 2w")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds > _SECONDS_MAX:
        raise typer.BadParameter(f"{text!r} is longer than a hundred years")
    return timedelta(seconds=seconds)


def past(text: str) -> datetime:
    """A moment: how long ago (`2h`), or when (`2026-01-31T12:00`, UTC unless it says otherwise)."""
    try:
        if _SPAN.fullmatch(text):
            return clock.now() - span(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: write 2h for two hours ago, or 2026-01-31T12:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def day(text: str) -> date:
    """A day as ISO 8601 writes it."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day: write 2026-01-31") from None


def pause_of(text: str) -> timedelta:
    """The time between two at a rate: `50/s` is 20 ms. Also `600/m`, `1000/h`."""
    found = _RATE.fullmatch(text)
    if not found or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no rate: write 50/s, 600/m or 1000/h")
    return timedelta(seconds=_SECONDS[found[2]] / int(found[1]))


Limit = Annotated[int, typer.Option(min=1, max=1_000, help="Rows at most.")]
