"""Which gateways there are, what they can do and how they are: written by workers, read by whoever must choose."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, or_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock, db
from domain.fiat_payment import queries
from domain.fiat_payment.models import FiatGateway
from domain.fiat_payment.settings import fiat_payment as settings
from providers.fiat.base import Gateway, Method

PRIORITY = 100
REFUSED_FOR = timedelta(minutes=15)
"""So long after it refused our credentials a gateway is said to: what failed then is tried again within that time."""
REFUSED_EVERY = timedelta(minutes=1)
"""How often that is written."""


def refresh(session: Session, gateways: Mapping[str, Gateway]) -> None:
    """Write down what this deployment's gateways can do. One that is configured no more is forgotten."""
    now = clock.now()
    session.execute(delete(FiatGateway).where(FiatGateway.name.not_in(list(gateways))))
    for name in sorted(gateways):
        able = gateways[name].abilities
        told = {
            "currencies": {
                currency: {"min": str(span.units_min), "max": str(span.units_max)}
                for currency, span in sorted(able.currencies.items())
            },
            "methods": sorted(map(str, able.methods)),
            "refunds": able.refunds,
            "settlements": able.settlements,
            "seen_at": now,
        }
        statement = insert(FiatGateway).values(name=name, failures=0, **told)
        session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=told))


def takes(gateway: FiatGateway, *, currency: str, units: int, method: str) -> bool:
    """Whether it can take such a payment."""
    span = gateway.currencies.get(currency)
    if span is None or not int(span["min"]) <= units <= int(span["max"]):
        return False
    return method == Method.ANY or method in gateway.methods


def choice(session: Session, *, currency: str, units: int, method: str) -> Sequence[str]:
    """Who can take it, in the order in which they are asked: those that answer before others, then by priority."""
    able = [
        gateway
        for gateway in queries.gateways(session)
        if takes(gateway, currency=currency, units=units, method=method)
    ]
    priorities = settings().priorities
    able.sort(key=lambda one: (is_down(one), priorities.get(one.name, PRIORITY), one.name))
    return [gateway.name for gateway in able]


def is_down(gateway: FiatGateway) -> bool:
    """It failed some times in a row, the last time a moment ago."""
    chosen = settings()
    if gateway.failures < chosen.down_after or gateway.failed_at is None:
        return False
    return clock.now() < gateway.failed_at + chosen.down_for


def is_refused(gateway: FiatGateway) -> bool:
    """Our credentials were refused a moment ago."""
    return gateway.refused_at is not None and clock.now() < gateway.refused_at + REFUSED_FOR


def credentials_refused(name: str) -> None:
    """Note it, in a transaction of its own: what it is noticed in may fail for it."""
    now = clock.now()
    long_ago = or_(FiatGateway.refused_at.is_(None), FiatGateway.refused_at < now - REFUSED_EVERY)
    with db.transaction() as session:
        session.execute(update(FiatGateway).where(FiatGateway.name == name, long_ago).values(refused_at=now))


def answered(session: Session, name: str, *, ok: bool) -> None:
    """Note how a call went. Written only where that changes something: all payments of a gateway share its row."""
    gateway = session.get(FiatGateway, name, populate_existing=True)
    if gateway is None or (ok and not gateway.failures):
        return
    change: dict[str, Any] = {"failures": 0}
    if not ok:
        change = {"failures": FiatGateway.failures + 1, "failed_at": clock.now()}
    session.execute(update(FiatGateway).where(FiatGateway.name == name).values(change))
