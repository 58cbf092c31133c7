"""Payouts that are sent, on real parts: PostgreSQL and the ledger, with a provider that is scripted."""

import json
from collections.abc import Iterator

import pytest

from config import settings
from core.db import transaction
from domain.payout.sending_settings import sending
from domain.payout.settings import payout
from ledger.assets import sync_assets
from tests.integration.payout_sending.desk import Desk
from tests.integration.payout_sending.scripted import ScriptedProvider

KEY, MARK = "1a" * 32, "1c" * 32


@pytest.fixture
def books(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A ledger that knows the assets of the registry, and a vault."""
    monkeypatch.setenv("VAULT_KEYS", json.dumps([KEY]))
    monkeypatch.setenv("VAULT_FINGERPRINT_KEY", MARK)
    for forget in (settings.vault.cache_clear, sending.cache_clear, payout.cache_clear):
        forget()
    with transaction() as session:
        sync_assets(session)
    yield monkeypatch
    monkeypatch.undo()
    for forget in (settings.vault.cache_clear, sending.cache_clear, payout.cache_clear):
        forget()


@pytest.fixture
def desk(books: pytest.MonkeyPatch) -> Iterator[Desk]:
    """With one provider."""
    made = Desk.of(books)
    yield made
    made.check_books()


@pytest.fixture
def two(books: pytest.MonkeyPatch) -> Iterator[Desk]:
    """With two: acme is chosen before bravo."""
    made = Desk.of(books, ScriptedProvider("acme"), ScriptedProvider("bravo"))
    yield made
    made.check_books()
