"""Deposits on real parts: PostgreSQL, the ledger, an EVM node read by the real reader."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core import clock
from core.db import transaction
from ledger.assets import sync_assets
from local.anvil import Anvil
from local.devchain import DevChain
from tests.conftest import use
from tests.integration.deposit.desk import Desk
from tests.support.evm import CHAIN, COIN, Token


@pytest.fixture(scope="session")
def other_token(evm_node: Anvil) -> Token:
    """Another token of the registry, with the usual 18 decimals."""
    with DevChain(evm_node.url) as chain:
        address = chain.deploy("TestToken", "Other Dollar", "USDO", 18, 10**30)
    return Token(address=address, asset=f"{CHAIN}/erc20:{address.lower()}")


@pytest.fixture
def desk(database_url: str, tmp_path: Path, dev_chain: DevChain, token: Token, other_token: Token) -> Iterator[Desk]:
    file = tmp_path / "chains.toml"
    file.write_text(
        f"""
        [chains."{CHAIN}"]
        name = "Development"
        namespace = "eip155"
        confirmations = 2
        reorg_depth = 16
        block_time_ms = 1000
        scan_blocks_max = 50
        [assets."{COIN}"]
        symbol = "ETH"
        scale = 18
        units_min = 100
        [assets."{token.asset}"]
        symbol = "USDT"
        scale = 6
        [assets."{other_token.asset}"]
        symbol = "USDO"
        scale = 18
        """
    )
    back = use({"CHAINS_FILE": str(file), "RPC_URLS": f'{{"{CHAIN}": ["{dev_chain.url}"]}}'})
    with transaction() as session:
        sync_assets(session)
    _set_clock(dev_chain)
    made = Desk(dev_chain, token, other_token)
    yield made
    made.check_books()
    back()


def _set_clock(chain: DevChain) -> None:
    """The node's clock falls behind with each reorg that a test made before. No test may depend on that."""
    chain.mine()
    head = chain.rpc("eth_getBlockByNumber", "latest", False)
    behind = int(clock.now().timestamp()) - int(head["timestamp"], 16)
    if behind > 0:
        chain.rpc("evm_increaseTime", behind)
