"""Once, whatever happens, on every kind of chain: scans that are repeated, and reorgs."""

from sqlalchemy import select

from core.db import transaction
from domain.deposit import service
from domain.deposit.scan_models import ChainCursor
from tests.conformance.lab import Lab, Payment
from tests.conformance.till import UNITS, Till, can


def test_scanning_again_finds_the_same_deposits_and_posts_nothing_twice(till: Till, lab: Lab) -> None:
    first = till.by_address("1")
    till.work()
    with transaction() as session:
        began = session.scalar(select(ChainCursor.next_block)) or 0
    for _ in range(3):
        lab.pay(Payment(first.address, UNITS))
        lab.mine()
    lab.pay(Payment(first.address, UNITS, lab.token))
    till.settle()
    before = sorted((d.chain_tx, d.index, d.state, d.journal_id) for d in till.all())
    assert len(before) == 4 and till.living_transfers() == 4
    with transaction() as session:
        service.restart_scan(session, lab.chain, next_block=began, actor="test", reason="again")
    till.settle()
    assert sorted((d.chain_tx, d.index, d.state, d.journal_id) for d in till.all()) == before
    assert till.living_transfers() == 4


def test_a_reorg_takes_back_what_was_credited_and_gives_it_again(till: Till, lab: Lab) -> None:
    can(lab, "reorg")
    lasting, gone = till.by_address("1"), till.by_address("2")
    till.work()
    kept = lab.pay(Payment(lasting.address, UNITS))
    lab.pay(Payment(gone.address, UNITS))
    till.settle(3)
    assert till.balance("1") == till.balance("2") == UNITS
    lab.undo(4, keep=[kept])
    till.settle()
    assert till.balance("1") == UNITS and till.said(lasting) == ("credited", None)
    assert till.balance("2") == 0 and till.said(gone) == ("watching", None)
    assert till.living_transfers() == 1


def test_a_pending_payment_that_a_reorg_takes_away_books_nothing(till: Till, lab: Lab) -> None:
    can(lab, "reorg")
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)))
    lab.mine()
    till.work()
    assert till.said(deposit) == ("pending", None)
    lab.undo(1)
    till.settle()
    assert till.said(deposit) == ("watching", None) and till.balance("1") == 0
    assert "reorged" in till.events(deposit)


def test_another_address_of_the_same_owner_is_not_taken_for_this_one(till: Till, lab: Lab) -> None:
    mine, theirs = till.by_address("1", units_expected=UNITS), till.by_address("2", units_expected=UNITS)
    assert mine.address != theirs.address
    till.work()
    lab.pay(Payment(theirs.address, UNITS))
    till.settle()
    assert till.said(mine) == ("watching", None) and till.said(theirs) == ("credited", None)


def test_asking_again_for_the_same_owner_gives_the_same_address(till: Till, lab: Lab) -> None:
    first = till.by_address("1")
    again = till.ask("1")
    assert again.address == first.address
