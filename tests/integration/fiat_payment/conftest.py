"""Payments on real parts: PostgreSQL and the ledger."""

from collections.abc import Iterator

import pytest

from core.db import transaction
from domain.fiat_payment import settings
from domain.fiat_payment.conversion import _no_rates
from domain.fiat_payment.service import use_rates
from ledger.assets import sync_assets
from tests.integration.fiat_payment.desk import Desk
from tests.integration.fiat_payment.scripted import ScriptedGateway


@pytest.fixture
def books(database_url: str) -> Iterator[None]:
    """A ledger that knows the assets of the registry."""
    settings.fiat_payment.cache_clear()
    with transaction() as session:
        sync_assets(session)
    yield
    use_rates(_no_rates)
    settings.fiat_payment.cache_clear()


@pytest.fixture
def desk(books: None) -> Iterator[Desk]:
    """With one gateway."""
    made = Desk()
    yield made
    made.check_books()


@pytest.fixture
def two(books: None) -> Iterator[Desk]:
    """With two: acme is chosen before bravo."""
    made = Desk(ScriptedGateway("acme"), ScriptedGateway("bravo"))
    yield made
    made.check_books()
