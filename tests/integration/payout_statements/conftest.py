"""Statements over HTTP, from the doubles, against real books."""

import json
from collections.abc import Iterator

import pytest

from config import settings
from core.db import transaction
from domain.payout.sending_settings import sending
from domain.payout.settings import payout
from ledger.assets import sync_assets
from tests.integration.cli.conftest import cli
from tests.integration.payout_statements.counter import Counter
from tests.support.payouts import DOUBLES
from tests.support.payouts.base import Double
from tests.support.payouts.razorpayx import RazorpayxDouble

__all__ = ["cli"]

CACHES = (settings.vault.cache_clear, sending.cache_clear, payout.cache_clear)


@pytest.fixture
def books(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("VAULT_KEYS", json.dumps(["1a" * 32]))
    monkeypatch.setenv("VAULT_FINGERPRINT_KEY", "1c" * 32)
    for forget in CACHES:
        forget()
    with transaction() as session:
        sync_assets(session)
    yield monkeypatch
    monkeypatch.undo()
    for forget in CACHES:
        forget()


@pytest.fixture(params=DOUBLES, ids=[kind.name for kind in DOUBLES])
def each(request: pytest.FixtureRequest, books: pytest.MonkeyPatch) -> Iterator[Counter]:
    """With each provider in turn."""
    double: Double
    with request.param() as double:
        yield Counter.of(books, double)


@pytest.fixture
def counter(books: pytest.MonkeyPatch) -> Iterator[Counter]:
    """With RazorpayX, whose statement has both sides of everything."""
    with RazorpayxDouble() as double:
        yield Counter.of(books, double)
