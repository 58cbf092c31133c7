import pytest

from core.db import transaction
from ledger.assets import sync_assets
from ledger.models import LedgerAsset
from tests.integration.ledger.books import EUR, new_tenant


@pytest.fixture
def books(database_url: str) -> str:
    """An empty ledger that knows the configured assets and the euro. Gives a tenant's name."""
    with transaction() as session:
        sync_assets(session)
        session.add(LedgerAsset(id=EUR, scale=2))
    return new_tenant()
