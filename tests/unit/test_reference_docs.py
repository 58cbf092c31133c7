"""docs/api.md, docs/cli.md and docs/jobs.md name every address, scope, command and task that there is."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter
from typer.main import get_group

import api.routes
import tasks
from api.hot.described import ENDPOINTS
from cli.main import app
from cli.nouns import NOUNS
from domain.access.service import Scope
from schedules.beat import timetable

DOCS = Path(__file__).parent.parent.parent / "docs"
API, CLI, JOBS = ((DOCS / f"{name}.md").read_text() for name in ("api", "cli", "jobs"))


def addresses() -> Iterator[tuple[str, str]]:
    """(method, path) of all that the interface describes."""
    yield "POST", "/v1/webhooks/{provider}"
    yield from (("POST", endpoint.route) for endpoint in ENDPOINTS)
    for found in pkgutil.iter_modules(api.routes.__path__):
        router = getattr(importlib.import_module(f"api.routes.{found.name}"), "router", None)
        for route in router.routes if isinstance(router, APIRouter) else ():
            if getattr(route, "include_in_schema", False):
                path: str = getattr(route, "path")  # noqa: B009  # of a BaseRoute, mypy knows none
                yield from ((method, path) for method in getattr(route, "methods"))  # noqa: B009


def commands() -> Iterator[str]:
    """`fiat end-refund`, and `up`, which is no noun's."""
    yield from (name for name in get_group(app).commands if name not in NOUNS)
    for noun in NOUNS:
        group = get_group(importlib.import_module(f"cli.{noun}").app)
        yield from (f"{noun} {name}" for name, command in group.commands.items() if not command.hidden)


def plain(text: str) -> str:
    """Parameters without their names."""
    return re.sub(r"\{[^}]*\}", "{}", text)


def test_the_api_s_page_names_each_address_and_scope() -> None:
    found = set(addresses())
    assert ("POST", "/v1/fiat-payments") in found and ("POST", "/v1/bets") in found
    assert [path for _, path in sorted(found) if plain(path) not in plain(API)] == []
    assert [scope for scope in Scope if f"| `{scope}` |" not in API] == []


def test_the_command_line_s_page_names_each_command() -> None:
    found = list(commands())
    assert "fiat end-refund" in found
    assert [each for each in found if not re.search(rf"tallyrail(?: --stack \w+)? {each}\b", CLI)] == []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Tasks of the timetable, of a deployment in which sources of prices are set."""
    from providers.prices import settings

    monkeypatch.setenv("PRICE_SOURCES", '["binance"]')
    settings.prices.cache_clear()
    found = {schedule.task for schedule in timetable()}
    settings.prices.cache_clear()
    return found


def test_the_jobs_page_names_each_task_where_it_belongs(asked: set[str]) -> None:
    written = "".join(path.read_text() for path in Path(tasks.__path__[0]).glob("*.py"))
    found = set(re.findall(r'@task\("([a-z_.]+)"', written))
    periodic, _, other = JOBS.partition("## The timetable")[2].partition("## Asked for by what happens")
    heartbeats = {task for task in asked if task.endswith(".heartbeat")}
    assert [task for task in sorted(asked - heartbeats) if f"`{task}`" not in periodic] == []
    assert [task for task in sorted(found - asked) if f"`{task}`" not in periodic + other] == []
    assert set(re.findall(r"^\| `([a-z]+_?[a-z]*\.[a-z_]+)`", periodic + other, flags=re.MULTILINE)) <= found
