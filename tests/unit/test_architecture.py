"""What import-linter and the types can't hold: names at the seams, money without floats, files without addresses."""

import ast
import importlib
import pkgutil
import runpy
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from celery.app import defaults
from kombu.transport import redis as kombu_redis

import tasks
from config import assets, settings
from config.queues import QUEUES, queue_of
from schedules import beat
from tasks.base import TASKS
from workers.fleet import FLEET

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


# --- names ------------------------------------------------------------------------------------------------------------


def test_no_other_distribution_ships_a_top_level_name_of_ours() -> None:
    """Flat top-level packages are an application's choice: a foreign `config` or `core` would shadow ours."""
    foreign = {
        name: [each for each in distributions if each != PROJECT["project"]["name"]]
        for name, distributions in metadata.packages_distributions().items()
        if name in [*PACKAGES, "migrations", "tests", "bench"]
    }
    assert {name: names for name, names in foreign.items() if names} == {}


@pytest.fixture
def _all_tasks() -> None:
    """What a worker imports, but for the application's configuration, which belongs to whoever has servers."""
    for module in pkgutil.iter_modules(tasks.__path__):
        importlib.import_module(f"tasks.{module.name}")


@pytest.mark.usefixtures("_all_tasks")
def test_every_task_of_the_timetable_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    chains = [chain for chain in assets.registry().chains if chain.startswith("eip155:")]
    urls = ", ".join(f'"{chain}": ["http://127.0.0.1:1"]' for chain in chains)
    monkeypatch.setenv("RPC_URLS", f"{{{urls}}}")
    forget()
    try:
        timetable = beat.timetable()
    finally:
        monkeypatch.undo()
        forget()
    assert {schedule.args["chain"] for schedule in timetable if "chain" in schedule.args} == set(chains)
    assert [schedule.name for schedule in timetable if schedule.task not in TASKS] == []
    for schedule in timetable:
        TASKS[schedule.task].validate(schedule.args)
    names = [schedule.name for schedule in timetable]
    assert len(names) == len(set(names)), "a schedule's name is its key"


def forget() -> None:
    settings.reload()
    assets.reload()


def submitted_tasks() -> Iterator[tuple[str, str]]:
    """The first argument of each NewJob(...), where the source says which task it is."""
    for path in sources("api", "cli", "core", "domain", "local", "schedules", "tasks", "workers"):
        tree = parse(path)
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NewJob":
                named = [keyword.value for keyword in node.keywords if keyword.arg == "task"]
                first = (node.args or named)[0]
                if isinstance(first, ast.Constant):
                    yield where(path, node), str(first.value)
                elif isinstance(first, ast.Name) and first.id in constants:
                    yield where(path, node), str(constants[first.id])


@pytest.mark.usefixtures("_all_tasks")
def test_every_submitted_task_exists() -> None:
    assert [(place, task) for place, task in submitted_tasks() if task not in TASKS] == []


@pytest.mark.usefixtures("_all_tasks")
def test_every_task_has_a_queue_and_every_queue_a_heartbeat() -> None:
    assert [name for name in TASKS if queue_of(name) is None] == []
    assert [queue for queue in QUEUES if f"{queue}.heartbeat" not in TASKS] == []


# --- the fleet and the broker -----------------------------------------------------------------------------------------


def test_every_queue_is_served_and_every_served_queue_exists() -> None:
    served = [queue for group in FLEET for queue in group.queues]
    assert set(served) == set(QUEUES)
    assert len({group.name for group in FLEET}) == len(FLEET)


@pytest.fixture
def celery_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """config/celery.py, run and not imported: what is imported stays, and other tests have other servers."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    forget()
    found = runpy.run_path(str(ROOT / "config/celery.py"))
    yield {name: value for name, value in found.items() if not name.startswith("_")}
    monkeypatch.undo()
    forget()


def test_every_setting_of_celery_is_one_that_it_knows(celery_settings: dict[str, Any]) -> None:
    """Celery ignores a misspelt setting without a word."""
    ours = {name for name in celery_settings if name.islower()} - {"settings"}
    assert "broker_transport_options" in ours
    assert ours - set(defaults.SETTING_KEYS) == set()


def test_every_transport_option_is_one_that_kombu_reads(celery_settings: dict[str, Any]) -> None:
    known = set(kombu_redis.Channel.from_transport_options)
    assert set(celery_settings["broker_transport_options"]) - known == set()


def test_no_message_is_delivered_again_while_it_may_still_be_worked_on(celery_settings: dict[str, Any]) -> None:
    visible_again = celery_settings["broker_transport_options"]["visibility_timeout"]
    assert [queue.name for queue in QUEUES.values() if queue.time_limit.total_seconds() >= visible_again] == []


# --- money ------------------------------------------------------------------------------------------------------------


# Keys and their scopes: no amount passes here, and a cache's age in seconds may be a float.
NO_MONEY = ROOT / "domain/access"
MONEY = [path for path in sources("ledger", "domain") if not path.is_relative_to(NO_MONEY)]


@pytest.mark.parametrize("path", [*MONEY, ROOT / "core/money.py"], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_float_near_money(path: Path) -> None:
    """Neither made, nor written, nor typed."""
    found = [
        where(path, node)
        for node in ast.walk(parse(path))
        if (isinstance(node, ast.Name) and node.id in {"float", "Float"})
        or (isinstance(node, ast.Attribute) and node.attr in {"Float", "REAL", "DOUBLE_PRECISION"})
        or (isinstance(node, ast.Constant) and isinstance(node.value, float | complex))
    ]
    assert found == []


# --- files ------------------------------------------------------------------------------------------------------------


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git repository: an archive tracks nothing")
    return [name for name in listed.stdout.split("\0") if name]


# In halves, so that this file doesn't name what it forbids.
FORBIDDEN = tuple(
    "".join(halves)
    for halves in (
        ("--index", "-url "),
        ("--extra-index", "-url "),
        ("pypi", ".org"),
        ("files.python", "hosted.org"),
        ("registry.npm", "js.org"),
        ("registry.yarn", "pkg.com"),
        ("/artifact", "ory/"),
    )
)


def test_no_tracked_file_names_a_package_registry() -> None:
    """Where packages come from is the machine's to say (pip's and npm's configuration), what they are is the hash's."""
    found = []
    for name in tracked():
        path = ROOT / name
        if not path.is_file() or path.suffix in {".whl", ".png"}:
            continue
        text = path.read_text(errors="replace")
        found += [f"{name}: {each.strip()}" for each in FORBIDDEN if each in text]
    assert found == []


def test_no_secret_file_is_tracked() -> None:
    assert [name for name in tracked() if Path(name).name in {".env", "settings.env"} or name.endswith(".pem")] == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/adr"
    index = (folder / "README.md").read_text()
    assert [path.name for path in sorted(folder.glob("0*.md")) if f"({path.name})" not in index] == []
