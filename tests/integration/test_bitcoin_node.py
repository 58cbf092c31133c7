"""The development node keeps its chain, and answers as Bitcoin Core does where bcoin would not."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local import bitcoin_node
from local.bitcoin_chain import RegtestChain, RegtestError
from local.bitcoin_node import BitcoinNode
from local.process import StartError

UNITS = 1_000_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[BitcoinNode]:
    with BitcoinNode(tmp_path / "bitcoin") as node:
        yield node


def tips(chain: RegtestChain) -> list[str]:
    return [chain.rpc("getblockhash", number) for number in range(chain.height + 1)]


def test_the_chain_survives_a_restart_and_the_mempool_does_not(node: BitcoinNode) -> None:
    with RegtestChain(node.url) as chain:
        chain.fund()
        kept = chain.send((chain.new_address(), UNITS))
        chain.mine(3)
        undone = chain.send((chain.new_address(), UNITS))
        chain.mine(2)
        chain.undo(2, longer=3)
        waiting = chain.send((chain.new_address(), UNITS))
        before = tips(chain)
    node.stop()
    # As a node that was killed while it wrote would leave it.
    with (node.data_dir / "blocks").open("a") as file:
        file.write("7 00ff")
    node.start()
    with RegtestChain(node.url) as chain:
        assert tips(chain) == before
        assert chain.height_of(kept) is not None
        assert chain.height_of(undone) is chain.height_of(waiting) is None and chain.waiting == []
        chain.mine()
        chain.fund()
        assert chain.height_of(chain.send((chain.new_address(), UNITS))) is None


def test_it_needs_its_password(node: BitcoinNode) -> None:
    _, _, place = node.url.rpartition("@")
    with httpx.Client(trust_env=False) as client:
        assert client.post(f"http://{place}", json={"method": "getblockcount", "params": []}).status_code == 401
    assert (node.data_dir / "password").stat().st_mode & 0o077 == 0


def test_it_refuses_as_core_does(node: BitcoinNode) -> None:
    with RegtestChain(node.url) as chain:
        chain.fund()
        first = chain.send((chain.new_address(), UNITS))
        with pytest.raises(RegtestError, match="insufficient fee"):
            chain.replace(first, fee=10_000)
        child = chain.spend(first, 1, (chain.new_address(), UNITS))
        assert set(chain.waiting) == {first, child}
        second = chain.replace(first)
        assert chain.waiting == [second], "a child goes with its parent"
        with pytest.raises(RegtestError, match="missingorspent"):
            chain.resend(child)
        chain.mine()
        with pytest.raises(RegtestError):
            chain.resend(first)
        with pytest.raises(RegtestError, match="No such mempool or blockchain transaction"):
            chain.rpc("getrawtransaction", first, 1)
        with pytest.raises(RegtestError, match="Block not found"):
            chain.rpc("getblockheader", "00" * 32, True)


def test_a_block_of_exactly_these_leaves_the_others_waiting(node: BitcoinNode) -> None:
    with RegtestChain(node.url) as chain:
        chain.fund()
        one, other = (chain.send((chain.new_address(), UNITS)) for _ in range(2))
        chain.mine_only(other)
        assert chain.height_of(other) == chain.height and chain.waiting == [one]
        chain.undo(1, keep=[other])
        assert chain.height_of(other) == chain.height - 1 and chain.waiting == [one]


def test_packages_that_were_tampered_with_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm compares each with its hash in the lock file. Here that of one is another."""
    folder = tmp_path / "bitcoin"
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        text = (bitcoin_node.FOLDER / name).read_text()
        at = text.find('"integrity": "sha512-') + len('"integrity": "sha512-') if name != "package.json" else 0
        (folder / name).write_text(text[:at] + "AAAAAAAA" + text[at + 8 :] if at else text)
    monkeypatch.setattr(bitcoin_node, "FOLDER", folder)
    monkeypatch.setenv("TALLYRAIL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StartError, match="EINTEGRITY"):
        bitcoin_node.modules()
    assert list((tmp_path / "cache").iterdir()) == [], "and nothing is left behind"
