"""What a test of payouts on chains needs at hand: payouts, a chain, a signer, time, and the books."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from eth_utils.address import to_checksum_address
from sqlalchemy import select, text

import tasks.onchain  # noqa: F401  # brings the ports along
from config.assets import registry
from core.db import transaction
from core.jobs import Job
from domain.onchain import queries, service
from domain.onchain.models import OnchainTransfer, OnchainVersion
from domain.onchain.provider import OnchainProvider
from domain.onchain.service import Parts
from domain.payout.states import PayoutState
from providers.payout.base import Destination, Kind
from tests.integration.onchain.scripted import CONFIRMATIONS, REORG_DEPTH, TOKEN, ScriptedChain, ScriptedSigner
from tests.integration.payout_sending.desk import FEE, USER, Desk
from tests.support.evm import CHAIN, COIN

RICH = 10**21
ROUNDS_MAX = 60
CHAINS = f"""
[chains."{CHAIN}"]
name = "Development"
namespace = "eip155"
confirmations = {CONFIRMATIONS}
reorg_depth = {REORG_DEPTH}
block_time_ms = 1000
[assets."{COIN}"]
symbol = "ETH"
scale = 18
[assets."{TOKEN}"]
symbol = "USDT"
scale = 6
"""


def address() -> str:
    return str(to_checksum_address("0x" + secrets.token_hex(20)))


@dataclass
class Lab:
    desk: Desk
    chain: ScriptedChain
    signer: ScriptedSigner = field(default_factory=ScriptedSigner)

    @classmethod
    def of(cls, patch: pytest.MonkeyPatch, *, tenant: str = "shop") -> "Lab":
        """Another wallet each time, so that nothing of those before is left on it."""
        with transaction() as session:
            session.execute(text("UPDATE onchain_transfers SET next_look_at = NULL"))
            session.execute(text("UPDATE payouts SET next_look_at = NULL"))
            session.execute(text("DELETE FROM payout_providers"))
        chain = ScriptedChain(address())
        provider = OnchainProvider(chain.wallet, registry().of_chain(CHAIN), CHAIN, lambda: chain)
        desk = Desk.of(patch, provider, tenant=tenant)  # type: ignore[arg-type]
        for asset in (COIN, TOKEN):
            desk.give(RICH, asset=asset)
        return cls(desk, chain)

    @property
    def provider(self) -> OnchainProvider:
        found = self.desk.providers[CHAIN]
        assert isinstance(found, OnchainProvider)
        return found

    @property
    def parts(self) -> Parts:
        return Parts(sender=self.chain, reader=self.chain, signer=self.signer)

    # --- doing things ------------------------------------------------------------------------------------------------

    def payout(self, units: int = 1_000, *, asset: str = COIN, to: str | None = None, **changes: Any) -> UUID:
        """Approved, and with its provider: nothing is signed yet."""
        payout_id = self.approved(units, asset=asset, to=to, **changes)
        self.desk.submit(payout_id)
        return payout_id

    def approved(self, units: int, *, asset: str = COIN, to: str | None = None, **changes: Any) -> UUID:
        destination = Destination(kind=Kind.CHAIN, number=to or address())
        return self.desk.approved(units=units, destination=destination, asset=asset, payout_asset=asset, **changes)

    def send(self) -> None:
        """The jobs that are queued."""
        for args in self._take("tx_monitor.send"):
            service.send(UUID(args["transfer_id"]), self.parts)
        self.desk.work()

    def _take(self, task: str) -> list[dict[str, Any]]:
        with transaction() as session:
            found = session.scalars(select(Job).where(Job.status == "queued", Job.task == task).order_by(Job.id)).all()
            for job in found:
                job.status = "succeeded"
            return [job.args for job in found]

    def round(self, **passed: float) -> None:
        self.desk.later(**(passed or {"seconds": 31}))
        service.follow(CHAIN, self.parts)
        self.desk.work()

    def mine(self, blocks: int = 1) -> None:
        self.chain.mine(blocks)

    def rounds(self, payout_id: UUID, *states: PayoutState, blocks: int = 1) -> None:
        """Until the payout is in one of the states, or its transfers are final."""
        for _ in range(ROUNDS_MAX):
            self.send()
            self.round()
            self.mine(blocks)
            transfers = self.transfers(payout_id)
            if self.desk.state(payout_id) in states and all(each.final_at is not None for each in transfers):
                return
        pytest.fail(f"it is {self.desk.state(payout_id)}: {[each.state for each in self.transfers(payout_id)]}")

    # --- what there is -----------------------------------------------------------------------------------------------

    def references(self, payout_id: UUID) -> list[str]:
        return [each.reference for each in self.desk.attempts(payout_id)]

    def transfers(self, payout_id: UUID) -> Sequence[OnchainTransfer]:
        """One for each attempt, oldest first."""
        with transaction() as session:
            found = [queries.by_reference(session, each) for each in self.references(payout_id)]
            session.expunge_all()
        return [each for each in found if each is not None]

    def transfer(self, payout_id: UUID) -> OnchainTransfer:
        return self.transfers(payout_id)[-1]

    def versions(self, payout_id: UUID) -> Sequence[OnchainVersion]:
        return self.versions_of(self.transfer(payout_id))

    def versions_of(self, transfer: OnchainTransfer) -> Sequence[OnchainVersion]:
        with transaction() as session:
            found = queries.versions(session, transfer.id)
            session.expunge_all()
        return found

    def events(self, payout_id: UUID) -> list[str]:
        with transaction() as session:
            return [each.event for each in queries.history(session, self.transfer(payout_id).id)]

    def held(self) -> dict[str, UUID]:
        return self.held_of(self.chain.wallet)

    def held_of(self, wallet: str) -> dict[str, UUID]:
        with transaction() as session:
            return queries.held(session, CHAIN, wallet)

    def check(self, payout_ids: Sequence[UUID], units: int = 1_000, *, asset: str = COIN) -> None:
        """Once all of them are over: who is paid is paid once, and the books know what left and what it cost."""
        references = [each for payout_id in payout_ids for each in self.references(payout_id)]
        paid = 0
        for payout_id in payout_ids:
            on_chain = self.chain.paid(self.references(payout_id))
            assert len(on_chain) == (self.desk.state(payout_id) is PayoutState.PAID), self.events(payout_id)
            paid += len(on_chain)
        cost = self.chain.cost(references)
        moved = {asset: paid * units}
        moved[COIN] = moved.get(COIN, 0) + cost
        for each, gone in moved.items():
            assert -self.desk.balance(f"custody:{CHAIN}", each) == gone
        assert self.desk.balance("house:payout_fees", COIN) == cost
        assert self.desk.balance("house:fees", asset) == paid * FEE
        bound = sum(self.desk.state(each) in BOUND for each in payout_ids)
        assert self.desk.balance("transit:payouts", asset) == bound * (units + FEE)
        assert self.desk.balance(USER, asset) == RICH - (paid + bound) * (units + FEE)


BOUND = frozenset(
    {PayoutState.APPROVED, PayoutState.FROZEN, PayoutState.SUBMITTED, PayoutState.SUBMITTING, PayoutState.UNKNOWN}
)


def settings_of(folder: Any) -> dict[str, str]:
    """The environment of such a chain."""
    file = folder / "chains.toml"
    file.write_text(CHAINS)
    return {"CHAINS_FILE": str(file), "RPC_URLS": json.dumps({CHAIN: ["http://127.0.0.1:1"]})}
