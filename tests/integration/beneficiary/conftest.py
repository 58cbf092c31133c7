import json
from collections.abc import Callable, Iterator

import pytest

from config import settings

OLD_KEY, NEW_KEY, MARK_KEY = "1a" * 32, "1b" * 32, "1c" * 32
UseKeys = Callable[..., None]


@pytest.fixture
def vault_keys(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseKeys]:
    """A vault with one key, and a way to others."""

    def use(*keys: str) -> None:
        monkeypatch.setenv("VAULT_KEYS", json.dumps(keys))
        monkeypatch.setenv("VAULT_FINGERPRINT_KEY", MARK_KEY)
        settings.reload()

    use(OLD_KEY)
    yield use
    monkeypatch.undo()
    settings.reload()
