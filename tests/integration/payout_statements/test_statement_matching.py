"""Statements of all providers, matched with our record and the books."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from core import breaks, clock
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, PermanentError
from domain.payout import service, statements
from domain.payout.matching import AMOUNT, BALANCE, BOOKS, FEE, MISSING, STATE, UNKNOWN, Waiting
from domain.payout.statement_models import PayoutStatement
from domain.payout.states import PayoutState
from providers.payout.base import Refusal
from tests.integration.payout_sending.desk import SHOP
from tests.integration.payout_statements.counter import UNITS, WINDOW, Counter
from tests.support.payouts.base import refusing
from tests.support.payouts.razorpayx import RazorpayxDouble

BEGUN = 10_000_000_00
"""What the doubles have of ours at first."""


def test_where_all_three_agree_nothing_is_said(each: Counter) -> None:
    """Paid, returned, and under way; read three times, over times that overlap, in pages of two."""
    each.double.page_max = 2
    kept, back = each.paid(), each.returned()
    each.later(seconds=5)
    for _ in range(2):
        outcome = each.reconcile()
        assert (outcome.differing, outcome.waiting) == (0, {})
        assert each.kinds() == []
    each.later(days=3)
    statement = each.read()
    assert (statement.added, statement.withdrawn) == (0, 0)
    assert each.match().agreed == 2
    assert each.kinds() == []
    lines = [line for line in each.lines() if line.payout_id == kept]
    assert [(line.state, line.why) for line in lines] == [("matched", None)]
    assert each.state(back) is PayoutState.RETURNED
    # Whether Flutterwave gives the fee back with what failed it tells nowhere.
    untold = 0 if each.double.tells_returns else each.double.fee(UNITS)
    assert each.here() == each.double.balance_units - BEGUN - untold
    each.check_books()


def test_each_difference_is_its_break_and_heals_or_is_settled(counter: Counter) -> None:
    """Everything that can be different at once, each on a payout of its own, over HTTP."""
    spoilt = Spoilt(counter)
    counter.later(seconds=5)
    counter.reconcile(work=False)
    assert counter.found() == {spoilt.books: {BOOKS}}  # of all others what we know may be old
    assert counter.reconcile().waiting == {Waiting.NOT_YET: 2}
    at_once: dict[UUID | None, set[str]] = {
        spoilt.books: {BOOKS},
        spoilt.twice: {AMOUNT},
        spoilt.amount: {AMOUNT},
        spoilt.fee: {FEE},
        spoilt.both: {AMOUNT},
        spoilt.back: {STATE},
        spoilt.gone: {STATE},
    }
    assert counter.found() == at_once
    counter.later(days=4)
    assert counter.reconcile().waiting == {}
    everything = {
        **at_once,
        spoilt.missing: {MISSING},
        spoilt.late: {MISSING},
        None: {UNKNOWN, BALANCE},
    }
    assert counter.found() == everything
    before = {each.id: each.times for each in counter.open()}
    counter.reconcile()
    assert {each.id: each.times for each in counter.open()} == {key: times + 1 for key, times in before.items()}

    spoilt.mend()  # the late line comes, and one of an amount is told right
    counter.reconcile()
    assert counter.found() == {key: kinds for key, kinds in everything.items() if key not in spoilt.mended}
    healed = [each for each in counter.every() if each.state == "explained"]
    assert {(each.kind, each.explained_by) for each in healed} == {(MISSING, "payout"), (AMOUNT, "payout")}

    for each in counter.open():
        with pytest.raises(InvalidRequestError, match=r"has no payouts|is of shop"):
            counter.settle(each, tenant="shopp")
        counter.settle(each, tenant=SHOP)
    outcome = counter.reconcile()
    assert (counter.open(), outcome.differing, outcome.waiting) == ([], 0, {})
    told = sum(line.units for line in counter.lines() if line.withdrawn_at is None)
    assert counter.here() == told - spoilt.moved  # what was moved is told beside
    settled = [each for each in counter.every() if each.explained_by == "ada"]
    assert len(settled) == len(before) - 2 and all(each.journal_id for each in settled)


class Spoilt:
    """Payouts, each of which a statement, our books or our record tells otherwise than the two others."""

    def __init__(self, counter: Counter) -> None:
        self.double = counter.double
        assert isinstance(self.double, RazorpayxDouble)
        self.rows = self.double.transactions
        self.counter = counter
        counter.paid()
        self.missing, self.late, self.twice, self.amount, self.fee, self.both, self.back, self.books = (
            counter.paid() for _ in range(8)
        )
        self.rows.remove(self._row(self.missing))
        self.kept = self._row(self.late)
        self.rows.remove(self.kept)
        self.rows.append(self._row(self.twice) | {"id": "txn_twice"})
        self._tell(self.amount, UNITS - 7)
        self._tell(self.fee, UNITS, more=3)
        self._tell(self.both, UNITS + 5, more=-1)
        back = self._row(self.back)
        reversal = {"entity": "reversal", "id": "rvrsl_x", "payout_id": back["source"]["id"], "amount": UNITS}
        self.rows.append(back | {"id": "txn_back", "credit": back["debit"], "debit": 0, "source": reversal})
        self.gone = counter.out()
        self.double.fail(counter.reference(self.gone))
        counter.look(self.gone)
        assert counter.state(self.gone) is PayoutState.FAILED
        del self.rows[-1]  # what they gave back for it
        counter.book("suspense:payouts", counter.custody, 11, subject=f"payout:{self.books}")
        self.rows.append(
            self._row(self.fee) | {"id": "txn_strange", "source": {"entity": "payout", "id": "pout_other"}}
        )
        counter.book("house:payout_fees", counter.custody, 13)  # for no payout, and no line tells of it
        self.moved = 17
        counter.book("custody:bank:INR", counter.custody, self.moved)  # a top-up, turned around
        self.mended = {self.late, self.amount}

    def mend(self) -> None:
        self.rows.append(self.kept)
        self._tell(self.amount, UNITS)

    def _row(self, payout_id: UUID) -> dict[str, Any]:
        ref = self.counter.get(payout_id).provider_ref
        return next(row for row in self.rows if row["source"].get("id") == ref)

    def _tell(self, payout_id: UUID, units: int, *, more: int = 0) -> None:
        row = self._row(payout_id)
        row["source"] = row["source"] | {"amount": units}
        row["debit"] = row["amount"] = units + self.double.fee(units) + more


def test_a_line_moves_nothing_but_asks_for_a_look_once(counter: Counter) -> None:
    payout_id = counter.out()
    counter.later(seconds=5)
    for _ in range(2):
        assert counter.reconcile(work=False).waiting == {Waiting.UNDER_WAY: 1}
    assert counter.asked_to_look() == 1
    counter.double.pay(counter.reference(payout_id))
    assert (counter.state(payout_id), counter.kinds()) == (PayoutState.SUBMITTED, [])
    counter.work()
    assert counter.state(payout_id) is PayoutState.PAID
    assert counter.match().agreed == 1


def test_what_stays_under_way_for_too_long_is_a_break_until_it_ends(counter: Counter) -> None:
    payout_id = counter.out()
    counter.later(days=4)
    counter.reconcile()
    assert counter.kinds() == []
    counter.later(days=2)
    counter.reconcile()
    assert counter.kinds() == [STATE]
    counter.later(days=60)  # the line's time is long past, and the break is open
    counter.double.pay(counter.reference(payout_id))
    counter.look(payout_id)
    counter.match()
    assert counter.kinds() == []


def test_what_was_paid_beside_agrees_but_for_its_fee(counter: Counter) -> None:
    payout_id = counter.out()
    counter.double.fail(counter.reference(payout_id), Refusal.PROVIDER)
    counter.look(payout_id)
    with transaction() as session:
        service.cancel(session, payout_id, actor="person:ada", reason="it isn't wanted any more")
    counter.double.pay(counter.reference(payout_id))
    counter.look(payout_id)
    assert counter.kinds() == ["payout.paid_twice", "payout.sent_twice"]
    counter.later(seconds=5)
    counter.reconcile()
    assert counter.kinds() == ["payout.paid_twice", "payout.sent_twice", FEE]


@pytest.mark.parametrize("there", [True, False])
def test_one_that_took_longer_than_the_time_that_is_read_is_read_again(counter: Counter, *, there: bool) -> None:
    payout_id = counter.out()
    counter.later(days=10)
    counter.double.pay(counter.reference(payout_id))
    counter.look(payout_id)
    assert counter.state(payout_id) is PayoutState.PAID
    counter.later(days=3)
    if not there:
        assert isinstance(counter.double, RazorpayxDouble)
        counter.double.transactions.clear()
    outcome = counter.reconcile()
    assert outcome.waiting == {Waiting.NOT_COVERED: 1} and outcome.uncovered_since is not None
    now = clock.now()
    service.read_statement(counter.provider, outcome.uncovered_since - service.STATEMENT_MARGIN, now)
    outcome = counter.match()
    assert (outcome.waiting, outcome.uncovered_since) == ({}, None)
    assert counter.kinds() == ([] if there else [MISSING])


def test_what_a_person_explained_stays_explained_until_it_changes(counter: Counter) -> None:
    counter.paid()
    rows = counter.double.transactions  # type: ignore[attr-defined]
    rows[0]["debit"] += 3
    counter.later(seconds=5)
    counter.reconcile()
    first = counter.open()[0]
    with transaction() as session:
        breaks.assign(session, first.id, owner="bob")
        breaks.explain(session, first.id, actor="bob", explanation="rounded")
    counter.reconcile()
    assert counter.kinds() == []
    rows[0]["debit"] += 1
    counter.reconcile()
    assert [(each.kind, each.found) for each in counter.open()] == [(FEE, "594 iso4217:INR")]
    rows[0]["debit"] += 1
    assert counter.reconcile(work=False).waiting == {Waiting.ASKED: 1}
    assert counter.kinds() == [FEE]  # that it is asked again ends nothing


def test_a_break_is_settled_once(counter: Counter) -> None:
    counter.paid()
    counter.double.transactions[0]["debit"] += 3  # type: ignore[attr-defined]
    counter.later(seconds=5)
    counter.reconcile()
    (found,) = counter.open()

    def settle(units: int) -> str:
        try:
            with transaction() as session:
                service.settle_break(
                    session, found.id, service.Into.FEES, units=units, actor="person:ada", reason="their tax"
                )
        except ConflictError as error:
            return str(error)
        return "settled"

    assert "it is -3 units now" in settle(-4)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(settle, [-3] * 4))
    assert sorted(each == "settled" for each in said) == [False, False, False, True]
    assert counter.balance("house:payout_fees", counter.double.currency) == 590 + 3
    assert "settled" in counter.events(counter.payouts[0])
    assert counter.match().agreed == 1
    for _ in range(2):  # the same once more is another, though it says the same
        counter.book("suspense:payouts", counter.custody, 11, subject=f"payout:{counter.payouts[0]}")
        counter.match()
        assert counter.kinds() == [BOOKS]
        counter.settle(counter.open()[0])
        assert counter.match().agreed == 1


def test_a_withdrawn_line_counts_no_more_and_one_that_comes_back_does(counter: Counter) -> None:
    counter.paid()
    rows = counter.double.transactions  # type: ignore[attr-defined]
    counter.later(days=3)
    counter.reconcile()
    row = rows.pop()
    assert counter.read().withdrawn == 1
    counter.match()
    assert counter.kinds() == [MISSING]
    rows.append(row)
    assert counter.read().added == 1
    counter.match()
    assert counter.kinds() == []


def test_a_statement_that_was_read_too_early_proves_nothing(counter: Counter) -> None:
    counter.paid()
    counter.double.transactions.clear()  # type: ignore[attr-defined]
    counter.later(hours=2)
    counter.read()
    counter.later(days=3)
    assert (counter.match().waiting, counter.kinds()) == ({Waiting.NOT_COVERED: 1}, [])
    assert (counter.reconcile().waiting, counter.kinds()) == ({}, [MISSING])


def test_a_statement_that_breaks_off_proves_nothing(counter: Counter) -> None:
    counter.paid()
    counter.paid()
    counter.double.page_max = 1
    counter.later(days=3)
    counter.reconcile()
    asked = count()
    counter.double.upset(refusing(400, {}), when=lambda each: "transactions" in each.path and next(asked) == 1)
    with pytest.raises(PermanentError):
        counter.read()
    assert all(line.withdrawn_at is None for line in counter.lines())
    counter.match()
    assert counter.kinds() == []


def test_of_two_readings_at_a_time_neither_withdraws_what_the_other_has_just_kept(counter: Counter) -> None:
    """The later one has read its line before the earlier one has, and ends first."""
    counter.paid()
    now, (line,) = clock.now(), counter.provider.statement(clock.now() - WINDOW, clock.now() + timedelta(seconds=2))
    until = now + timedelta(seconds=2)
    with transaction() as session:
        earlier, later = (
            statements.begin(session, "razorpayx", now - WINDOW, until, source="provider", actor="payout").id
            for _ in range(2)
        )
    with transaction() as session:
        assert statements.keep(session, "razorpayx", later, [line]) == 1
        assert statements.keep(session, "razorpayx", earlier, [line]) == 0
        for each in (later, earlier):
            assert statements._withdraw(session, session.get_one(PayoutStatement, each)) == 0
