"""docs/configuration.md names every setting, with the default that the code has."""

import importlib
import re
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from config import settings
from core.hot import settings as hot
from signer import settings as signer

EXAMPLE = re.compile(r"^# ([A-Z_]+)=(.+)$", flags=re.MULTILINE)
ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/configuration.md").read_text()
ROWS = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \| [^|]* \|$", PAGE, flags=re.MULTILINE))


def modules() -> list[ModuleType]:
    """config.settings, those of the hot store, the signer, slices of the domain, and kinds of providers."""
    paths = sorted(path for folder in ("domain", "providers") for path in (ROOT / folder).glob("*/*settings.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [settings, hot, signer, *(importlib.import_module(name) for name in names)]


def classes() -> list[type[BaseSettings]]:
    """A class that others are made of reads nothing itself."""
    found = [
        each
        for module in modules()
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BaseSettings) and each.__module__ == module.__name__
        if not each.__subclasses__()
    ]
    assert found
    return found


def fields() -> dict[str, FieldInfo]:
    """Every environment variable that we read."""
    return {
        f"{each.model_config.get('env_prefix', '')}{name}".upper(): field
        for each in classes()
        for name, field in each.model_fields.items()
    }


def test_the_page_has_each_setting_and_no_other() -> None:
    assert set(ROWS) == set(fields())


@pytest.mark.parametrize("name", sorted(fields()))
def test_the_page_gives_the_default_that_the_code_has(name: str) -> None:
    field = fields()[name]
    written = ROWS[name]
    if field.is_required():
        assert written == "required"
        return
    default: Any = field.get_default(call_default_factory=True)
    if default in (None, {}):
        assert written == "none"
        return
    match = re.fullmatch(r"`([^`]+)`", written)
    assert match is not None, f"{name}: a default stands in backticks"
    # Read as the environment would be read: 20 and PT20S are the same duration.
    kind: Any = settings.Duration if isinstance(default, timedelta) else type(default)
    assert TypeAdapter(kind).validate_python(match[1]) == default


def test_the_example_shows_settings_that_there_are_with_values_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = dict(EXAMPLE.findall((ROOT / "deploy/settings.env.example").read_text()))
    assert "PRICE_SOURCES" in shown and shown.keys() <= fields().keys()
    for name, value in shown.items():
        filled = value.replace("<openssl rand -hex 32>", "ab" * 32)
        monkeypatch.setenv(name, re.sub("<[^>]*>", "given-by-them", filled))
    for kind in classes():
        prefix = str(kind.model_config.get("env_prefix", ""))
        if not any(field.is_required() for field in kind.model_fields.values()):
            read = {f"{prefix}{name}".upper() for name in kind().model_fields_set}
            assert {name for name in shown if name.removeprefix(prefix).lower() in kind.model_fields} <= read
