"""How much may leave in a day and in a week: counters that are raised in the transaction that binds the money.

A counter's row is locked by whoever raises it until his transaction ends, so two that would together pass a limit wait
for each other. Rows are taken in one order everywhere: the account's in the ledger, then here the account's, the
tenant's, the destination's. As a destination's rows are the tenant's too, whoever has the tenant's row waits for
nobody behind it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import cast, get_args

from sqlalchemy import text, tuple_, update
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, InvariantError, TransientError
from domain.payout import screening_queries
from domain.payout.errors import LimitExceededError, TooManyRequestsError
from domain.payout.models import Payout, PayoutUsage
from domain.payout.ports import Ports
from domain.payout.settings import LimitName
from domain.payout.settings import payout as settings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SCOPES = ("account", "tenant", "destination")
"""In the order in which their rows are locked."""
PERCENT = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a limit is used, this payout included."""

    name: LimitName
    used: int
    most: int


# Yesterday's row is touched, too: who counts around midnight by another clock takes one of the same rows, so that no
# two whose weeks overlap pass each other unseen.
_RAISE = text(
    """
    INSERT INTO payout_usage (tenant, scope, key, day, value_cents, count)
    VALUES (:tenant, :scope, :key, :yesterday, 0, 0), (:tenant, :scope, :key, :today, :value, :count)
    ON CONFLICT (tenant, scope, key, day) DO UPDATE
      SET value_cents = payout_usage.value_cents + excluded.value_cents, count = payout_usage.count + excluded.count
    """
)
_USED = text(
    """
    SELECT scope,
      coalesce(sum(value_cents) FILTER (WHERE day = :today), 0) AS day,
      coalesce(sum(value_cents), 0) AS week,
      coalesce(sum(count) FILTER (WHERE day = :today), 0) AS day_count,
      coalesce(sum(count), 0) AS week_count
    FROM payout_usage
    WHERE tenant = :tenant AND day > :week_ago AND day <= :today
      AND ((scope = 'account' AND key = :account) OR (scope = 'tenant' AND key = :tenant)
        OR (scope = 'destination' AND key = :destination))
    GROUP BY scope
    """
)


def value_of(session: Session, asset: str, units: int, ports: Ports) -> int | None:
    """In cents of PAYOUT_LIMIT_CURRENCY at the rate of now, rounded up; None while there is no usable rate."""
    try:
        rate = ports.rate(session, asset, settings().limit_currency)
    except (TransientError, InvalidRequestError):
        return None
    return -(-units * rate.numerator // rate.denominator)


def count(session: Session, payout: Payout, *, now: datetime) -> None:
    """Count it under today, once its money is bound. What has no value counts as one of value 0.

    Raises LimitExceededError and TooManyRequestsError: the caller rolls back to before the hold.
    """
    if payout.counted_on is not None:
        raise InvariantError(f"{payout.subject} is counted under {payout.counted_on} already")
    most = settings().limit(payout.tenant, "each")
    if payout.value_cents is not None and payout.value_cents > most:
        raise LimitExceededError("each", most=most, would_be=payout.value_cents)
    recount(session, payout, now=now)
    for standing in standings(session, payout):
        if standing.used > standing.most:
            raise LimitExceededError(standing.name, most=standing.most, would_be=standing.used)


def recount(session: Session, payout: Payout, *, now: datetime) -> None:
    """Count it under today, whatever the limits say: of one that was given up and turned out to be paid."""
    if payout.counted_on is not None:
        return
    payout.counted_on = now.date()
    for scope, key in _keys(payout):
        _raise(session, (payout.tenant, scope, key), payout.counted_on, value=payout.value_cents or 0, added=1)


def lock(session: Session, tenant: str, accounts: Iterable[str], *, now: datetime) -> None:
    """Take the counters of these accounts and the tenant's, so that many payouts of theirs can be counted in a row."""
    for account in sorted(set(accounts)):
        _raise(session, (tenant, "account", account), now.date(), value=0, added=0)
    _raise(session, (tenant, "tenant", tenant), now.date(), value=0, added=0)


def _raise(session: Session, counter: tuple[str, str, str], day: date, *, value: int, added: int) -> None:
    tenant, scope, key = counter
    session.execute(
        _RAISE,
        {
            "tenant": tenant,
            "scope": scope,
            "key": key,
            "yesterday": day - DAY,
            "today": day,
            "value": value,
            "count": added,
        },
    )


def release_usage(session: Session, payout: Payout) -> None:
    """Take it back out of the counters, as it ended unpaid: rejected, cancelled, failed or returned. Twice is once.

    Comes behind whatever locks its account in the ledger (letting the hold go, a reversal).
    """
    if payout.counted_on is None:
        return
    for scope, key in _keys(payout):
        session.execute(
            update(PayoutUsage)
            .where(
                tuple_(PayoutUsage.tenant, PayoutUsage.scope, PayoutUsage.key, PayoutUsage.day)
                == tuple_(payout.tenant, scope, key, payout.counted_on)
            )
            .values(value_cents=PayoutUsage.value_cents - (payout.value_cents or 0), count=PayoutUsage.count - 1),
            execution_options={"synchronize_session": False},
        )
    payout.counted_on = None


def standings(session: Session, payout: Payout) -> Sequence[Standing]:
    """Every limit by day and week, as it stands on the day under which the payout counts."""
    return list(_standings(session, payout))


def near(session: Session, payout: Payout) -> Sequence[Standing]:
    """The limits that it takes over PAYOUT_LIMIT_REVIEW_PERCENT: a person looks."""
    part = settings().limit_review_percent
    return [each for each in standings(session, payout) if each.used * PERCENT > each.most * part]


def _standings(session: Session, payout: Payout) -> Iterator[Standing]:
    if payout.counted_on is None:
        return
    rows = session.execute(
        _USED,
        {
            "tenant": payout.tenant,
            "account": payout.account,
            "destination": payout.destination_fingerprint,
            "today": payout.counted_on,
            "week_ago": payout.counted_on - 7 * DAY,
        },
    ).all()
    used = {f"{row.scope}_{period}": int(getattr(row, period)) for row in rows for period in _PERIODS}
    for name in cast("tuple[LimitName, ...]", get_args(LimitName)):
        if name != "each":
            yield Standing(name, used.get(name, 0), settings().limit(payout.tenant, name))


_PERIODS = ("day", "week", "day_count", "week_count")


def check_pace(session: Session, payout: Payout, *, now: datetime) -> None:
    """At most so many requests an hour. Comes behind `count`, by whose lock the account's requests wait for each other.

    A batch is one request. What was refused left nothing behind, and doesn't count. Raises TooManyRequestsError.
    """
    most = settings().requests_hourly
    asked = screening_queries.requests(
        session, tenant=payout.tenant, account=payout.account, since=now - HOUR, besides=payout.id, limit=most
    )
    mine = payout.batch_id or payout.id
    times = [at for request, at in asked if request != mine]
    if len(times) >= most:
        raise TooManyRequestsError(payout.account, most=most, retry_after=max(times[most - 1] + HOUR - now, DAY * 0))


def _keys(payout: Payout) -> Iterator[tuple[str, str]]:
    keys = {"account": payout.account, "tenant": payout.tenant, "destination": payout.destination_fingerprint}
    for scope in SCOPES:
        yield scope, keys[scope]
