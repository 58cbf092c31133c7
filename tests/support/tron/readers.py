"""Readers of the double for tests."""

from collections.abc import Sequence
from typing import Any

from chains.tron.reader import TronReader
from config.assets import Asset, Chain, Node

CHAIN = "tron:728126428"
COIN = f"{CHAIN}/slip44:195"
TOKEN = "TXLAQ63Xg1NAzckPwKHvzw7CSEmLMEqcdj"
TOKEN_ASSET = f"{CHAIN}/trc20:{TOKEN}"


def make_reader(
    *urls: str,
    chain: str = CHAIN,
    assets: Sequence[str] = (COIN, TOKEN_ASSET),
    scan_blocks_max: int = 100,
    reorg_depth: int = 0,
    **settings: Any,
) -> TronReader:
    made = Chain(
        id=chain,
        name="Development",
        namespace="tron",
        confirmations="finalized",
        reorg_depth=reorg_depth,
        block_time_ms=3000,
        scan_blocks_max=scan_blocks_max,
        head_age_max_s=0,
        nodes=tuple(Node(url=url) for url in urls),
    )
    return TronReader(made, [Asset(id=id_, symbol="T", scale=6) for id_ in assets], **settings)
