from collections.abc import Iterator

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.orm import Session

from core.db import transaction
from ledger.assets import sync_assets
from tests.integration.ledger.books import ALICE, CUSTODY, book, move, new_tenant
from tests.integration.ledger.sealing import seal_now


@pytest.fixture
def books(database_url: str) -> str:
    """An empty ledger that knows the configured assets, of which the euro is one. Gives a tenant's name."""
    with transaction() as session:
        sync_assets(session)
    return new_tenant()


@pytest.fixture
def sealed(books: str) -> str:
    """Twelve journals, three in each shard, in two seals."""
    for sealing in range(2):
        for place in range(6):
            book(books, f"deposit:{sealing}:{place}", move(CUSTODY, ALICE, 100 + place))
        assert seal_now() == 6
    return books


@pytest.fixture
def superuser(superuser_url: str) -> Iterator[Session]:
    """What it changes is not checked by any trigger or foreign key."""
    engine = create_engine(
        superuser_url.replace("postgresql:", "postgresql+psycopg:"),
        poolclass=NullPool,
        connect_args={"options": "-c session_replication_role=replica"},
    )
    with Session(engine) as made:
        yield made
