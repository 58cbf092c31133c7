"""Which payout providers there are, what they can do and how they are: written by workers, read by whoever chooses."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock
from core.errors import PermanentError, TransientError
from core.jobs import transaction
from domain.payout import hours
from domain.payout.models import PayoutProviderRow
from domain.payout.sending_settings import sending as settings
from providers.payout.base import PayoutProvider

log = structlog.stdlib.get_logger(__name__)


def refresh(providers: Mapping[str, PayoutProvider]) -> None:
    """Write down what this deployment's providers can do, and what we have there. No transaction is open meanwhile."""
    balances = {name: _balances(provider) for name, provider in sorted(providers.items())}
    with transaction() as session:
        write(session, providers, balances)


def _balances(provider: PayoutProvider) -> dict[str, Any]:
    """Those that were told. What a provider doesn't answer for now keeps the last answer."""
    found: dict[str, Any] = {}
    for currency in sorted(provider.abilities.currencies):
        at = clock.now()
        try:
            units = provider.balance(currency)
        except (TransientError, PermanentError) as error:
            log.warning("payout.no_balance", provider=provider.name, currency=currency, error=str(error))
            continue
        found[currency] = {"units": str(units), "at": at.isoformat()}
    return found


def write(session: Session, providers: Mapping[str, PayoutProvider], balances: Mapping[str, Mapping[str, Any]]) -> None:
    """One that is configured no more is forgotten, unless a person stopped it: that must not be forgotten with it."""
    now = clock.now()
    session.execute(
        delete(PayoutProviderRow).where(
            PayoutProviderRow.name.not_in(list(providers)), PayoutProviderRow.stopped_by.is_(None)
        )
    )
    for name in sorted(providers):
        able = providers[name].abilities
        told = {
            "currencies": {
                currency: {"min": str(span.units_min), "max": str(span.units_max)}
                for currency, span in sorted(able.currencies.items())
            },
            "kinds": sorted(map(str, able.kinds)),
            "hours": hours.kept(able.hours),
            "seen_at": now,
        }
        known = dict(balances.get(name, {}))
        statement = insert(PayoutProviderRow).values(name=name, failures=0, balances=known, **told)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["name"],
                set_={**told, "balances": PayoutProviderRow.balances.op("||")(statement.excluded.balances)},
            )
        )


def takes(row: PayoutProviderRow, *, currency: str, units: int, kind: str) -> bool:
    """Whether it can take such a payout."""
    span = row.currencies.get(currency)
    return span is not None and int(span["min"]) <= units <= int(span["max"]) and kind in row.kinds


def has(row: PayoutProviderRow, *, currency: str, units: int) -> bool:
    """Whether we had enough there, when it was last asked. Not known is enough: then it says so itself."""
    known = row.balances.get(currency)
    return known is None or int(known["units"]) >= units


def is_down(row: PayoutProviderRow, now: datetime) -> bool:
    """It failed some times in a row, the last time a moment ago."""
    chosen = settings()
    if row.failures < chosen.down_after or row.failed_at is None:
        return False
    return now < row.failed_at + chosen.down_for


def answered(session: Session, name: str, *, ok: bool) -> None:
    """Note how a call went. Written only where that changes something: all payouts of a provider share its row."""
    row = session.get(PayoutProviderRow, name, populate_existing=True)
    if row is None or (ok and not row.failures):
        return
    row.failures = 0 if ok else row.failures + 1
    if not ok:
        row.failed_at = clock.now()
