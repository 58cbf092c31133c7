"""One address for many owners: a payment is its tag's owner's, and nobody else's, however it is claimed."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from chains.base import Block, Scan, Transfer
from core import clock, db
from core.errors import ConflictError, InvalidRequestError, InvariantError
from domain.deposit import queries, service, tags
from domain.deposit.attribute import attribute
from domain.deposit.models import Deposit, DepositTag, DepositTransfer
from domain.deposit.service import Route
from domain.deposit.tags import Asked, Tagged
from ledger import balances, invariants
from tests.integration.deposit.memory_chain import MemoryChain, Payment
from tests.integration.deposit.networks import (
    ACCOUNT,
    BITCOIN,
    MAIN,
    OTHER,
    TENANT,
    TRX,
    Counting,
    at_once,
    child,
    networks,
    new,
    register,
    transfer,
    user,
)

__all__ = ["networks"]

pytestmark = pytest.mark.usefixtures("networks")

HOT, SECOND, PLAIN, OWN = (child(index, seed=5) for index in range(4))
"""Addresses: two that are tagged, one that is shared without, one of the pool."""


@pytest.fixture(autouse=True)
def hot(networks: None) -> None:
    register(HOT, shared=True, tagged=True)


def tag_of(account: str = ACCOUNT, address: str | None = None) -> str:
    with db.transaction() as session:
        return allotted(session, account, address).tag


def allotted(session: Session, account: str, address: str | None = None) -> Tagged:
    asked = Asked(TENANT, MAIN, account, address)
    return tags.allot_tags(session, [asked])[asked]


def by_tag(**fields: Any) -> Deposit:
    with db.transaction() as session:
        return service.create(session, new(**{"route": Route.TAG} | fields))


def kept(deposit: Deposit) -> Deposit:
    with db.transaction() as session:
        return session.get_one(Deposit, deposit.id)


# --- allotting -----------------------------------------------------------------------------------------------------


def test_an_owner_keeps_his_tag_for_ever(session: Session) -> None:
    first = allotted(session, user(1))
    other = allotted(session, user(2))
    session.commit()
    assert first.address == other.address == HOT
    assert first.tag != other.tag
    register(SECOND, shared=True, tagged=True)
    assert allotted(session, user(1)) == first
    assert allotted(session, user(3)).address == SECOND  # new owners get the address that was registered last
    assert allotted(session, user(3), HOT).address == HOT
    assert allotted(session, user(1), SECOND).address == SECOND
    assert allotted(session, user(1)) == first


def test_one_owner_who_asks_at_once_has_one_tag_and_a_thousand_have_one_each(session: Session) -> None:
    assert len(set(at_once([tag_of] * 6))) == 1
    news = [new(account=user(number), route=Route.TAG) for number in range(1_000)]
    with Counting() as one:
        service.create(session, new(account=user(1_000), route=Route.TAG))
    with Counting() as many:
        made = service.create_many(session, news)
    assert len(one) == len(many)
    assert len({each.tag for each in made if isinstance(each, Deposit)}) == 1_000


def test_a_tag_that_is_somebodys_is_not_given_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["AAA", "AAA", "BBB", "AAA", "AAA", "AAA"])
    monkeypatch.setattr(tags, "new_tag", lambda _chain: next(drawn))
    assert allotted(session, user(1)).tag == "AAA"
    assert allotted(session, user(2)).tag == "BBB"
    with pytest.raises(InvariantError):
        allotted(session, user(3))


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("route", {"asset": f"{BITCOIN}/slip44:0"}),  # its payments carry none
        ("route", {"asset": f"{OTHER}/slip44:195"}),  # the tenant has no tagged address there
        ("route", {"tenant": "other"}),
        ("route", {"chain_tx": "ab" * 32, "address": HOT}),
        ("address", {"address": PLAIN}),
        ("address", {"address": OWN}),
        ("address", {"address": SECOND}),  # nobody's
        ("chain_tx", {"route": Route.ADDRESS, "address": HOT}),
    ],
)
def test_what_has_no_tag_is_refused(session: Session, field: str, fields: dict[str, Any]) -> None:
    register(PLAIN, shared=True)
    register(OWN)
    with pytest.raises(InvalidRequestError) as refused:
        service.create(session, new(**{"route": Route.TAG} | fields))
    assert refused.value.field == field
    assert session.scalars(select(DepositTag)).all() == []


def test_an_address_never_changes_its_kind(session: Session) -> None:
    register(PLAIN, shared=True)
    for address, kind in ((PLAIN, {"shared": True, "tagged": True}), (HOT, {"shared": True}), (HOT, {})):
        with pytest.raises(ConflictError):
            service.register_addresses(session, TENANT, MAIN, [address], **kind)
    assert service.register_addresses(session, TENANT, MAIN, [HOT], shared=True, tagged=True) == 0
    for chain, shared in ((BITCOIN, True), (MAIN, False)):
        with pytest.raises(InvalidRequestError):
            service.register_addresses(session, TENANT, chain, [OWN], shared=shared, tagged=True)


def test_a_tag_can_be_neither_changed_nor_taken_away(session: Session) -> None:
    allotted(session, user(1))
    for statement in ("UPDATE deposit_tags SET owner_account = 'x'", "DELETE FROM deposit_tags"):
        with pytest.raises(ProgrammingError, match="permission denied"), session.begin_nested():
            session.execute(text(statement))


def test_a_tagged_address_is_scanned_from_its_registration(session: Session) -> None:
    register(PLAIN, shared=True)
    assert queries.scanned_addresses(session, MAIN) == [HOT]
    assert queries.first_allotment(session, MAIN) is not None
    assert queries.first_allotment(session, OTHER) is None


# --- what arrives --------------------------------------------------------------------------------------------------


def found(session: Session, *arrived: Transfer) -> list[Deposit]:
    """What a scan makes of these transfers, newest deposit first."""
    attribute(session, MAIN, arrived, now=clock.now())
    session.commit()
    return list(service.page(session))


def test_a_payment_is_its_tags_owners(session: Session) -> None:
    one, two = by_tag(account=user(1), units_expected=5_000), by_tag(account=user(2), units_expected=5_000)
    assert (one.address, two.address) == (HOT, HOT)
    deposits = found(session, transfer(HOT, tags=(two.tag or "",)), transfer(HOT, 7_000, tags=("junk", one.tag or "")))
    assert [(each.account, each.state, each.reason, each.units_received) for each in deposits] == [
        (user(2), "pending", None, 5_000),
        (user(1), "pending", "overpaid", 7_000),
    ]


def test_a_known_tag_without_a_deposit_is_unexpected_money_of_its_owner(session: Session) -> None:
    tag = tag_of(user(1))
    [deposit] = found(session, transfer(HOT, tags=(tag,)))
    assert (deposit.account, deposit.mode, deposit.tag, deposit.reason) == (user(1), "unexpected", tag, "unexpected")


def test_what_names_nobody_or_several_is_nobodys(session: Session) -> None:
    one, two = by_tag(account=user(1)), by_tag(account=user(2))
    both = (one.tag or "", two.tag or "")
    strange = ("\0", "\ud800", "x" * 10_000, "", "\n", "'; DROP TABLE deposits; --")
    deposits = found(
        session,
        transfer(HOT),
        transfer(HOT, tags=("nobody's",)),
        transfer(HOT, tags=both),
        transfer(HOT, tags=strange),
        transfer(HOT, tags=((one.tag or "").lower(),)),
    )
    assert [each.state for each in deposits] == ["watching", "watching"]
    assert session.scalars(select(DepositTransfer)).all() == []
    # What nobody can write beside a tag costs its owner nothing.
    assert found(session, transfer(HOT, tags=(*strange, one.tag or "")))[1].state == "pending"


def test_an_address_of_ones_own_ignores_tags(session: Session) -> None:
    register(OWN)
    own = service.create(session, new(account=user(1), address=OWN))
    session.commit()
    of_another = tag_of(user(2))
    [deposit] = found(session, transfer(OWN, tags=(of_another,)))
    assert (deposit.id, deposit.state) == (own.id, "pending")


def test_a_payment_locks_and_notes_only_what_waits_for_its_tag(session: Session) -> None:
    one, two = by_tag(account=user(1)), by_tag(account=user(2))
    assert [each.id for each in queries.lock_waiting(session, MAIN, [], [(HOT, one.tag or "")])] == [one.id]
    assert queries.lock_waiting(session, MAIN, [HOT]) == []
    found(session, transfer(HOT, asset=None, contract="T", tags=(two.tag or "",)), transfer(HOT, asset=None))
    histories = [[line.event for line in service.history(session, each.id)] for each in (one, two)]
    assert histories == [["created"], ["created", "wrong_token"]]


# --- a whole chain -------------------------------------------------------------------------------------------------


@dataclass
class TaggedChain(MemoryChain):
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def send(self, units: int, *tags_: str) -> str:
        made = self.pay(HOT, units)
        paid = Payment(made.id.removeprefix("0x"), made.sender, made.nonce, made.recipient, made.units)
        self.mempool[-1] = paid
        self.written[paid.id] = tags_
        return paid.id

    def _transfer(self, block: Block, payment: Payment) -> Transfer:
        return replace(super()._transfer(block, payment), tags=self.written[payment.id])

    def scan(self, first: int, last: int, addresses: Collection[str]) -> Scan:
        return super().scan(first, last, list(addresses))


@pytest.fixture
def chain() -> TaggedChain:
    return TaggedChain(MAIN, TRX, began=clock.now())


def settle(chain: TaggedChain, *, poll_first: bool = False) -> None:
    for _ in range(3):
        chain.mine()
        if not poll_first:
            service.scan(chain)
        with db.transaction() as session:
            session.execute(update(Deposit).where(Deposit.next_poll_at.is_not(None)).values(next_poll_at=clock.now()))
        service.poll(chain)
        service.scan(chain)
    with db.transaction() as session:
        assert invariants.verify(session) == []


def balance(account: str) -> int:
    with db.transaction() as session:
        return balances.balance(session, TENANT, account, TRX)


def by_hash(chain_tx: str, account: str) -> Deposit:
    with db.transaction() as session:
        return service.create(session, new(account=account, chain_tx=chain_tx, address=HOT))


@pytest.mark.parametrize("poll_first", [True, False])
def test_a_payment_with_somebodys_tag_is_not_claimed_by_its_hash(chain: TaggedChain, poll_first: bool) -> None:
    service.scan(chain)
    mine = by_tag(account=user(1), units_expected=5_000)
    chain_tx = chain.send(5_000, mine.tag or "")
    thief = by_hash(chain_tx, user(2))
    settle(chain, poll_first=poll_first)
    assert (kept(thief).state, kept(thief).reason) == ("rejected", "wrong_tag")
    assert (kept(mine).state, kept(mine).chain_tx) == ("credited", chain_tx)
    assert (balance(user(1)), balance(user(2))) == (5_000, 0)


def test_what_names_nobody_can_be_claimed_by_its_hash_and_what_names_several_by_these(chain: TaggedChain) -> None:
    service.scan(chain)
    first, second = tag_of(user(1)), tag_of(user(2))
    forgotten, both = chain.send(5_000), chain.send(7_000, first, second)
    claims = [by_hash(forgotten, user(3)), by_hash(both, user(3)), by_hash(both, user(2))]
    settle(chain)
    assert [(kept(each).state, kept(each).reason) for each in claims] == [
        ("credited", None),
        ("rejected", "wrong_tag"),
        ("credited", None),
    ]
    assert [balance(user(number)) for number in (1, 2, 3)] == [0, 7_000, 5_000]


def test_ones_own_tagged_payment_is_booked_once_however_it_is_found(chain: TaggedChain) -> None:
    service.scan(chain)
    waits = by_tag(account=user(1))
    named = by_hash(chain.send(5_000, waits.tag or ""), user(1))
    settle(chain)
    assert balance(user(1)) == 5_000
    assert sorted([kept(waits).state, kept(named).state]) in (["credited", "rejected"], ["credited", "watching"])


def test_a_payment_that_is_claimed_by_its_hash_at_the_moment_of_its_scan_is_booked_once(
    chain: TaggedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.scan(chain)
    named = by_hash(chain.send(5_000, tag_of(user(1))), user(1))
    other = chain.send(7_000, tag_of(user(2)))
    chain.mine()
    real = queries.claimed
    looks: list[list[Any]] = []

    def claimed(*given: Any) -> set[tuple[str, int]]:
        found = real(*given)
        if not looks:  # not claimed yet, as far as the scan knows
            looks.append(at_once([partial(service.look, chain, named.id)]))
        return found

    monkeypatch.setattr(queries, "claimed", claimed)
    service.scan(chain)
    assert len(looks) == 1
    settle(chain)
    assert (balance(user(1)), kept(named).state) == (5_000, "credited")
    with db.transaction() as session:
        found = list(service.page(session))
    assert {each.chain_tx: each.account for each in found} == {named.chain_tx: user(1), other: user(2)}
    assert len(found) == 2


def test_a_reorg_takes_a_tagged_payment_back_and_it_is_found_again(chain: TaggedChain) -> None:
    service.scan(chain)
    one, two = by_tag(account=user(1)), by_tag(account=user(2))
    chain.send(5_000, one.tag or "")
    settle(chain)
    assert balance(user(1)) == 5_000
    chain.reorg(4, keep=True)
    service.scan(chain)
    assert (kept(one).state, balance(user(1))) == ("watching", 0)
    settle(chain)
    assert (kept(one).state, kept(one).incarnation, kept(two).state) == ("credited", 1, "watching")
    assert (balance(user(1)), balance(user(2))) == (5_000, 0)


def test_a_block_of_many_owners_payments_is_each_ones(chain: TaggedChain) -> None:
    service.scan(chain)
    accounts = [user(number) for number in range(40)]
    asked = at_once([partial(by_tag, account=account) for account in accounts[:4]])
    asked += [by_tag(account=account) for account in accounts[4:]]
    for place, deposit in enumerate(asked):
        chain.send(1_000 + place, deposit.tag or "")
    settle(chain)
    assert {deposit.account: balance(deposit.account) for deposit in asked} == {
        deposit.account: 1_000 + place for place, deposit in enumerate(asked)
    }
