"""Which provider a payout is sent to, or what it waits for."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from domain.payout import hours, pace, sending_queries
from domain.payout import providers as known
from domain.payout.models import Payout, PayoutAttempt, PayoutProviderRow
from domain.payout.sending_settings import sending as settings
from domain.payout.states import AttemptState, Wait
from providers.payout.base import Refusal

PRIORITY = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider; or what keeps all from being asked, and when that is looked at again."""

    provider: str | None = None
    wait: Wait | None = None
    until: datetime | None = None


def choose(
    session: Session,
    payout: Payout,
    attempts: Sequence[PayoutAttempt],
    *,
    able: Collection[str],
    unreached: Collection[str],
    now: datetime,
) -> Choice:
    """Of those that this process has (`able`). The caller has made sure that every attempt is proven over.

    `unreached`: those that could not be reached a moment ago.
    """
    later = now + pace.pause(payout, pace.WAITING)
    fit = [
        row
        for row in sending_queries.providers(session)
        if row.name in able and payout.provider_wanted in (None, row.name)
        if known.takes(row, currency=payout.payout_asset, units=payout.payout_units, kind=payout.destination_kind)
    ]
    well = [row for row in fit if row.stopped_by is None and not known.is_down(row, now) and row.name not in unreached]
    if not well:
        return Choice(wait=Wait.PROVIDER, until=later)
    awake = [row for row in well if hours.is_open(hours.read(row.hours), now)]
    if not awake:
        opens = [hours.opens_at(found, now) for row in well if (found := hours.read(row.hours)) is not None]
        return Choice(wait=Wait.HOURS, until=min((each for each in opens if each is not None), default=later))
    rests = {row.name: _rests_until(attempts, row.name) for row in awake}
    rested = [row for row in awake if (until := rests[row.name]) is None or until <= now]
    rich = [row for row in rested if known.has(row, currency=payout.payout_asset, units=payout.payout_units)]
    if rich:
        return Choice(provider=_first(rich))
    if rested or _was_short(attempts):
        return Choice(wait=Wait.BALANCE, until=_soonest(rests.values(), now + settings().balance_pause, now))
    return Choice(wait=Wait.PROVIDER, until=_soonest(rests.values(), later, now))


def _first(rows: Sequence[PayoutProviderRow]) -> str:
    priorities = settings().priorities
    return min(rows, key=lambda row: (priorities.get(row.name, PRIORITY), row.name)).name


def _soonest(times: Iterable[datetime | None], otherwise: datetime, now: datetime) -> datetime:
    return min((each for each in times if each is not None and each > now), default=otherwise)


def _was_short(attempts: Sequence[PayoutAttempt]) -> bool:
    return bool(attempts) and attempts[-1].refusal == Refusal.FUNDS


def _rests_until(attempts: Sequence[PayoutAttempt], provider: str) -> datetime | None:
    """One that refused it is asked again after a while, others at once."""
    refused = [
        each
        for each in attempts
        if each.provider == provider and each.current in (AttemptState.REJECTED, AttemptState.FAILED)
    ]
    if not refused or refused[-1].answered_at is None:
        return None
    rests: timedelta = {
        Refusal.FUNDS: settings().balance_pause,
        Refusal.LIMIT: settings().limit_pause,
    }.get(Refusal(refused[-1].refusal or Refusal.PROVIDER), pace.WAITING * 2 ** min(len(refused), pace.DOUBLINGS))
    return refused[-1].answered_at + rests
