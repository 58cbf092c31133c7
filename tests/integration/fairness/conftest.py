"""Keys to seal seeds with, as a deployment has them."""

import json
from collections.abc import Callable, Iterator

import pytest

from config import settings

OLD_KEY, NEW_KEY = "0a" * 32, "0b" * 32
UseKeys = Callable[..., None]


@pytest.fixture
def use_keys(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseKeys]:
    """Set FAIRNESS_KEYS; to nothing: no such setting."""

    def use(*keys: str) -> None:
        if keys:
            monkeypatch.setenv("FAIRNESS_KEYS", json.dumps(keys))
        else:
            monkeypatch.delenv("FAIRNESS_KEYS", raising=False)
        settings.reload()

    yield use
    monkeypatch.undo()
    settings.reload()


@pytest.fixture(autouse=True)
def _key(use_keys: UseKeys) -> None:
    use_keys(OLD_KEY)
