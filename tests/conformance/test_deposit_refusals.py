"""What is not credited, on every kind of chain: frauds, mistakes, and payments that never come."""

from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import update

from chains import formats
from config.assets import registry as assets
from core import clock
from core.db import transaction
from core.errors import InvalidRequestError
from domain.deposit import service
from domain.deposit.models import Deposit
from tests.conformance.lab import Lab, Payment
from tests.conformance.till import UNITS, Till, can

# --- what is refused -----------------------------------------------------------------------------------------------


def test_the_same_payment_claimed_twice_is_credited_once(till: Till, lab: Lab) -> None:
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    first = till.by_hash(chain_tx, "1")
    till.settle()
    thief = till.by_hash(chain_tx, "2")
    till.settle()
    assert till.said(first) == ("credited", None) and till.said(thief) == ("rejected", "duplicate")
    assert till.balance("2") == 0


def test_the_same_hash_in_another_spelling_is_the_same_payment(till: Till, lab: Lab) -> None:
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    first = till.by_hash(chain_tx, "1")
    spelled = chain_tx.upper().replace("0X", "0x") if lab.chain.split(":")[0] != "solana" else chain_tx
    again = till.by_hash(spelled, "2")
    assert again.chain_tx == first.chain_tx == chain_tx
    till.settle()
    assert sorted([till.said(first), till.said(again)]) == [("credited", None), ("rejected", "duplicate")]


def test_a_payment_to_somebody_else_is_refused(till: Till, lab: Lab) -> None:
    deposit = till.by_hash(lab.pay(Payment(lab.new_address(), UNITS)))
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_recipient")


def test_a_payment_older_than_the_order_is_refused(till: Till, lab: Lab) -> None:
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)))
    with transaction() as session:  # as if it had been asked for two days after the payment
        session.execute(update(Deposit).values(created_at=clock.now() + timedelta(days=2)))
    till.settle()
    assert till.said(deposit) == ("rejected", "older_than_order")


def test_another_payers_transaction_is_refused(till: Till, lab: Lab) -> None:
    if not formats.tells_payer(lab.chain):
        pytest.skip(f"{lab.chain} does not say who paid")
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)), payer=lab.new_address())
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_payer")


def test_a_transaction_that_was_never_sent_is_never_credited(till: Till, lab: Lab) -> None:
    deposit = till.by_hash(lab.missing)
    till.settle()
    assert till.said(deposit) == ("watching", None) and till.balance("1") == 0


def test_a_failed_transaction_is_refused_whatever_its_fields_say(till: Till, lab: Lab) -> None:
    can(lab, "fail")
    waiting = till.by_address("2")
    till.work()
    by_hash = till.by_hash(lab.fail(till.shared, UNITS), units_expected=UNITS)
    lab.fail(waiting.address, UNITS)
    till.settle()
    assert till.said(by_hash) == ("rejected", "reverted")
    assert till.said(waiting) == ("watching", None) and till.balance("2") == 0


def test_a_token_of_the_same_name_is_not_the_token(till: Till, lab: Lab) -> None:
    can(lab, "strange")
    waiting = till.by_address("2", asset=lab.token, units_expected=UNITS)
    till.work()
    deposit = till.by_hash(lab.pay_strange(till.shared, UNITS), asset=lab.token, units_expected=UNITS)
    lab.pay_strange(waiting.address, UNITS)
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_token")
    assert till.said(waiting) == ("watching", None)
    assert till.balance("1", lab.token) == till.balance("2", lab.token) == 0


def test_the_coin_does_not_pay_for_a_token(till: Till, lab: Lab) -> None:
    if lab.token == lab.coin:
        pytest.skip("the chain has no tokens")
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)), asset=lab.token, units_expected=UNITS)
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_token")


