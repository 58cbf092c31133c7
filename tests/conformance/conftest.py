"""A lab for every kind of chain in the registry, with the configuration that makes its reader the registry's."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from chains import registry
from chains.base import ChainReader
from config import assets, settings
from providers.fiat.base import Gateway
from providers.fiat.registry import GATEWAYS
from tests.conformance.lab import Lab, Opened
from tests.conformance.till import Till

if TYPE_CHECKING:
    from tests.support.gateways.base import Double

LABS = {
    "eip155": "evm_lab",
    "bip122": "bitcoin_lab",
    "solana": "solana_lab",
    "tron": "tron_lab",
    "aptos": "aptos_lab",
}
"""CAIP-2 namespace -> module, whose `opened(folder)` is a lab as long as it is open."""


DEPOSITS = ("test_deposit_once", "test_deposit_payments", "test_deposit_refusals")
AT_ONCE = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """How a chain is read is shown on each. What deposits make of it, in turn on two of them; `make faults` has all."""
    cases: dict[str, int] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.module.__name__.rpartition(".")[2] in DEPOSITS:
            params = dict(item.callspec.params)
            kind = sorted(LABS).index(str(params.pop("lab")))
            case = cases.setdefault(f"{item.originalname} {sorted(params.items())}", len(cases))
            if (case + kind) % len(LABS) >= AT_ONCE:
                item.add_marker(pytest.mark.faults)


@contextmanager
def opened(namespace: str, folder: Path) -> Iterator[Lab]:
    """A lab, and the environment that makes its chain the only one there is."""
    open_lab: Callable[[Path], Opened] = import_module(f"tests.conformance.{LABS[namespace]}").opened
    with pytest.MonkeyPatch.context() as patch, open_lab(folder) as lab:
        file = folder / "chains.toml"
        file.write_text(lab.toml())
        patch.setenv("CHAINS_FILE", str(file))
        patch.setenv("RPC_URLS", json.dumps({lab.chain: lab.urls()}))
        _reload()
        yield lab
    _reload()


@pytest.fixture(scope="package", params=sorted(LABS))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


@pytest.fixture
def reader(lab: Lab) -> ChainReader:
    assert registry.known() == [lab.chain]
    return registry.get(lab.chain)


@pytest.fixture
def till(database_url: str, lab: Lab, reader: ChainReader) -> Iterator[Till]:
    made = Till(lab, reader)
    yield made
    made.close()


def _reload() -> None:
    for cached in (settings, assets, registry):
        cached.reload()


# --- gateways ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=sorted(GATEWAYS))
def double(request: pytest.FixtureRequest) -> "Iterator[Double]":
    from tests.support.gateways import DOUBLES  # some import an SDK

    with next(kind for kind in DOUBLES if kind.name == request.param)() as double:
        yield double


@pytest.fixture
def gateway(double: "Double") -> Gateway:
    return double.gateway(answer_timeout=10)


@pytest.fixture
def reference() -> str:
    return str(uuid4())
