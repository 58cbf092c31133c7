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

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/configuration.md").read_text()
ROWS = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \| [^|]* \|$", PAGE, flags=re.MULTILINE))


def modules() -> list[ModuleType]:
    """config.settings, those of the hot store, and those that slices of the domain and kinds of providers have."""
    paths = sorted(path for folder in ("domain", "providers") for path in (ROOT / folder).glob("*/*settings.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [settings, hot, *(importlib.import_module(name) for name in names)]


def fields() -> dict[str, FieldInfo]:
    """Every environment variable that we read. A class that others are made of reads none itself."""
    classes = [
        each
        for module in modules()
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BaseSettings) and each.__module__ == module.__name__
        if not each.__subclasses__()
    ]
    assert classes
    return {
        f"{each.model_config.get('env_prefix', '')}{name}".upper(): field
        for each in classes
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