def test_nothing_is_no_payment(till: Till, lab: Lab) -> None:
    can(lab, "zero")
    waiting = till.by_address("2", asset=lab.token)
    till.work()
    deposit = till.by_hash(lab.pay(Payment(till.shared, 0, lab.token)), asset=lab.token)
    lab.pay(Payment(waiting.address, 0, lab.token))
    till.settle()
    assert till.said(deposit) == ("rejected", "zero_value")
    assert till.said(waiting) == ("watching", None)


def test_dust_is_not_taken_for_the_payment_that_is_waited_for(till: Till, lab: Lab) -> None:
    asset = assets().assets[lab.coin]
    assets().assets[lab.coin] = asset.model_copy(update={"units_min": UNITS})
    try:
        waiting = till.by_address("2", units_expected=2 * UNITS)
        till.work()
        deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS - 1)))
        lab.pay(Payment(waiting.address, UNITS - 1))
        till.settle()
        assert till.said(deposit) == ("rejected", "below_minimum")
        assert till.said(waiting) == ("watching", None)
        lab.pay(Payment(waiting.address, 2 * UNITS))
        till.settle()
        assert till.said(waiting) == ("credited", None)
    finally:
        assets().assets[lab.coin] = asset


def test_too_little_too_much_and_nobody_asked_wait_for_a_person(till: Till, lab: Lab) -> None:
    little = till.by_address("1", units_expected=UNITS)
    much = till.by_address("2", units_expected=UNITS, tolerance_bps=100)
    till.work()
    lab.pay(Payment(little.address, UNITS - 1))
    lab.pay(Payment(much.address, UNITS + UNITS // 50))
    till.settle()
    assert till.said(little) == ("suspended", "underpaid") and till.said(much) == ("suspended", "overpaid")
    lab.pay(Payment(little.address, UNITS))
    till.settle()
    assert ("suspended", "unexpected") in {(d.state, d.reason) for d in till.all() if d.mode == "unexpected"}
    assert till.balance("1") == till.balance("2") == 0


# --- what does not come ---------------------------------------------------------------------------------------------


def test_a_payment_that_was_replaced_is_told_so_and_not_credited(till: Till, lab: Lab) -> None:
    can(lab, "replace")
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    deposit = till.by_hash(chain_tx)
    till.work()
    assert "mempool" in till.events(deposit)
    lab.replace(chain_tx)
    till.settle()
    assert till.said(deposit) == ("replaced", None) and till.balance("1") == 0


def test_a_dropped_payment_waits_until_its_deadline(till: Till, lab: Lab) -> None:
    can(lab, "drop")
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    deposit = till.by_hash(chain_tx)
    till.work()
    lab.drop(chain_tx)
    till.settle()
    if "expire" not in lab.can:  # a transaction that says until when it is valid need not be waited for
        assert till.said(deposit) == ("watching", None)
    with transaction() as session:
        session.execute(update(Deposit).values(deadline_at=clock.now()))
    till.until(lambda: till.said(deposit)[0] == "expired")
    assert till.balance("1") == 0


def test_a_deposit_that_nobody_pays_expires_by_the_chains_clock_and_late_money_is_kept(till: Till, lab: Lab) -> None:
    deposit = till.by_address(units_expected=UNITS, deadline_at=clock.now() + timedelta(seconds=1))
    till.until(lambda: till.said(deposit)[0] == "expired")
    lab.pay(Payment(deposit.address, UNITS))
    till.settle()
    assert till.said(deposit) == ("suspended", "late") and till.balance("1") == 0


# --- what the eye mistakes -------------------------------------------------------------------------------------------


def test_a_look_alike_address_is_another_address(till: Till, lab: Lab) -> None:
    """Address poisoning: a little comes from somewhere, so that an address like ours is copied from the history."""
    waiting = till.by_address("1", units_expected=UNITS)
    look_alike = lab.look_alike(waiting.address)
    assert look_alike != waiting.address and look_alike[:2] == waiting.address[:2]
    assert formats.parse_address(lab.chain, look_alike) == look_alike
    till.work()
    if "zero" in lab.can:
        lab.pay(Payment(waiting.address, 0, lab.token))
    lab.pay(Payment(waiting.address, UNITS // 100))
    copied = till.by_hash(lab.pay(Payment(look_alike, UNITS)), "2")
    till.settle()
    assert till.said(copied) == ("rejected", "wrong_recipient")
    assert till.said(waiting) == ("watching", None) and till.balance("1") == till.balance("2") == 0
    lab.pay(Payment(waiting.address, UNITS))
    till.settle()
    assert till.said(waiting) == ("credited", None) and till.balance("1") == UNITS


def test_a_token_of_the_same_name_and_other_decimals_is_not_the_token(till: Till, lab: Lab) -> None:
    """As much by what a wallet shows, and a trillion times as much by its units."""
    can(lab, "strange")
    waiting = till.by_address("2", asset=lab.token, units_expected=UNITS)
    till.work()
    chain_tx = lab.pay_strange(till.shared, UNITS * 10**12 if lab.token.startswith("eip155") else UNITS, decimals=18)
    deposit = till.by_hash(chain_tx, asset=lab.token, units_expected=UNITS)
    lab.pay_strange(waiting.address, UNITS, decimals=18)
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_token") and till.said(waiting) == ("watching", None)
    assert till.balance("1", lab.token) == till.balance("2", lab.token) == 0


def test_units_are_the_smallest_there_are_whatever_the_scale(till: Till, lab: Lab) -> None:
    """An order of 1 is no order of one whole coin: what is asked for, paid and booked is counted alike."""
    scale = assets().assets[lab.coin].scale
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)), units_expected=UNITS * 10 ** (scale - 6))
    till.settle()
    expected = ("credited", None) if scale == 6 else ("suspended", "underpaid")
    assert till.said(deposit) == expected and till.get(deposit).units_received == UNITS


def test_an_address_of_ours_is_nobodys_on_another_chain(till: Till, lab: Lab) -> None:
    """The right address on the wrong chain: nobody else may have it there, and an order names one chain."""
    namespace = lab.chain.split(":")[0]
    other = next(chain for chain in assets().chains if chain.startswith(namespace) and chain != lab.chain)
    given = till.by_address("1")
    with transaction() as session, pytest.raises(InvalidRequestError) as caught:
        service.register_addresses(session, "rival", other, [given.address])
    assert caught.value.field == "address"
    for wrong in ({"chain": other}, {"asset": next(a.id for a in assets().of_chain(other) if a.contract is None)}):
        with pytest.raises(InvalidRequestError) as caught:
            till.by_hash(lab.missing, "2", **wrong)
        assert caught.value.field in ("chain", "address")


def test_an_address_is_spelled_in_one_way_and_base58_is_never_lower_cased(lab: Lab) -> None:
    address = lab.new_address()
    found = set()
    for spelled in (address.lower(), address.upper(), address.swapcase()):
        with suppress(InvalidRequestError):
            found.add(formats.parse_address(lab.chain, spelled))
    is_base58 = lab.chain.split(":")[0] in ("solana", "tron")
    assert (address not in found) if is_base58 else found == {address}


def test_a_hash_with_or_without_0x_is_the_same_payment_or_none(till: Till, lab: Lab) -> None:
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    first = till.by_hash(chain_tx, "1")
    toggled = chain_tx.removeprefix("0x") if chain_tx.startswith("0x") else "0x" + chain_tx
    if lab.chain.split(":")[0] in ("eip155", "aptos", "tron"):
        again = till.by_hash(toggled, "2")
        assert again.chain_tx == first.chain_tx
        till.settle()
        assert sorted([till.said(first), till.said(again)]) == [("credited", None), ("rejected", "duplicate")]
    else:
        with pytest.raises(InvalidRequestError):
            till.by_hash(toggled, "2")
