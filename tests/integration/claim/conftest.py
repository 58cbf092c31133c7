from collections.abc import Iterator

import pytest

from core.hot import client
from core.hot.settings import hot
from tests.integration.claim.desk import SHARDS, Desk


@pytest.fixture
def desk(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("HOT_SHARDS", str(SHARDS))
    forget()
    yield Desk(client.client())
    monkeypatch.undo()
    forget()


def forget() -> None:
    client.dispose()
    hot.cache_clear()
