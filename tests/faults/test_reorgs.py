"""Reorgs of any depth, at random, on real nodes: after each the books are the chain's, and nothing else.

What is true is asked of the node itself (`Lab.height_of`), not of the reader under test.
"""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from chains import registry
from chains.base import ChainReader, Head
from core.db import transaction
from core.errors import TransientError
from domain.deposit import service
from ledger import balances
from ledger.posting import Journal, Posting, post
from tests.conformance.conftest import opened
from tests.conformance.lab import Lab, Payment
from tests.conformance.till import TENANT, UNITS, Till

DEPTH_MAX = 20
USERS = ("1", "2", "3")


@pytest.fixture(scope="module", params=["eip155", pytest.param("bip122", marks=pytest.mark.faults)])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


@pytest.fixture
def reader(lab: Lab) -> ChainReader:
    return registry.get(lab.chain)


@pytest.fixture
def till(database_url: str, lab: Lab, reader: ChainReader) -> Iterator[Till]:
    made = Till(lab, reader)
    yield made
    made.close()


class Campaign:
    """Owners are paid by hash and by address, in blocks that come and go."""

    def __init__(self, till: Till, lab: Lab, seed: int) -> None:
        self.till, self.lab, self.seed = till, lab, seed
        self.random = random.Random(seed)
        self.addresses = {user: till.by_address(user).address for user in USERS}
        self.paid: dict[str, tuple[str, int]] = {}
        till.work()
        lab.mine(DEPTH_MAX + 4)  # so that the deepest reorg stays within what is ours
        till.work()

    def round(self, *, work: bool = True) -> None:
        """`work`: now and then somebody looks meanwhile."""
        for _ in range(self.random.randint(1, 6)):
            for _ in range(self.random.randint(0, 2)):
                self.pay()
            self.lab.mine(self.random.randint(1, 3))
            if work and self.random.random() < 0.7:
                self.till.work()
        depth = self.random.randint(1, DEPTH_MAX)
        recent = list(self.paid)[-10:]
        self.lab.undo(depth, keep=[tx for tx in recent if self.lab.height_of(tx) and self.random.random() < 0.5])
        if work and self.random.random() < 0.5:
            self.till.work()
        self.lab.mine(self.random.randint(1, 3))

    def pay(self) -> None:
        user = self.random.choice(USERS)
        units = UNITS + self.random.randint(0, 9_999)
        by_hash = self.random.random() < 0.4
        chain_tx = self.lab.pay(Payment(self.till.shared if by_hash else self.addresses[user], units))
        self.paid[chain_tx] = (user, units)
        if by_hash:
            self.till.by_hash(chain_tx, user)

    def settle(self) -> None:
        self.till.settle(3)

    def check(self) -> None:
        """Every user has been credited what the node says has arrived for him: by orders, or set apart by the scan."""
        arrived: dict[str, int] = defaultdict(int)
        for chain_tx, (user, units) in self.paid.items():
            if self.lab.height_of(chain_tx) is not None:
                arrived[user] += units
        held: dict[str, int] = defaultdict(int)
        for deposit in self.till.all():
            if deposit.state in ("credited", "suspended"):
                held[deposit.account.split(":")[1]] += deposit.units_received or 0
        assert dict(held) == dict(arrived), f"seed {self.seed}"
        self.till.close()


def test_the_books_are_the_chains_after_reorgs_of_any_depth(till: Till, lab: Lab) -> None:
    campaign = Campaign(till, lab, seed=4)
    for _ in range(4):
        campaign.round()
        campaign.settle()
        campaign.check()


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_hundred_reorgs_of_depth_1_to_20_leave_the_books_equal_to_the_chain(till: Till, lab: Lab) -> None:
    seed = random.randrange(2**32)
    campaign = Campaign(till, lab, seed)
    for _ in range(100):
        campaign.round()
        campaign.settle()
        campaign.check()


# --- in the middle of things -----------------------------------------------------------------------------------------


