"""Payouts on a real node, signed by the real signer: what the worker's own tasks do, run when a test says so."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chains import registry
from core.db import transaction
from domain.onchain import settings
from domain.onchain.models import OnchainTransfer
from domain.onchain.service import follow
from domain.payout.service import refresh_providers
from ledger.assets import sync_assets
from local.devchain import DevChain
from tasks import onchain, tx_monitor
from tests.conftest import use
from tests.integration.onchain.lab import RICH, Lab
from tests.integration.payout_sending.desk import Desk
from tests.support.evm import CHAIN, COIN, Token
from tests.support.signer import RunningSigner

ETHER = 10**18
DEPTH = 16
"""Blocks after which nothing changes any more."""


@dataclass
class RealLab(Lab):
    """As `Lab`, of which the chain is a real node."""

    node: DevChain = field(kw_only=True)
    wallet: str = field(kw_only=True)

    def send(self) -> None:
        for args in self._take("tx_monitor.send"):
            tx_monitor.send(UUID(args["transfer_id"]))
        self.desk.work()

    def round(self, **passed: float) -> None:
        self.desk.later(**(passed or {"seconds": 31}))
        follow(CHAIN, onchain.parts(CHAIN))
        self.desk.work()

    def mine(self, blocks: int = 1) -> None:
        self.node.mine(blocks)

    def cost(self, transfer: OnchainTransfer) -> int:
        """What the node says that its versions which are in a block cost."""
        found = [self.node.receipt(version.chain_tx or "") for version in self.versions_of(transfer)]
        return sum(
            int(each["gasUsed"], 16) * int(each["effectiveGasPrice"], 16)
            for each in found
            if each is not None and each["blockHash"] is not None
        )

    def only(self, recipient: str, units: int, *, token: str | None = None) -> bool:
        return self.node.balance(recipient, token=token) == units


def chains_file(token: Token) -> str:
    return f"""
        [chains."{CHAIN}"]
        name = "Development"
        namespace = "eip155"
        confirmations = 2
        reorg_depth = {DEPTH}
        block_time_ms = 1000
        [assets."{COIN}"]
        symbol = "ETH"
        scale = 18
        [assets."{token.asset}"]
        symbol = "USDT"
        scale = 6
        """


def policy(token: Token) -> Mapping[str, Mapping[str, Any]]:
    plenty = 10**30
    return {CHAIN: {"assets": {COIN: (plenty, plenty), token.asset: (plenty, plenty)}}}


@contextmanager
def environment(
    folder: Path, token: Token, signer: RunningSigner, urls: list[str], wallet: str
) -> Iterator[dict[str, str]]:
    file = folder / "chains.toml"
    file.write_text(chains_file(token))
    given = {
        "CHAINS_FILE": str(file),
        "RPC_URLS": json.dumps({CHAIN: urls}),
        "WALLETS": json.dumps({CHAIN: wallet}),
        "SIGNER_URL": signer.url,
        "SIGNER_TOKEN": signer.token,
    }
    back = use(given)
    _forget()
    try:
        yield given
    finally:
        back()
        _forget()


def _forget() -> None:
    settings.reload()
    registry.reload()
    onchain.signer.cache_clear()


@contextmanager
def real_lab(
    patch: pytest.MonkeyPatch, folder: Path, node: DevChain, token: Token, signer: RunningSigner, *urls: str
) -> Iterator[RealLab]:
    """`urls`: how the node is reached, if not directly."""
    wallet = signer.addresses[CHAIN]
    node.fund(wallet, 100 * ETHER)
    node.send_token(token.address, wallet, 10**9)
    with environment(folder, token, signer, list(urls) or [node.url], wallet):
        with transaction() as session:
            sync_assets(session)
        desk = Desk.of(patch, *onchain.providers().values())  # type: ignore[arg-type]
        for asset in (COIN, token.asset):
            desk.give(RICH, asset=asset)
        refresh_providers(onchain.providers())
        yield RealLab(desk, None, node=node, wallet=wallet)  # type: ignore[arg-type]
        desk.check_books()
