"""A gateway that doesn't take our credentials: written down where Prometheus looks, and nothing else is touched."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

import tasks.fiat_payments  # noqa: F401  # listens
from core import db
from core.http import CredentialsRefusedError
from domain.fiat_payment import service as payments
from providers.fiat.base import Gateway
from tests.support import faulty
from tests.support.gateways.razorpay import RazorpayDouble
from tests.support.gateways.unlimit import UnlimitDouble


def refused() -> dict[str, bool]:
    with db.transaction() as session:
        return payments.figures(session).refused


def refused_at() -> datetime | None:
    with db.transaction() as session:
        found: datetime | None = session.scalar(text("SELECT refused_at FROM fiat_gateways WHERE name = 'razorpay'"))
        return found


def ask(gateway: Gateway) -> None:
    with db.transaction() as session:
        now = session.execute(text("SELECT now()")).scalar_one()
    assert gateway.find(reference=str(uuid4()), provider_ref=None, made_at=now) is None


def test_it_is_marked_until_a_while_after_the_last_time(database_url: str) -> None:
    with RazorpayDouble() as double, UnlimitDouble() as other:
        gateway, sound = double.gateway(), other.gateway()
        with db.transaction() as session:
            payments.refresh_gateways(session, {"razorpay": gateway, "unlimit": sound})
        ask(gateway)
        ask(sound)
        other.forget_tokens()
        ask(sound)
        assert refused() == {"razorpay": False, "unlimit": False}, "a token that is renewed is no refusal"
        double.upset(faulty.saying(403), times=2, when=lambda _: True)
        with pytest.raises(CredentialsRefusedError):
            ask(gateway)
        first = refused_at()
        with pytest.raises(CredentialsRefusedError):
            ask(gateway)
        assert first is not None and refused_at() == first, "it is written once a minute"
        assert refused() == {"razorpay": True, "unlimit": False}
        ask(gateway)
        with db.transaction() as session:
            payments.refresh_gateways(session, {"razorpay": gateway, "unlimit": sound})
        assert refused()["razorpay"], "the key may be right in one process and not in another"
        with db.transaction() as session:
            session.execute(text("UPDATE fiat_gateways SET refused_at = :at"), {"at": first - timedelta(minutes=16)})
        assert refused() == {"razorpay": False, "unlimit": False}
        double.upset(faulty.saying(401), when=lambda _: True)
        with pytest.raises(CredentialsRefusedError):
            ask(gateway)
        assert refused() == {"razorpay": True, "unlimit": False}
