"""An EVM node of our own, and a wallet with coin and tokens."""

from collections.abc import Iterator

import pytest

from chains.evm.sender import EvmSender
from local.anvil import Anvil
from local.devchain import GWEI, DevChain
from tests.support.evm_sending import ETHER, Wallet, sender_of


@pytest.fixture(scope="package")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """Our own: base fees and reorgs are everybody's on a node."""
    node = Anvil(tmp_path_factory.mktemp("anvil"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def chain(node: Anvil) -> Iterator[DevChain]:
    with DevChain(node.url) as chain:
        yield chain
        chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        chain.mine()


@pytest.fixture(scope="package")
def token(node: Anvil) -> str:
    with DevChain(node.url) as chain:
        return chain.deploy("TestToken", "Tether USD", "USDT", 6, 10**18).lower()


@pytest.fixture
def sender(node: Anvil, token: str) -> EvmSender:
    return sender_of(node.url, tokens=(token,))


@pytest.fixture
def wallet(chain: DevChain, token: str) -> Wallet:
    made = Wallet()
    chain.fund(made.address, ETHER)
    chain.send_token(token, made.address, 1_000)
    return made
