from collections.abc import Iterator

import pytest

from core.db import transaction
from core.hot import client
from core.hot.settings import hot
from ledger.assets import sync_assets
from tests.integration.bet.house import House


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    """An empty house with a hot store that nobody turns but the test."""
    client.dispose()
    hot.cache_clear()
    with transaction() as session:
        sync_assets(session)
    yield House()
    client.dispose()
    hot.cache_clear()
