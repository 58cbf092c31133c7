"""What production runs is what this repository says it runs: docker-compose.yml against the fleet and the local stack.

There is no Docker engine where these tests run. They read the file; they build and start nothing.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be a dependency for one line

from local.processes import WORKER_GRACE, Addresses, Tallyrail
from local.server import HOST
from signer.settings import SignerSettings
from workers.fleet import FLEET

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if name not in {"postgres", "valkey", "signer"}]
"""Those of the platform. The signer stands for itself."""
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")


def local_commands() -> dict[str, list[str]]:
    """What the one-machine stack runs, by name, without the interpreter."""
    program, addresses = Tallyrail(), Addresses(api_port=8000, flower_port=5555, flower_login="")
    processes = [program.migrate({}), *(each for batch in program.batches(addresses, {}) for each in batch)]
    return {process.name: process.argv[1:] for process in processes}


def as_in_a_container(arguments: list[str]) -> list[str]:
    """A container listens on all its addresses; the host decides who reaches them."""
    return [argument.replace(HOST, "0.0.0.0") for argument in arguments]


@pytest.mark.parametrize("name", sorted(local_commands()))
def test_each_process_is_started_as_the_local_stack_starts_it(name: str) -> None:
    program, *arguments = SERVICES[name]["command"]
    assert program == "python"
    assert arguments == as_in_a_container(local_commands()[name])


def test_there_is_no_service_that_the_local_stack_lacks() -> None:
    assert set(OURS) == set(local_commands())


@pytest.mark.parametrize("group", FLEET, ids=lambda group: group.name)
def test_each_fleet_group_has_its_worker(group: Any) -> None:
    service = SERVICES[f"worker-{group.name}"]
    command = service["command"]

    def option(flag: str) -> str:
        return str(command[command.index(flag) + 1])

    assert option("-Q").split(",") == list(group.queues)
    assert option("-P") == group.pool
    assert option("-c") == str(group.concurrency)
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "workers.health", *group.queues]
    assert service["stop_grace_period"] == f"{WORKER_GRACE:.0f}s"


def test_every_variable_is_in_the_example_and_nothing_secret_has_a_default() -> None:
    example = (ROOT / ".env.example").read_text()
    documented = set(re.findall(r"^#? ?([A-Z_]+)=", example, flags=re.MULTILINE))
    found = {name: kind for name, kind, _ in VARIABLE.findall(TEXT.replace("$$", ""))}
    assert set(found) == documented
    assert {name for name, kind in found.items() if kind != ":?"} == {"API_LISTEN", "TALLYRAIL_IMAGE"}
    filled_in = re.findall(r"^[A-Z_]+=(.+)$", example, flags=re.MULTILINE)
    assert filled_in == []


def test_settings_of_the_example_are_ones_that_exist() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    names = re.findall(r"^# ([A-Z_]+)=", (ROOT / "deploy/settings.env.example").read_text(), flags=re.MULTILINE)
    assert names
    assert [name for name in names if f"| `{name}`" not in page] == []


@pytest.mark.parametrize("name", list(SERVICES))
def test_every_service_says_how_it_is_well_and_what_happens_when_it_dies(name: str) -> None:
    service = SERVICES[name]
    if name == "migrate":
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["logging"]["options"]["max-size"]


def test_only_migrate_knows_the_owner_and_only_postgresql_its_superuser() -> None:
    knows = {name: str(service.get("environment", {})) for name, service in SERVICES.items()}
    assert {name for name in knows if "TALLYRAIL_OWNER_PASSWORD" in knows[name]} == {"postgres", "migrate"}
    assert {name for name in knows if "POSTGRES_PASSWORD" in knows[name]} == {"postgres"}
    for name in OURS:
        assert SERVICES[name]["environment"]["DATABASE_URL"].startswith("postgresql://tallyrail_login:")


def test_processes_wait_for_the_migrations_and_the_servers() -> None:
    for name in OURS:
        wanted = {"postgres": "service_healthy"}
        if name != "migrate":
            wanted |= {"migrate": "service_completed_successfully", "valkey": "service_healthy"}
        assert {on: how["condition"] for on, how in SERVICES[name]["depends_on"].items()} == wanted


def test_nothing_listens_beyond_this_machine_unless_asked_to() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["${API_LISTEN:-127.0.0.1:8000}:8000", "127.0.0.1:5555:5555"]
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == SERVICES["valkey"]["networks"] == ["data"]


def test_our_processes_are_never_process_1() -> None:
    """A worker's child takes a parent with the number 1 for a dead one, and ends: seen with a real worker."""
    assert all(SERVICES[name]["init"] for name in OURS)


def test_servers_keep_what_they_were_told() -> None:
    assert "postgres:/var/lib/postgresql/data" in SERVICES["postgres"]["volumes"]
    assert "valkey:/data" in SERVICES["valkey"]["volumes"]
    assert not re.search(r"fsync=off|synchronous_commit=off|full_page_writes=off", TEXT)
    settings = (ROOT / "deploy/valkey/valkey.conf").read_text().splitlines()
    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(settings)


def test_the_signer_has_nothing_of_the_others_and_only_who_asks_it_reaches_it() -> None:
    signer = SERVICES["signer"]
    assert signer["profiles"] == ["signer"] and signer["command"] == ["python", "-m", "signer.main"]
    assert signer["depends_on"] == {} and "ports" not in signer and signer["read_only"] is True
    assert all(name.startswith("SIGNER_") for name in signer["environment"])
    assert [file["path"] for file in signer["env_file"]] == ["deploy/signer.env"]
    assert {name for name, each in SERVICES.items() if "signing" in each["networks"]} == {"signer", "worker-chains"}
    assert signer["networks"] == ["signing"] and COMPOSE["networks"]["signing"]["internal"] is True
    fields = {f"SIGNER_{name}".upper() for name in SignerSettings.model_fields}
    assert set(signer["environment"]) <= fields
    kept = {path for name, path in signer["environment"].items() if name in {"SIGNER_KEYSTORE", "SIGNER_JOURNAL"}}
    assert all(path.startswith("/signer/") for path in kept) and "signer:/signer" in signer["volumes"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/deploy/signer.env", "/deploy/signer-passphrase", "/deploy/policy.toml"} <= set(ignored)


def test_the_image_holds_our_packages_and_no_test_or_local_server() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    allowed = {line[1:].rstrip("/") for line in ignore if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) - {"local"}
    assert allowed == packages | {"alembic.ini", "requirements/runtime.txt", "deploy/tallyrail", "migrations"}
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    assert "requirements/dev.txt" not in dockerfile
    assert re.search(r"^USER (?!root|0)", dockerfile, flags=re.MULTILINE)


def test_the_scripts_that_containers_run_are_executable() -> None:
    for path in ("deploy/postgres/roles.sh", "deploy/valkey/start.sh", "deploy/tallyrail", ".ci/run"):
        assert (ROOT / path).stat().st_mode & 0o111, path
