import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from chains import registry
from chains.evm.reader import EvmReader
from config import assets, settings
from core.errors import PermanentError


@pytest.fixture
def rpc_urls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RPC_URLS", json.dumps({"eip155:56": ["http://127.0.0.1:1/"]}))
    for cached in (settings, assets, registry):
        cached.reload()
    yield
    monkeypatch.undo()
    for cached in (settings, assets, registry):
        cached.reload()


@pytest.mark.usefixtures("rpc_urls")
def test_a_chain_is_known_when_it_has_an_endpoint() -> None:
    assert registry.known() == ["eip155:56"]
    reader = registry.get("eip155:56")
    assert reader.id == "eip155:56"
    assert registry.get("eip155:56") is reader


@pytest.mark.usefixtures("rpc_urls")
def test_a_chain_that_can_not_be_read_is_a_permanent_error() -> None:
    with pytest.raises(PermanentError, match="no RPC_URLS for eip155:1"):
        registry.get("eip155:1")
    with pytest.raises(PermanentError, match="no chains file describes"):
        registry.get("eip155:999")


def test_an_adapter_is_imported_only_for_a_chain_that_needs_it() -> None:
    code = """
import sys, chains.registry, chains.formats
found = [name for name in sys.modules if name.startswith("chains.") and name.count(".") > 1]
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("rpc_urls")
def test_the_recursion_limit_stays_what_it_was() -> None:
    # web3 brings py_ecc, which sets it to 100,000: from then on a reply of nested brackets kills the process.
    code = """
import sys
before = sys.getrecursionlimit()
from chains import registry
from chains.evm.reader import EvmReader
registry.get("eip155:56")
assert "chains.evm.rpc" in sys.modules and sys.getrecursionlimit() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("rpc_urls")
def test_a_forked_worker_makes_readers_of_its_own() -> None:
    code = """
import os
from chains import registry
from chains.evm.reader import EvmReader
before = registry.get("eip155:56")
if not (child := os.fork()):
    os._exit(registry.get("eip155:56") is before)
assert os.waitpid(child, 0)[1] == 0, "the child uses its parent's connections"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["bep20:0x55d398326f99059ff775485246999027b3197955"], "neither"),  # taken for BNB, a wei would be a dollar
        (["erc20:0x55d398326f99059ff7754852"], "neither"),
        (["slip44:714", "slip44:60"], "one coin"),
    ],
)
def test_an_asset_that_could_be_taken_for_another_is_refused(ids: list[str], message: str) -> None:
    chain = (
        assets.registry().chains["eip155:56"].model_copy(update={"nodes": (assets.Node(url="http://127.0.0.1:1/"),)})
    )
    with pytest.raises(PermanentError, match=message):
        EvmReader(chain, [assets.Asset(id=f"{chain.id}/{id_}", symbol="X", scale=18) for id_ in ids])
