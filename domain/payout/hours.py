"""When a provider sends, as its row has it. Pure."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from providers.payout.base import Hours

WEEK = 7


def kept(hours: Hours | None) -> dict[str, Any] | None:
    if hours is None:
        return None
    return {
        "zone": hours.zone,
        "days": sorted(hours.days),
        "begin": hours.begin.isoformat(),
        "end": hours.end.isoformat(),
    }


def read(row: dict[str, Any] | None) -> Hours | None:
    if row is None:
        return None
    return Hours(
        zone=row["zone"],
        days=frozenset(row["days"]),
        begin=time.fromisoformat(row["begin"]),
        end=time.fromisoformat(row["end"]),
    )


def is_open(hours: Hours | None, now: datetime) -> bool:
    if hours is None:
        return True
    there = now.astimezone(ZoneInfo(hours.zone))
    if there.weekday() not in hours.days:
        return False
    return hours.begin == hours.end or hours.begin <= there.time() < hours.end


def opens_at(hours: Hours, now: datetime) -> datetime | None:
    """The next time that it begins to send. None: it never does."""
    zone = ZoneInfo(hours.zone)
    begin = time() if hours.begin == hours.end else hours.begin
    today = now.astimezone(zone).date()
    for days in range(WEEK + 1):
        day = today + timedelta(days=days)
        opens = datetime.combine(day, begin, zone).astimezone(UTC)
        if day.weekday() in hours.days and opens > now:
            return opens
    return None
