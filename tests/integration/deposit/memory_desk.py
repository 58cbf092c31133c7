"""One chain in memory, one tenant, one owner: for tests of how a chain is read, not of what a payment means."""

from datetime import timedelta

from sqlalchemy import select, update

from chains.formats import parse_address
from config.assets import Asset, Chain, Node, registry
from core import clock
from core.db import transaction
from domain.deposit import coverage, queries, service
from domain.deposit.models import Deposit
from domain.deposit.scan_models import ChainCoverage, ChainCursor
from domain.deposit.service import NewDeposit
from ledger import balances, chart, invariants
from ledger.assets import sync_assets
from tests.integration.deposit.memory_chain import MemoryChain

TENANT = "shop"
ACCOUNT = "user:42:available"


class MemoryDesk:
    def __init__(
        self,
        *,
        final_only: bool = False,
        scan_blocks_max: int = 50,
        blocks: int = 0,
        number: int = 70_001,
        tenant: str = TENANT,
    ) -> None:
        self.tenant = tenant
        self.id, self.asset = f"eip155:{number}", f"eip155:{number}/slip44:60"
        self.owned, self.other = (parse_address("eip155:1", f"0x{number:032x}{each:08x}") for each in (1, 2))
        known = registry()
        known.chains[self.id] = Chain(
            id=self.id, name="Memory", namespace="eip155", confirmations=2, reorg_depth=0 if final_only else 6,
            block_time_ms=1_000, scan_blocks_max=scan_blocks_max, nodes=(Node(url="http://memory"),),
        )  # fmt: skip
        known.assets[self.asset] = Asset(id=self.asset, symbol="ETH", scale=18)
        # As old as its blocks make it, so that its newest is about now.
        began = clock.now() - timedelta(seconds=blocks * (2 if final_only else 1))
        self.chain = MemoryChain(self.id, self.asset, began=began, final_only=final_only)
        with transaction() as session:
            sync_assets(session)
            service.register_addresses(session, self.tenant, self.id, [self.owned, self.other])
        self.mine(blocks)

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.chain.mine()

    def pay(self, units: int, recipient: str | None = None) -> str:
        """A payment in a block of its own."""
        payment = self.chain.pay(recipient or self.owned, units)
        self.mine()
        return payment.id

    def open(self, address: str | None = None, account: str = ACCOUNT, **fields: object) -> Deposit:
        given = {"tenant": self.tenant, "asset": self.asset, "account": account, "address": address or self.owned}
        with transaction() as session:
            return service.create(session, NewDeposit(**given | fields))  # type: ignore[arg-type]

    def scan(self) -> None:
        service.scan(self.chain)

    def poll(self) -> None:
        with transaction() as session:
            due = update(Deposit).where(Deposit.chain == self.id, Deposit.next_poll_at.is_not(None))
            session.execute(due.values(next_poll_at=clock.now()))
        service.poll(self.chain)

    def settle(self) -> None:
        """Whatever can be found by scans alone is found, and booked for good."""
        self.mine(8)
        for _ in range(3):
            self.scan()
            self.poll()

    # Reading

    def cursor(self) -> ChainCursor:
        with transaction() as session:
            found = queries.cursor(session, self.id)
        assert found is not None
        return found

    def next_block(self) -> int:
        found = self.cursor().next_block
        assert found is not None
        return found

    def covers(self) -> list[tuple[int, int, str]]:
        """(first, last, by), lowest first."""
        with transaction() as session:
            rows = session.scalars(
                select(ChainCoverage).where(ChainCoverage.chain == self.id).order_by(ChainCoverage.first_block)
            ).all()
        return [(row.first_block, row.last_block, row.by) for row in rows]

    def gaps(self) -> list[tuple[int, int]]:
        with transaction() as session:
            return [(gap.first, gap.last) for gap in coverage.gaps(session, self.id)]

    def booked(self) -> dict[str | None, int | None]:
        """What stands in the books, by transaction; and that the books say so."""
        with transaction() as session:
            deposits = service.page(session, tenant=self.tenant, limit=1_000)
            rows = [each for each in deposits if each.state in ("credited", "suspended")]
            assert invariants.verify(session) == []
            assert balances.balance(session, self.tenant, chart.custody(self.id), self.asset) == sum(
                row.units_received or 0 for row in rows
            )
        found = {row.chain_tx: row.units_received for row in rows}
        assert len(found) == len(rows)
        return found

    def uncover(self, first: int, last: int) -> None:
        """Take a range out of the coverage, as a fault that passed it over would have left it."""
        with transaction() as session:
            [row] = session.scalars(
                select(ChainCoverage).where(
                    ChainCoverage.chain == self.id, ChainCoverage.first_block < first, ChainCoverage.last_block > last
                )
            ).all()
            end, end_hash, row.last_block, row.last_hash = row.last_block, row.last_hash, first - 1, None
            session.flush()
            session.add(
                ChainCoverage(
                    chain=self.id, first_block=last + 1, last_block=end, last_hash=end_hash, by="scan",
                    addresses=row.addresses, began_at=row.began_at, updated_at=row.updated_at,
                )
            )  # fmt: skip
