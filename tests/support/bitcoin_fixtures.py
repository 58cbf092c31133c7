"""Fixtures of a real regtest node. Use: pytest_plugins = ["tests.support.bitcoin_fixtures"]."""

from collections.abc import Iterator

import pytest

from chains.bitcoin.reader import BitcoinReader
from chains.bitcoin.sender import BitcoinSender
from config.assets import Asset, Chain, Node
from local.bitcoin_chain import RegtestChain
from local.bitcoin_node import BitcoinNode
from tests.support.bitcoin import COIN, REGTEST, MakeReader
from tests.support.bitcoin_sending import DEPTH, MakeSender, Wallet


@pytest.fixture(scope="session")
def bitcoin_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitcoinNode]:
    with BitcoinNode(tmp_path_factory.mktemp("bitcoin")) as node:
        yield node


@pytest.fixture(scope="session")
def regtest(bitcoin_node: BitcoinNode) -> Iterator[RegtestChain]:
    """One node for all tests: each uses addresses of its own, and leaves nothing waiting."""
    with RegtestChain(bitcoin_node.url) as chain:
        chain.fund()
        yield chain


@pytest.fixture
def nothing_waits(regtest: RegtestChain) -> Iterator[None]:
    yield
    if regtest.waiting:
        regtest.mine()


@pytest.fixture
def make_bitcoin_reader(regtest: RegtestChain, nothing_waits: None) -> MakeReader:
    """Of the node, or of those at these URLs."""

    def make(*urls: str, scan_blocks_max: int = 200, reorg_depth: int = 30, read_timeout: float = 20) -> BitcoinReader:
        chain = Chain(
            id=REGTEST,
            name="Regtest",
            namespace="bip122",
            confirmations=2,
            reorg_depth=reorg_depth,
            block_time_ms=1_000,
            scan_blocks_max=scan_blocks_max,
            head_age_max_s=0,
            nodes=tuple(Node(url=url) for url in urls or [regtest.url]),
        )
        return BitcoinReader(chain, [Asset(id=COIN, symbol="BTC", scale=8)], read_timeout=read_timeout)

    return make


@pytest.fixture
def wallet(regtest: RegtestChain, nothing_waits: None) -> Wallet:
    made = Wallet(regtest)
    regtest.watch(made.address)
    return made


@pytest.fixture
def make_sender(regtest: RegtestChain) -> MakeSender:
    def make(*urls: str, reorg_depth: int = DEPTH) -> BitcoinSender:
        chain = Chain(
            id=REGTEST,
            name="Regtest",
            namespace="bip122",
            confirmations=2,
            reorg_depth=reorg_depth,
            block_time_ms=1_000,
            head_age_max_s=0,
            nodes=tuple(Node(url=url) for url in urls or [regtest.url]),
        )
        return BitcoinSender(chain, [Asset(id=COIN, symbol="BTC", scale=8)], read_timeout=5)

    return make


@pytest.fixture
def sender(make_sender: MakeSender) -> BitcoinSender:
    return make_sender()
