"""Payouts on chains, on real parts: PostgreSQL, the ledger, payouts; the chain and the signer as each test says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.db import transaction
from domain.onchain import settings
from ledger.assets import sync_assets
from tests.conftest import use
from tests.integration.onchain.lab import Lab, settings_of
from tests.integration.onchain.real import policy
from tests.integration.payout_sending.conftest import books
from tests.support.evm import Token
from tests.support.signer import RunningSigner, running_signer

__all__ = ["books"]


@pytest.fixture(scope="session")
def signer(token: Token, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSigner]:
    """With one wallet for all tests on the real node, as there is one node."""
    with running_signer(tmp_path_factory.mktemp("signer"), policy(token)) as running:
        yield running


@pytest.fixture
def on_a_chain(books: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    back = use(settings_of(tmp_path))
    settings.reload()
    with transaction() as session:
        sync_assets(session)
    yield books
    back()
    settings.reload()


@pytest.fixture
def lab(on_a_chain: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = Lab.of(on_a_chain)
    yield made
    made.desk.check_books()
