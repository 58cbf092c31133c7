"""Fixtures of a real EVM node. Use: pytest_plugins = ["tests.support.evm_fixtures"]."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from chains.evm.reader import EvmReader
from config.assets import Asset, Chain, Node
from local.anvil import Anvil
from local.devchain import DevChain
from tests.support.evm import CHAIN, COIN, MakeReader, Token


@pytest.fixture(scope="session")
def evm_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    node = Anvil(tmp_path_factory.mktemp("anvil"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def dev_chain(evm_node: Anvil) -> Iterator[DevChain]:
    """One node for all tests: each uses addresses of its own."""
    with DevChain(evm_node.url) as chain:
        yield chain


@pytest.fixture(scope="session")
def token(evm_node: Anvil) -> Token:
    """The one ERC-20 in the registry of `make_evm_reader`."""
    with DevChain(evm_node.url) as chain:
        address = chain.deploy("TestToken", "Tether USD", "USDT", 6, 10**18)
    return Token(address=address, asset=f"{CHAIN}/erc20:{address.lower()}")


@pytest.fixture(scope="session")
def emitter(evm_node: Anvil) -> str:
    with DevChain(evm_node.url) as chain:
        return chain.deploy("Emitter")


@pytest.fixture
def make_evm_reader(evm_node: Anvil, token: Token) -> MakeReader:
    def make(
        *urls: str,
        id: str = CHAIN,  # noqa: A002
        read_timeout: float = 5,
        calls_max: int | None = None,
        more: Sequence[Asset] = (),
        **fields: Any,
    ) -> EvmReader:
        chain = Chain(
            id=id,
            name="Development",
            namespace="eip155",
            confirmations=2,
            reorg_depth=16,
            block_time_ms=1000,
            nodes=tuple(Node(url=url, calls_max=calls_max) for url in urls or (evm_node.url,)),
            **fields,
        )
        assets = [Asset(id=COIN, symbol="ETH", scale=18), Asset(id=token.asset, symbol="USDT", scale=6)]
        return EvmReader(chain, [*assets, *more], read_timeout=read_timeout)

    return make


@pytest.fixture
def reader(make_evm_reader: MakeReader) -> EvmReader:
    return make_evm_reader()
