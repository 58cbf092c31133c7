"""Payments that are credited in another asset: at a quote, or at the rate of the moment."""

from datetime import timedelta
from fractions import Fraction
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from core.db import transaction
from core.errors import ConflictError, InvalidRequestError
from domain.fiat_payment import queries, service
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import HoldReason, PaymentState
from tests.integration.fiat_payment.desk import OWED, USER, Desk, Quote, Rate, spend
from tests.integration.fiat_payment.scripted import EUR, USD

S = PaymentState
USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
"""Of scale 6: 1.10 of it for a euro is 11,000 units for a cent."""


@pytest.fixture
def rated(desk: Desk) -> Desk:
    desk.rate = Rate(11_000, 1)
    return desk


def _nothing_lost(desk: Desk) -> None:
    """The clearing account's two sides stand at the rate, to within half a cent a conversion."""
    euros, tethers = desk.balance("clearing:fx"), desk.balance("clearing:fx", USDT)
    assert abs(euros * 11_000 + tethers) <= 11_000


def test_at_the_rate_of_the_moment_with_fee_and_spread_in_one_journal(
    rated: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIAT_FEE_BPS", "100")
    settings.cache_clear()
    rated.spread_bps = 50
    payment = rated.ordered(10_000, credit_asset=USDT)
    rated.pay(payment)
    net = (10_000 - 100) * 9_950 // 10_000
    assert rated.available(USDT) == net * 11_000
    assert rated.balance("house:fees") == 10_000 - net
    assert rated.balance("clearing:fx") == net
    with transaction() as session:
        found = session.execute(
            text("SELECT count(*), min(metadata->>'rate') FROM ledger_journals WHERE category = 'fiat_payment.credit'")
        ).one()
    assert tuple(found) == (1, "1.1")


@pytest.mark.parametrize("steps", [(1, 2, 9_999), (10_000,), (3_333, 6_666, 9_999, 10_000)])
def test_a_refund_takes_the_same_share_of_everything_back(
    rated: Desk, steps: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIAT_FEE_BPS", "77")
    settings.cache_clear()
    rated.spread_bps, rated.rate = 33, Rate(10_987, 13)
    payment = rated.ordered(10_000, credit_asset=USDT)
    rated.pay(payment)
    for refunded in steps:
        rated.tell(payment, refunded_units=refunded)
        assert rated.balance("gateway:acme") == 10_000 - refunded
    if steps[-1] == 10_000:
        for code in (USER, "house:fees", "house:rounding", "clearing:fx"):
            assert (rated.balance(code), rated.balance(code, USDT)) == (0, 0), code


def test_without_a_rate_it_waits_paid_and_goes_on_by_itself(desk: Desk) -> None:
    payment = desk.ordered(10_000, credit_asset=USDT)
    desk.pay(payment)
    assert (desk.state(payment), desk.payment(payment).waits_for) == (S.PAID, "rate")
    assert (desk.balance("suspense:payments"), desk.available(USDT)) == (10_000, 0)
    service.poll()
    assert desk.state(payment) is S.PAID
    desk.rate = Rate(11_000, 1)
    service.poll()
    assert (desk.state(payment), desk.payment(payment).waits_for) == (S.CREDITED, None)
    assert (desk.balance("suspense:payments"), desk.available(USDT)) == (0, 110_000_000)
    assert desk.events(payment) == ["created", "order", "pay", "waits", "credit"]


def test_what_nobody_can_convert_is_recorded_and_waits(rated: Desk) -> None:
    """Such as after an asset was taken out of the registry."""

    def gone(*_: object) -> Rate:
        raise InvalidRequestError("the asset is not in the registry", field="currency")

    service.use_rates(gone)
    payment = rated.ordered(10_000, credit_asset=USDT)
    with capture_logs() as logs:
        rated.pay(payment)
    assert {line["event"] for line in logs if line["log_level"] == "error"} == {"fiat_payment.no_conversion"}
    assert (rated.state(payment), rated.payment(payment).paid_units, rated.payment(payment).waits_for) == (
        S.PAID,
        10_000,
        "rate",
    )
    service.poll()
    assert rated.state(payment) is S.PAID
    service.use_rates(lambda *_: Rate(11_000, 1))
    service.poll()
    assert (rated.state(payment), rated.available(USDT)) == (S.CREDITED, 110_000_000)


def test_one_that_can_t_be_credited_keeps_no_other_waiting(desk: Desk) -> None:
    first, second = (desk.ordered(10_000, credit_asset=USDT) for _ in range(2))
    desk.pay(first)
    desk.pay(second)
    with transaction() as session:
        broken = queries.lock(session, first)
        assert broken is not None
        broken.quote_id = uuid4()  # and nothing of what it promises
    desk.rate = Rate(11_000, 1)
    with capture_logs() as logs:
        service.poll()
    assert (desk.state(first), desk.state(second)) == (S.PAID, S.CREDITED)
    assert [line["payment_id"] for line in logs if line["event"] == "fiat_payment.not_credited"] == [str(first)]


def test_what_is_refunded_while_it_waits_is_never_credited(desk: Desk) -> None:
    payment = desk.ordered(10_000, credit_asset=USDT)
    desk.pay(payment)
    desk.tell(payment, refunded_units=10_000)
    desk.rate = Rate(11_000, 1)
    service.poll()
    assert (desk.state(payment), desk.available(USDT), desk.payment(payment).waits_for) == (S.REFUNDED, 0, None)


def _quote(desk: Desk, units: int = 10_000, asset: str = USDT) -> UUID:
    """0.5 % spread, and an odd remainder."""
    quote = Quote(
        id=uuid4(),
        from_asset=EUR,
        to_asset=asset,
        units_in=units,
        units_out=109_444_999,
        spread_units=50,
        remainder=0,
        spread_bps=50,
        rate=Fraction(11, 10),
    )
    desk.quotes[quote.id] = quote
    return quote.id


def test_a_quote_is_kept_to_the_unit(rated: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAT_FEE_BPS", "100")  # a quote's spread is the whole price
    settings.cache_clear()
    payment = rated.ordered(10_000, quote_id=_quote(rated))
    assert rated.payment(payment).credit_asset == USDT
    rated.rate = Rate(10_999, 1)
    rated.pay(payment)
    assert (rated.available(USDT), rated.balance("house:fees"), rated.balance("clearing:fx")) == (
        109_444_999,
        50,
        9_950,
    )
    _nothing_lost(rated)


@pytest.mark.parametrize("at_moment", [False, True])
def test_a_market_that_moved_against_us_waits_for_a_person(rated: Desk, at_moment: bool) -> None:
    payment = rated.ordered(10_000, quote_id=_quote(rated))
    rated.rate = Rate(10_889, 1)  # more than 1 % less for a euro
    rated.pay(payment)
    assert (rated.state(payment), rated.payment(payment).held_for) == (S.PAID, HoldReason.SLIPPAGE)
    assert rated.breaks() == []
    rated.release(payment, at_moment=at_moment)
    assert rated.available(USDT) == (10_000 * 9_950 // 10_000 * 10_889 if at_moment else 109_444_999)


def test_a_market_that_moved_for_us_or_a_little_is_the_quote_s(rated: Desk) -> None:
    for rate in (10_891, 20_000):
        payment = rated.ordered(10_000, quote_id=_quote(rated))
        rated.rate = Rate(rate, 1)
        rated.pay(payment)
        assert rated.state(payment) is S.CREDITED


def test_another_amount_than_the_quote_s_goes_by_the_rate_of_the_moment(rated: Desk) -> None:
    payment = rated.ordered(10_000, quote_id=_quote(rated))
    rated.pay(payment, 5_000)
    rated.release(payment)
    assert rated.available(USDT) == 5_000 * 9_950 // 10_000 * 11_000


@pytest.mark.parametrize("asked", [{"units": 9_999}, {"currency": USD}, {"credit_asset": "eip155:1/slip44:60"}])
def test_a_quote_of_something_else_is_refused(rated: Desk, asked: dict[str, object]) -> None:
    with pytest.raises(ConflictError, match="quote"):
        rated.create(**{"units": 10_000, "quote_id": _quote(rated), **asked})  # type: ignore[arg-type]


def test_too_little_to_convert_is_held(rated: Desk) -> None:
    rated.rate = Rate(1, 10**9)
    payment = rated.ordered(10_000, credit_asset=USDT)
    rated.pay(payment)
    assert (rated.state(payment), rated.payment(payment).held_for) == (S.PAID, HoldReason.TOO_SMALL)


def test_what_was_converted_and_spent_is_owed_in_what_was_credited(rated: Desk) -> None:
    payment = rated.ordered(10_000, credit_asset=USDT)
    rated.pay(payment)
    spend(100_000_000, USDT)
    rated.tell(payment, charged_back_units=5_000)
    assert (rated.available(USDT), rated.balance(OWED, USDT), rated.balance("gateway:acme")) == (0, 45_000_000, 5_000)
    rated.forward(timedelta(days=2))
    rated.tell(payment, charged_back_units=0)
    assert (rated.available(USDT), rated.balance(OWED, USDT)) == (10_000_000, 0)
    _nothing_lost(rated)
