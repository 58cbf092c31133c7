"""Payments that are credited, on every kind of chain: by hash, by address, by tag."""

from typing import Any

import pytest

from chains import formats
from chains.base import ChainReader
from core.db import transaction
from domain.deposit import service
from domain.deposit.models import Deposit
from domain.deposit.service import Route
from tests.conformance.lab import Lab, Payment
from tests.conformance.till import TENANT, UNITS, Till, can, is_final_only

# --- one payment, from sight to credit -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coin", "token"])
def test_a_payment_by_hash_is_seen_confirmed_and_credited_once(till: Till, lab: Lab, kind: str) -> None:
    asset = lab.coin if kind == "coin" else lab.token
    chain_tx = lab.pay(Payment(till.shared, UNITS, asset))
    deposit = till.by_hash(chain_tx, asset=asset, units_expected=UNITS)
    till.work()
    assert till.said(deposit) == ("watching", None), "in no block yet: proves nothing"
    lab.mine()
    till.work()
    if lab.final_after > 1:
        assert till.said(deposit) == ("watching" if is_final_only(lab) else "pending", None)
        assert till.balance("1", asset) == 0
    till.settle()
    assert till.said(deposit) == ("credited", None)
    till.settle()
    assert till.balance("1", asset) == UNITS and till.living_transfers() == 1


@pytest.mark.parametrize("kind", ["coin", "token"])
def test_a_payment_by_address_is_found_by_the_scan_and_credited_once(till: Till, lab: Lab, kind: str) -> None:
    asset = lab.coin if kind == "coin" else lab.token
    deposit = till.by_address(asset=asset, units_expected=UNITS)
    till.work()
    chain_tx = lab.pay(Payment(deposit.address, UNITS, asset))
    till.settle()
    found = till.get(deposit)
    assert (found.state, found.chain_tx, found.units_received) == ("credited", chain_tx, UNITS)
    assert till.balance("1", asset) == UNITS


def test_the_same_transfer_is_found_alike_by_hash_and_by_scan(till: Till, lab: Lab, reader: ChainReader) -> None:
    deposit = till.by_address()
    till.work()
    lab.pay(Payment(deposit.address, UNITS))
    till.settle()
    found = till.get(deposit)
    told = [t for t in reader.chain_txs([found.chain_tx or ""])[found.chain_tx or ""].transfers if t.units == UNITS]
    assert (found.index, found.sender, found.block_hash) in {(t.index, t.sender, t.block_hash) for t in told}


def test_several_transfers_in_one_transaction_are_several_deposits(till: Till, lab: Lab) -> None:
    can(lab, "many")
    asset = lab.token
    one, other = till.by_address("1", asset=asset), till.by_address("2", asset=asset)
    till.work()
    lab.pay(
        Payment(one.address, UNITS, asset),
        Payment(other.address, 2 * UNITS, asset),
        Payment(other.address, 3 * UNITS, asset),
    )
    till.settle()
    assert till.said(one) == till.said(other) == ("credited", None)
    assert till.balance("1", asset) == UNITS
    extra = [deposit for deposit in till.all() if deposit.mode == "unexpected"]
    assert [deposit.account for deposit in extra] == ["user:2:available"] and till.living_transfers() == 3
    assert {till.get(other).units_received, extra[0].units_received} == {2 * UNITS, 3 * UNITS}


def test_several_transfers_to_a_shared_address_pay_several_orders(till: Till, lab: Lab) -> None:
    can(lab, "many")
    asset = lab.token
    chain_tx = lab.pay(Payment(till.shared, UNITS, asset), Payment(till.shared, UNITS, asset))
    deposits = [till.by_hash(chain_tx, user, asset=asset, units_expected=UNITS) for user in ("1", "2", "3")]
    till.settle()
    assert sorted(till.said(deposit) for deposit in deposits) == [
        ("credited", None),
        ("credited", None),
        ("rejected", "duplicate"),
    ]


# --- one address for many, told apart by tag -------------------------------------------------------------------------


def tagged(till: Till, lab: Lab, *users: str, **fields: Any) -> list[Deposit]:
    """A tagged address, and a deposit of each user on it."""
    can(lab, "tag")
    address = lab.new_address()
    with transaction() as session:
        service.register_addresses(session, TENANT, lab.chain, [address], shared=True, tagged=True)
    deposits = [till.ask(user, route=Route.TAG, **fields) for user in users]
    assert {deposit.address for deposit in deposits} == {address}
    assert len({deposit.tag for deposit in deposits}) == len(users)
    return deposits


@pytest.mark.parametrize("kind", ["coin", "token"])
def test_a_payment_is_its_tags_owners(till: Till, lab: Lab, kind: str) -> None:
    asset = lab.coin if kind == "coin" else lab.token
    one, other = tagged(till, lab, "1", "2", asset=asset, units_expected=UNITS)
    till.work()
    chain_tx = lab.pay(Payment(other.address, UNITS, asset, tag=other.tag))
    till.settle()
    assert till.said(one) == ("watching", None) and till.balance("1", asset) == 0
    assert till.said(other) == ("credited", None) and till.balance("2", asset) == UNITS
    assert till.get(other).chain_tx == chain_tx
    lab.pay(Payment(one.address, UNITS, asset, tag=one.tag))
    till.settle()
    assert till.said(one) == ("credited", None) and till.balance("1", asset) == UNITS
    assert till.living_transfers() == 2


def test_a_payment_without_a_tag_or_with_nobodys_is_nobodys(till: Till, lab: Lab) -> None:
    [waiting] = tagged(till, lab, "1")
    till.work()
    lab.pay(Payment(waiting.address, UNITS))
    lab.pay(Payment(waiting.address, UNITS, tag=formats.new_tag(lab.chain)))
    lab.pay(Payment(waiting.address, UNITS, tag="thanks"))
    till.settle()
    assert till.said(waiting) == ("watching", None)
    assert till.balance("1") == 0 and till.living_transfers() == 0


def test_a_payment_that_names_two_owners_is_nobodys(till: Till, lab: Lab) -> None:
    can(lab, "tags")
    one, other = tagged(till, lab, "1", "2")
    till.work()
    chain_tx = lab.pay(Payment(one.address, UNITS, tag=one.tag, also=(other.tag or "",)))
    till.settle()
    assert till.said(one) == till.said(other) == ("watching", None) and till.living_transfers() == 0
    claimed = till.ask("2", chain_tx=chain_tx, address=one.address)  # names him among others: his word is taken
    till.settle()
    assert till.said(claimed) == ("credited", None) and till.balance("2") == UNITS


def test_anothers_tagged_payment_can_not_be_claimed_by_its_hash(till: Till, lab: Lab) -> None:
    one, other = tagged(till, lab, "1", "2")
    till.work()
    chain_tx = lab.pay(Payment(one.address, UNITS, tag=one.tag))
    thief = till.ask("2", chain_tx=chain_tx, address=one.address)
    till.settle()
    assert till.said(thief) == ("rejected", "wrong_tag") and till.balance("2") == 0
    assert till.said(one) == ("credited", None) and till.said(other) == ("watching", None)
