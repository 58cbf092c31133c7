"""What is easily forgotten: money that nobody settles, looks of old payments, and refunds that nobody ends."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import event

from core import breaks, clock, db
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, OutcomeUnknownError, PermanentError
from domain.fiat_payment import service
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import PaymentState, RefundState
from ledger import balances
from providers.fiat.base import LineKind, Standing
from providers.fiat.base import RefundState as TheirState
from tests.integration.fiat_payment.desk import Desk, Rate
from tests.integration.fiat_payment.scripted import EUR
from tests.integration.fiat_payment.test_fiat_conversion import USDT, _quote
from tests.integration.fiat_payment.test_fiat_refunds import _ends, ask, carry_out, held
from tests.integration.fiat_payment.test_fiat_settlement import line, settle

HOUSE = "house"
S = PaymentState


@pytest.fixture
def paid(desk: Desk) -> UUID:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    return payment


# --- settlement ------------------------------------------------------------------------------------------------------


def test_a_payment_that_no_settlement_names_in_time_is_a_break_once(desk: Desk, paid: UUID) -> None:
    settle(desk)
    assert desk.breaks() == []
    desk.forward(settings().settled_after)
    for _ in range(2):
        settle(desk)
    assert desk.breaks() == [("fiat.unsettled", "10000 settled", "0")]
    with transaction() as session:
        [found] = breaks.page(session)
        assert found.times == 1
    desk.gateway.lines = [line(paid, 4_000), line(paid, 6_000)]
    settle(desk)
    assert desk.breaks() == []
    assert desk.breaks(state="explained") == [("fiat.unsettled", "10000 settled", "0")]


def test_a_payment_that_is_settled_in_part_is_a_break_too(desk: Desk, paid: UUID) -> None:
    desk.gateway.lines = [line(paid, 4_000)]
    settle(desk)
    desk.forward(settings().settled_after)
    settle(desk)
    assert desk.breaks() == [("fiat.unsettled", "10000 settled", "4000")]


def test_less_fee_than_was_told_is_a_break_when_all_of_it_is_settled(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, fee_units=290)
    desk.gateway.lines = [line(payment, 4_000, 100), line(payment, 6_000, 150)]
    for _ in range(2):
        assert settle(desk) == 0
    assert desk.breaks() == [("fiat.fee", "a fee of 290", "250")]
    assert desk.balance("gateway:acme") == -40


def test_what_is_of_no_payment_is_told_once(desk: Desk) -> None:
    lines = [line(None, -300, kind=LineKind.FEE), line(None, -500, kind=LineKind.ADJUSTMENT)]
    desk.gateway.lines = lines
    assert [settle(desk) for _ in range(3)] == [2, 0, 0]
    with transaction() as session:
        assert [(found.kind, found.times) for found in breaks.page(session)] == [("fiat.settlement", 1)] * 2


def test_what_is_of_no_payment_is_booked_once_in_the_books_of_the_house(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIAT_HOUSE_TENANT", HOUSE)
    settings.cache_clear()
    desk.gateway.lines = [line(None, -300, kind=LineKind.FEE), line(None, -500, kind=LineKind.ADJUSTMENT)]
    assert [settle(desk) for _ in range(3)] == [1, 0, 0]
    [(kind, expected, _)] = desk.breaks()  # the adjustment
    assert (kind, "in the books of house" in expected) == ("fiat.settlement", True)
    with transaction() as session:
        held_by = {
            code: balances.balance(session, HOUSE, code, EUR)
            for code in ("house:gateway_fees", "gateway:acme", "custody:bank:EUR")
        }
    assert held_by == {"house:gateway_fees": 300, "gateway:acme": 500, "custody:bank:EUR": -800}


def test_a_line_that_a_person_has_explained_is_not_told_again(desk: Desk) -> None:
    desk.gateway.lines = [line(None, 700, reference="nobody's")]
    assert settle(desk) == 1
    with transaction() as session:
        [found] = breaks.page(session)
        breaks.explain(session, found.id, actor="ann", explanation="of another shop of ours")
    assert [settle(desk) for _ in range(2)] == [0, 0]
    assert desk.breaks() == []


# --- looks -----------------------------------------------------------------------------------------------------------


def test_one_that_is_contested_is_asked_about_daily_however_old(desk: Desk, paid: UUID) -> None:
    desk.tell(paid, disputed_units=10_000)
    desk.forward(timedelta(days=200))
    service.poll()
    due = desk.payment(paid).next_look_at
    assert due is not None
    assert timedelta(hours=23) < due - clock.now() <= timedelta(days=1)


def test_a_refund_of_an_old_payment_is_followed_to_its_end(desk: Desk, paid: UUID) -> None:
    desk.forward(timedelta(days=200))
    desk.gateway.refund_state = TheirState.PENDING
    refund = ask(paid, 4_000)
    carry_out(desk, refund)
    for _ in range(3):
        service.poll()
        due = desk.payment(paid).next_look_at
        assert due is not None
        desk.forward(due - clock.now())
    _ends(desk, refund, TheirState.DONE)
    desk.gateway.tell(str(paid), refunded_units=4_000)
    desk.look(paid)
    assert (desk.refund_of(refund).state, desk.available()) == ("done", 6_000)


# --- refunds ---------------------------------------------------------------------------------------------------------


def test_a_hold_goes_though_one_answer_tells_that_an_earlier_refund_failed_too(desk: Desk, paid: UUID) -> None:
    carry_out(desk, ask(paid, 3_000))
    second = ask(paid, 2_000)
    desk.gateway.refund_state = TheirState.PENDING
    carry_out(desk, second)
    assert held() == 2_000
    _ends(desk, second, TheirState.DONE)
    desk.gateway.tell(str(paid), refunded_units=2_000)  # the first 3,000 came back
    desk.look(paid)
    assert (desk.available(), held()) == (8_000, 0)


@pytest.fixture
def lost(desk: Desk, paid: UUID) -> UUID:
    desk.gateway.refund_answers, desk.gateway.makes_unknown = [Standing.UNKNOWN], False
    refund = ask(paid, 4_000)
    with pytest.raises(OutcomeUnknownError):
        carry_out(desk, refund)
    return refund


def end(refund: UUID, *, was_made: bool, actor: str = "ann", reason: str = "asked them on the phone") -> None:
    with transaction() as session:
        service.end_refund(session, refund, was_made=was_made, actor=actor, reason=reason)


def test_a_refund_that_a_person_says_was_never_made_gives_its_money_back(desk: Desk, paid: UUID, lost: UUID) -> None:
    with pytest.raises(InvalidRequestError):
        end(lost, was_made=False, reason=" ")
    end(lost, was_made=False)
    assert (desk.refund_of(lost).current, desk.available(), held()) == (RefundState.FAILED, 10_000, 0)
    assert desk.events(paid)[-1] == "refund_ended"
    carry_out(desk, lost)  # its job, replayed
    assert desk.gateway.refunds == {}
    with pytest.raises(ConflictError):
        end(lost, was_made=True)


def test_a_refund_that_a_person_says_was_made_stays_held_until_the_totals_have_it(
    desk: Desk, paid: UUID, lost: UUID
) -> None:
    end(lost, was_made=True)
    due = desk.payment(paid).next_look_at
    assert due is not None
    assert due <= clock.now()
    desk.look(paid)
    assert (desk.refund_of(lost).current, held()) == (RefundState.DONE, 4_000)
    desk.gateway.tell(str(paid), refunded_units=4_000)
    desk.look(paid)
    assert (desk.available(), held(), desk.gateway.refunds) == (6_000, 0, {})


def test_only_a_refund_of_unknown_outcome_is_a_person_s_to_end(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_state = TheirState.PENDING
    refund = ask(paid, 4_000)
    for state in ("requested", "pending"):
        with pytest.raises(ConflictError, match=state):
            end(refund, was_made=False)
        carry_out(desk, refund)


def test_a_refund_is_locked_only_after_its_payment(desk: Desk, paid: UUID) -> None:
    """And accounts after both: then nobody waits for another in a circle."""
    locked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "ledger_" in statement and "INSERT" not in statement:
            locked.append("ledger")  # a function of it, which locks what it posts to
        elif "FOR UPDATE" in statement:
            locked.append(next(name for name in ("fiat_refunds", "fiat_payments", "else") if name in statement))

    def begun(_connection: object) -> None:
        locked.append("begin")

    desk.gateway.refund_answers = [Standing.UNKNOWN]
    event.listen(db.engine(), "before_cursor_execute", note)
    event.listen(db.engine(), "begin", begun)
    try:
        refund = ask(paid, 4_000)
        with pytest.raises(OutcomeUnknownError):
            carry_out(desk, refund)
        desk.gateway.refund_state = TheirState.PENDING
        carry_out(desk, refund)
        _ends(desk, refund, TheirState.DONE)
        desk.gateway.tell(str(paid), refunded_units=4_000)
        desk.look(paid)
    finally:
        event.remove(db.engine(), "before_cursor_execute", note)
        event.remove(db.engine(), "begin", begun)
    assert desk.refund_of(refund).state == "done"
    spans = [span.split() for span in " ".join(locked).split("begin")]
    with_refund = [span for span in spans if "fiat_refunds" in span]
    assert len(with_refund) >= 4
    for span in with_refund:
        assert span[0] == "fiat_payments", span
        assert "ledger" not in span[: span.index("fiat_refunds")], span
    assert any("ledger" in span for span in with_refund)


# --- amounts ---------------------------------------------------------------------------------------------------------


def test_more_taken_back_than_was_paid_is_a_break_until_it_is_less(desk: Desk, paid: UUID) -> None:
    desk.tell(paid, refunded_units=10_000)
    assert desk.breaks() == []
    for _ in range(2):
        desk.tell(paid, charged_back_units=10_000)
    assert desk.breaks() == [("fiat.excess", "at most 10000 taken back", "20000")]
    assert (desk.available(), desk.balance("gateway:acme")) == (0, 0)
    desk.tell(paid, charged_back_units=0)
    assert desk.breaks() == []


def test_an_amount_below_zero_is_no_amount(desk: Desk, paid: UUID) -> None:
    with pytest.raises(PermanentError, match="below zero"):
        desk.tell(paid, refunded_units=-1)


def test_a_quote_is_promised_for_minutes_and_to_whoever_pays_late_only_if_it_costs_us_nothing(desk: Desk) -> None:
    desk.rate = Rate(11_000, 1)
    with pytest.raises(InvalidRequestError, match="at a quote"):
        desk.ordered(10_000, quote_id=_quote(desk), expires_in=timedelta(hours=1))
    in_time, late, lucky = (desk.ordered(10_000, quote_id=_quote(desk)) for _ in range(3))
    payment = desk.payment(in_time)
    assert payment.expires_at - payment.created_at == timedelta(minutes=15)
    desk.rate = Rate(10_995, 1)  # against us, and far within the slippage
    desk.pay(in_time)
    desk.forward(timedelta(minutes=16))
    desk.pay(late)
    desk.rate = Rate(11_005, 1)
    desk.pay(lucky)
    assert [(desk.state(one), desk.payment(one).hold_reason) for one in (in_time, late, lucky)] == [
        (S.CREDITED, None),
        (S.PAID, "slippage"),
        (S.CREDITED, None),
    ]
    assert desk.available(USDT) == 2 * desk.payment(in_time).credited_out
