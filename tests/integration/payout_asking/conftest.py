"""Payouts on real parts: PostgreSQL, the ledger, the destination book, the vault."""

from collections.abc import Iterator

import pytest

from core.db import transaction
from domain.payout import settings
from ledger.assets import sync_assets
from tests.integration.beneficiary.conftest import UseKeys, vault_keys
from tests.integration.payout_asking.desk import Desk

__all__ = ["vault_keys"]


@pytest.fixture
def desk(database_url: str, vault_keys: UseKeys, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A tenant that is no beginner, with room for more than five requests an hour."""
    made = Desk(monkeypatch)
    made.set(PAYOUT_FIRST_BY_HAND="0", PAYOUT_REQUESTS_HOURLY="100000")
    with transaction() as session:
        sync_assets(session)
    yield made
    made.check_books()
    monkeypatch.undo()
    settings.payout.cache_clear()
