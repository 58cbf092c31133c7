"""Payouts on chains where versions end by time, signed by the real signer: paid, or dead and then paid by a new order.

Solana: the real virtual machine behind its JSON-RPC. Tron: the double over java-tron's wire.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chains import registry
from chains.tron.formats import spelled
from core.db import transaction
from domain.onchain import settings
from domain.onchain.service import follow
from domain.onchain.states import TransferState
from domain.payout.service import refresh_providers
from domain.payout.states import PayoutState
from ledger.assets import sync_assets
from local.solana_dev import SolanaDev
from local.solana_node import SolanaNode
from tasks import onchain, tx_monitor
from tests.conftest import use
from tests.integration.onchain.lab import RICH, Lab
from tests.integration.payout_sending.desk import FEE, USER, Desk
from tests.support.evm import proxy
from tests.support.signer import running_signer
from tests.support.tron import recorded
from tests.support.tron.node import TronChain, hex_of, serving
from tests.support.tron.readers import CHAIN as TRON
from tests.support.tron.readers import TOKEN as TRON_TOKEN
from tests.support.tron.readers import TOKEN_ASSET

T, S = TransferState, PayoutState
UNITS = 5_000
PLENTY = 10**12
STEP_MS = 30_000


@dataclass
class Network:
    """One of the two, as the tests need it."""

    chain: str
    coin: str
    token: str
    url: str
    fund: Callable[[str], None]
    """Coin and tokens for our wallet."""
    recipient: Callable[[], str]
    mine: Callable[[int], None]
    mine_on: Callable[[], None]
    """Past the end of all that was signed so far."""
    swallows: list[bool] = field(default_factory=lambda: [False])
    """While it is so, the node says that it has taken what it then forgets."""


@contextmanager
def solana() -> Iterator[Network]:
    swallows = [False]

    def change(body: Any, answers: Any) -> Any:
        for call, answer in zip(body, answers, strict=True):
            if swallows[0] and call["method"] == "sendTransaction":
                dev.drop(answer["result"])
        return answers

    with SolanaNode() as node, SolanaDev(node.url) as dev, proxy(dev.url, change) as front:
        mint = dev.new_mint()

        def fund(wallet: str) -> None:
            dev.rpc("devSetLamports", wallet, PLENTY)
            dev.pay_token(mint, wallet, PLENTY)
            dev.mine(4)

        coin, token = (f"{dev.chain}/{name}" for name in ("slip44:501", f"token:{mint.address}"))
        network = Network(dev.chain, coin, token, front.url, fund, dev.new_address, dev.mine, lambda: dev.mine(160))
        network.swallows = swallows
        yield network


@contextmanager
def tron() -> Iterator[Network]:
    chain = TronChain(recorded.MAINNET_GENESIS)
    chain.mine(5)

    def fund(wallet: str) -> None:
        chain.accounts.coins[hex_of(wallet)] = PLENTY
        chain.accounts.tokens[hex_of(TRON_TOKEN), hex_of(wallet)] = PLENTY

    def recipient() -> str:
        return spelled(bytes([0x41]) + secrets.token_bytes(20))

    def mine(blocks: int) -> None:
        chain.mine(blocks, after_ms=3_000)

    def mine_on() -> None:
        chain.mine(20, after_ms=STEP_MS)

    with serving(chain) as node:
        network = Network(TRON, f"{TRON}/slip44:195", TOKEN_ASSET, node.url, fund, recipient, mine, mine_on)

        def change(path: str, _params: dict[str, Any], answer: Any) -> Any:
            if network.swallows[0] and path.endswith("/broadcasthex") and answer["result"]:
                chain.drop(answer["txid"])
            return answer

        node.change = change
        yield network


@dataclass
class TimedLab(Lab):
    """As `Lab`, on such a network."""

    network: Network = field(kw_only=True)
    wallet: str = field(kw_only=True)
    start: int = field(kw_only=True)
    """Units of coin that a recipient may have before."""

    def send(self) -> None:
        for args in self._take("tx_monitor.send"):
            tx_monitor.send(UUID(args["transfer_id"]))
        self.desk.work()

    def round(self, **passed: float) -> None:
        self.desk.later(**(passed or {"seconds": 31}))
        follow(self.network.chain, onchain.parts(self.network.chain))
        self.desk.work()

    def mine(self, blocks: int = 1) -> None:
        self.network.mine(blocks)

    def check(self, paid: dict[UUID, tuple[str, str]]) -> None:  # type: ignore[override]
        """Each (asset, recipient) got UNITS once, and the books say what left and what it cost."""
        chain, coin = self.network.chain, self.network.coin
        sender, cost, moved = onchain.parts(chain).sender, 0, {coin: 0}
        for payout, (asset, recipient) in paid.items():
            assert self.desk.state(payout) is S.PAID
            known = [version.chain_tx or "" for each in self.transfers(payout) for version in self.versions_of(each)]
            costs = sender.costs(known)
            assert len(costs) == 1
            cost += sum(costs.values())
            moved[asset] = moved.get(asset, 0) + UNITS
            assert sender.balance(recipient, asset) in (UNITS, UNITS + self.start)
        moved[coin] += cost
        for asset, units in moved.items():
            assert -self.desk.balance(f"custody:{chain}", asset) == units
            assert sender.balance(self.wallet, asset) == PLENTY - units
            assert self.desk.balance(USER, asset) == RICH - sum(a == asset for a, _ in paid.values()) * (UNITS + FEE)
        assert self.desk.balance("house:payout_fees", coin) == cost > 0
        assert self.desk.breaks() == []


@pytest.fixture(params=[solana, tron], ids=["solana", "tron"])
def lab(request: pytest.FixtureRequest, books: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TimedLab]:
    with ExitStack() as stack:
        network: Network = stack.enter_context(request.param())
        file = tmp_path / "chains.toml"
        file.write_text(
            f"""
            [chains."{network.chain}"]
            name = "Development"
            namespace = "{network.chain.partition(":")[0]}"
            confirmations = "finalized"
            reorg_depth = 0
            block_time_ms = 1000
            head_age_max_s = 0
            [assets."{network.coin}"]
            symbol = "COIN"
            scale = 6
            [assets."{network.token}"]
            symbol = "TOKEN"
            scale = 6
            """
        )
        limits = dict.fromkeys((network.coin, network.token), (10**15, 10**18))
        signer = stack.enter_context(running_signer(tmp_path / "signer", {network.chain: {"assets": limits}}))
        wallet = signer.addresses[network.chain]
        network.fund(wallet)
        back = use(
            {
                "CHAINS_FILE": str(file),
                "RPC_URLS": json.dumps({network.chain: [network.url]}),
                "WALLETS": json.dumps({network.chain: wallet}),
                "SIGNER_URL": signer.url,
                "SIGNER_TOKEN": signer.token,
            }
        )
        stack.callback(_forget)
        stack.callback(back)
        _forget()
        with transaction() as session:
            sync_assets(session)
        desk = Desk.of(books, *onchain.providers().values())  # type: ignore[arg-type]
        for asset in (network.coin, network.token):
            desk.give(RICH, asset=asset)
        refresh_providers(onchain.providers())
        start = 890_880 if request.param is solana else 0
        yield TimedLab(desk, None, network=network, wallet=wallet, start=start)  # type: ignore[arg-type]
        desk.check_books()


def _forget() -> None:
    settings.reload()
    registry.reload()
    onchain.signer.cache_clear()


def test_coin_and_a_token_are_paid_and_what_no_block_took_by_a_new_order(lab: TimedLab) -> None:
    paid = {}
    for asset in (lab.network.coin, lab.network.token):
        recipient = lab.network.recipient()
        paid[lab.payout(UNITS, asset=asset, to=recipient)] = (asset, recipient)
    lab.send()
    assert {lab.transfer(payout).current for payout in paid} == {T.SENT}
    for payout in paid:
        lab.rounds(payout, S.PAID, blocks=3)
    lab.check(paid)

    recipient = lab.network.recipient()
    lab.network.swallows[0] = True
    late = lab.payout(UNITS, asset=lab.network.coin, to=recipient)
    lab.send()
    lab.mine(3)
    lab.round()
    assert lab.transfer(late).current is T.SENT and len(lab.references(late)) == 1
    lab.network.mine_on()
    lab.network.swallows[0] = False
    lab.round(minutes=10)
    assert (lab.transfer(late).current, lab.desk.state(late)) == (T.DEAD, S.APPROVED)
    lab.desk.later(minutes=10)
    lab.desk.poll()
    lab.rounds(late, S.PAID, blocks=3)
    assert [each.current for each in lab.transfers(late)] == [T.DEAD, T.CONFIRMED]
    lab.check({**paid, late: (lab.network.coin, recipient)})
