"""Whatever a chain does, the books say what it says in the end, and each payment was credited at most once."""

from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from chains.formats import parse_address
from config.assets import Asset, Chain, Node, registry
from core import clock
from core.db import transaction
from domain.deposit import service
from domain.deposit.models import Deposit
from domain.deposit.service import NewDeposit
from ledger import balances, chart, invariants
from ledger.assets import sync_assets
from ledger.posting import Journal, Posting, post
from tests.integration.deposit.memory_chain import MemoryChain

numbers = count(50_001)
USERS = [f"user:{number}:available" for number in range(2)]
MINIMUM = 10

units = st.sampled_from([5, 99, 100, 101, 1_000])
user = st.integers(0, len(USERS) - 1)
step = st.one_of(
    st.tuples(st.just("pay_by_hash"), units, st.sampled_from([None, 100]), st.booleans()),
    st.tuples(st.just("pay_to_address"), user, units),
    st.tuples(st.just("open"), user, st.sampled_from([None, 100, 1_000])),
    st.tuples(st.just("mine")),
    st.tuples(st.just("mine")),
    st.tuples(st.just("reorg"), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("poll")),
    st.tuples(st.just("poll")),
    st.tuples(st.just("scan")),
    st.tuples(st.just("spend"), user),
    st.tuples(st.just("release")),
)


class World:
    """One chain, one tenant, and everything that may happen to them."""

    def __init__(self, *, final_only: bool) -> None:
        number = next(numbers)
        self.tenant, self.id, self.asset = f"tenant{number}", f"eip155:{number}", f"eip155:{number}/slip44:60"
        # An address belongs to one tenant on all chains, and each example has a tenant and a chain of its own.
        self.shared, *self.owned = (parse_address("eip155:1", f"0x{number:032x}{each:08x}") for each in range(3))
        known = registry()
        known.chains[self.id] = Chain(
            id=self.id, name="Memory", namespace="eip155", confirmations=2, block_time_ms=1_000,
            reorg_depth=0 if final_only else 6, scan_blocks_max=5, nodes=(Node(url="http://memory"),),
        )  # fmt: skip
        known.assets[self.asset] = Asset(id=self.asset, symbol="ETH", scale=18, units_min=MINIMUM)
        self.chain = MemoryChain(self.id, self.asset, began=clock.now(), final_only=final_only)
        self.spent: Counter[str] = Counter()
        self.hashes: dict[str, str] = {}
        with transaction() as session:
            sync_assets(session)
            service.register_addresses(session, self.tenant, self.id, [self.shared], shared=True)
            service.register_addresses(session, self.tenant, self.id, self.owned)
        for owner in range(len(self.owned)):
            self.open(owner, None)

    def create(self, **fields: object) -> Deposit:
        with transaction() as session:
            return service.create(session, NewDeposit(tenant=self.tenant, asset=self.asset, **fields))  # type: ignore[arg-type]

    def pay_by_hash(self, paid: int, expected: int | None, reverts: bool) -> None:
        payment = self.chain.pay(self.shared, paid, reverts=reverts)
        for account in USERS:  # both say it is theirs
            self.create(account=account, chain_tx=payment.id, address=self.shared, units_expected=expected)

    def pay_to_address(self, owner: int, paid: int) -> None:
        self.chain.pay(self.owned[owner], paid)

    def open(self, owner: int, expected: int | None) -> None:
        self.create(account=USERS[owner], address=self.owned[owner], units_expected=expected, tolerance_bps=100)

    def mine(self) -> None:
        self.chain.mine()

    def reorg(self, depth: int, keep: bool) -> None:
        self.chain.reorg(depth, keep=keep)

    def poll(self) -> None:
        with transaction() as session:
            due = update(Deposit).where(Deposit.chain == self.id, Deposit.next_poll_at.is_not(None))
            session.execute(due.values(next_poll_at=clock.now()))
        service.poll(self.chain)

    def scan(self) -> None:
        service.scan(self.chain)

    def spend(self, owner: int) -> None:
        left = self.balance(USERS[owner])
        if left > 1:
            with transaction() as session:
                move = Posting(source=USERS[owner], destination=chart.fees(), asset=self.asset, units=left // 2)
                self.spent[USERS[owner]] += left // 2
                reference = f"spend:{owner}:{sum(self.spent.values())}"
                post(session, Journal(tenant=self.tenant, reference=reference, category="spend", postings=[move]))

    def release(self) -> None:
        suspended = [deposit for deposit in self.deposits() if deposit.state == "suspended"]
        if suspended:
            with transaction() as session:
                service.release(session, suspended[0].id, actor="ann", reason="a test")

    def deposits(self) -> list[Deposit]:
        with transaction() as session:
            return list(service.page(session, tenant=self.tenant, limit=1_000))[::-1]

    def balance(self, code: str) -> int:
        with transaction() as session:
            return balances.balance(session, self.tenant, code, self.asset)

    def check(self) -> None:
        """At any moment: the books say what the rows say, and one payment stands in the books at most once."""
        deposits = self.deposits()
        booked = [deposit for deposit in deposits if deposit.state in ("credited", "suspended")]
        assert len({deposit.chain_tx for deposit in booked}) == len(booked)
        suspended = sum(deposit.units_received or 0 for deposit in booked if deposit.state == "suspended")
        assert self.balance(chart.deposit_suspense()) == suspended
        assert self.balance(chart.custody(self.id)) == sum(deposit.units_received or 0 for deposit in booked)
        for account in USERS:
            credited = sum(
                deposit.units_received or 0
                for deposit in booked
                if deposit.account == account and deposit.state == "credited"
            )
            owed = self.balance(chart.owed_by(account))
            assert self.balance(account) - owed + self.spent[account] == credited
            assert owed == sum(deposit.units_short for deposit in deposits if deposit.account == account)

    def check_end(self) -> None:
        """When the chain has come to rest, what arrived is booked, whatever happened on the way, and nothing else."""
        for _ in range(8):
            self.chain.mine()
        for _ in range(3):
            self.scan()
            self.poll()
        self.check()
        arrived = {payment.id: payment for payment in self.chain.arrived() if payment.units >= MINIMUM}
        booked = {
            deposit.chain_tx: deposit.units_received
            for deposit in self.deposits()
            if deposit.state in ("credited", "suspended")
        }
        assert booked == {payment.id: payment.units for payment in arrived.values()}
        with transaction() as session:
            assert invariants.verify(session) == []


@pytest.mark.timeout(90)
@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("final_only", [False, True], ids=["reorgs", "final_only"])
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(step, min_size=8, max_size=35))
def test_the_books_follow_the_chain_whatever_it_does(final_only: bool, steps: list[tuple[str, ...]]) -> None:
    world = World(final_only=final_only)
    for verb, *given_ in steps:
        act: Callable[..., None] = getattr(world, verb)
        act(*given_)
        if verb in ("poll", "scan", "release", "spend"):
            world.check()
    world.check_end()