class Interrupted:
    """A reader before whose call number `at` something happens, once."""

    def __init__(self, reader: ChainReader, at: int, happens: Callable[[], None]) -> None:
        self._reader, self._happens = reader, happens
        self.left = at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)
        if not callable(found):
            return found

        def called(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self._happens()
            return found(*args, **kwargs)

        return called


class WithoutTag:
    """A reader that knows of no final block: anvil calls final what is two blocks deep, and replaces it then."""

    def __init__(self, reader: ChainReader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def head(self) -> Head:
        return replace(self._reader.head(), finalized=None)


CALLS_MAX = 60


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.faults)])
@pytest.mark.timeout(600)
def test_a_reorg_between_any_two_readings_of_a_scan_loses_and_doubles_nothing(
    till: Till, lab: Lab, reader: ChainReader, stride: int
) -> None:
    """`make test` tries each seventh reading, `make faults` each."""
    campaign = Campaign(till, lab, seed=stride)
    for at in range(1, CALLS_MAX, stride):
        _pay_in_three_blocks(campaign, lab)
        kept = [chain_tx for chain_tx in list(campaign.paid)[-4:] if campaign.random.random() < 0.5]
        interrupted = Interrupted(reader, at, lambda kept=kept: lab.undo(3, keep=kept))  # type: ignore[misc]
        till.reader = cast("ChainReader", interrupted)
        till.work()
        till.reader = reader
        campaign.settle()
        campaign.check()
        if interrupted.left > 0:  # it takes fewer readings than this
            break
    assert at > 8


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.faults)])
@pytest.mark.timeout(600)
def test_a_reorg_between_any_two_readings_of_a_rescan_loses_and_doubles_nothing(
    till: Till, lab: Lab, reader: ChainReader, stride: int
) -> None:
    """The payments are made to an address that is known only afterwards, so that only the rescan can find them."""
    campaign = Campaign(till, lab, seed=stride)
    for at in range(1, CALLS_MAX, stride):
        unknown = lab.new_address()
        first = _head(reader) - 12  # in two ranges
        chain_txs = []
        for _ in range(3):
            chain_txs.append(lab.pay(Payment(unknown, UNITS)))
            lab.mine()
        till.work()
        with transaction() as session:
            service.register_addresses(session, TENANT, lab.chain, [unknown])
        till.ask("2", address=unknown)
        campaign.paid |= dict.fromkeys(chain_txs, ("2", UNITS))
        last = _head(reader)
        with transaction() as session:
            asked = service.request_rescan(session, lab.chain, first=first, last=last, actor="ann", reason="a test").id
        # All come again, or one could lie above the range that was asked for.
        interrupted = Interrupted(reader, at, lambda kept=chain_txs: lab.undo(3, keep=kept))  # type: ignore[misc]
        with suppress(TransientError):
            service.rescan(cast("ChainReader", interrupted), asked, 0)
        till.work()
        _until_done(till, lab, reader, asked)
        campaign.settle()
        campaign.check()
        if interrupted.left > 0:
            break
    assert at > 4


def _pay_in_three_blocks(campaign: Campaign, lab: Lab) -> None:
    for _ in range(3):
        campaign.pay()
        lab.mine()
    campaign.pay()


def _head(reader: ChainReader) -> int:
    return reader.head().latest.number


def _until_done(till: Till, lab: Lab, reader: ChainReader, rescan_id: UUID) -> None:
    """As its job would, which comes again after a while."""
    for _ in range(10):
        with transaction() as session:
            rescan = service.get_rescan(session, rescan_id)
        assert rescan is not None
        if rescan.status == "done":
            return
        with suppress(TransientError):
            service.rescan(reader, rescan_id, rescan.part)
        lab.mine()
        till.work()
    raise AssertionError("the rescan does not come to its end")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [2, pytest.param(60, marks=pytest.mark.faults)])
def test_reorgs_while_others_scan_and_poll_without_a_pause(
    till: Till, lab: Lab, reader: ChainReader, rounds: int
) -> None:
    till.reader = cast("ChainReader", WithoutTag(reader))
    campaign = Campaign(till, lab, seed=rounds)
    over = threading.Event()
    failures: list[BaseException] = []

    def follow() -> None:
        try:
            while not over.is_set():
                till.work()
        except BaseException as error:  # noqa: BLE001  # it is the test's
            failures.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for _ in range(rounds):
            campaign.round(work=False)
            time.sleep(campaign.random.random() / 4)
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
    campaign.settle()
    campaign.check()


def test_money_that_was_spent_before_a_reorg_took_it_back_is_owed_until_it_comes_again(till: Till, lab: Lab) -> None:
    deposit = till.by_address("1")
    till.work()
    chain_tx = lab.pay(Payment(deposit.address, UNITS))
    till.settle()
    assert till.said(deposit) == ("credited", None)
    spent = UNITS * 7 // 10
    with transaction() as session:
        posting = Posting(source="user:1:available", destination="house:fees", asset=lab.coin, units=spent)
        post(session, Journal(tenant=TENANT, reference="spend", category="test.spend", postings=[posting]))
    depth = _head(till.reader) - (lab.height_of(chain_tx) or 0) + 1
    lab.undo(depth)
    till.work()
    undone = till.get(deposit)
    assert (undone.state, undone.units_short) == ("watching", spent)
    assert (till.balance("1"), _owed(lab), _account_state(lab)) == (0, spent, "frozen")
    till.close()
    lab.pay(Payment(deposit.address, 10 * UNITS))
    till.settle()
    again = till.get(deposit)
    assert (again.state, again.units_short) == ("credited", 0)
    assert (till.balance("1"), _owed(lab), _account_state(lab)) == (10 * UNITS - spent, 0, "open")
    assert till.events(deposit).count("reorged") == 1


def _owed(lab: Lab) -> int:
    with transaction() as session:
        return balances.balance(session, TENANT, "user:1:owed", lab.coin)


def _account_state(lab: Lab) -> str:
    with transaction() as session:
        found = balances.account(session, TENANT, "user:1:available")
    return next(account.state for account in found if account.asset == lab.coin)
