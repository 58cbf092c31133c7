"""Conversions in the books: whole, once, and with a gain that can be read."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from core.db import transaction
from core.errors import InvalidRequestError
from ledger import balances, chart, conversions
from ledger.conversions import Line, Rate, Rounding, convert, convert_to, position, result, scales
from ledger.errors import InsufficientFundsError, ReferenceReusedError
from ledger.journals import journal as read
from ledger.posting import Posted, Posting, post
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, EUR, USDT

INR, BANK = "iso4217:INR", "custody:bank:1"
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def rate(value: str, base: str = USDT, quote: str = INR) -> Rate:
    return Rate(base, quote, Decimal(value), "desk", AT)


@pytest.fixture
def desk(books: str) -> str:
    """Alice has 1,000 USDT, Bob a million rupees, and Alice an ether with a wei to spare."""
    b.book(
        books,
        "start",
        b.move(CUSTODY, ALICE, 1_000_000_000, USDT),
        b.move(BANK, BOB, 100_000_000, INR),
        b.move(CUSTODY, ALICE, 10**18 + 1, ETH),
    )
    return books


def exchange(  # noqa: PLR0917  # short words
    tenant: str, reference: str, who: str, pair: Rate, units: int, rounding: Rounding = Rounding.DOWN, **more: Any
) -> Posted:
    with transaction() as session:
        known = scales(session, pair.base, pair.quote)
        way = convert_to if more.pop("bought", False) else convert
        converted = way(units, pair, known[pair.base], known[pair.quote], rounding)
        made = conversions.journal(
            tenant=tenant,
            reference=reference,
            source=who,
            destination=who,
            rate=pair,
            converted=converted,
            rounding=rounding,
            **more,
        )
        return post(session, made)


def has(session: Session, tenant: str, code: str, asset: str) -> int:
    return balances.balance(session, tenant, code, asset)


def test_bought_at_80_and_sold_at_85_is_a_gain_read_exactly(desk: str) -> None:
    """We buy 100 USDT for 8,000 INR and sell 60 for 5,100: 300 INR are gained, 200 more if 40 USDT are worth 85."""
    exchange(desk, "buy", ALICE, rate("80"), 100_000_000)
    with transaction() as session:
        assert position(session, desk) == {USDT: 100_000_000, INR: -800_000}
        assert result(session, desk, quote=INR, rates={USDT: rate("80")}).total == 0
        assert result(session, desk, quote=INR, rates={USDT: rate("85")}).total == 50_000

    exchange(desk, "sell", BOB, rate("85").inverse(), 60_000_000, Rounding.UP, bought=True)
    with transaction() as session:
        assert position(session, desk) == {USDT: 40_000_000, INR: -290_000}
        found = result(session, desk, quote=INR, rates={USDT: rate("85")})
        assert found.lines == (Line(USDT, 40_000_000, rate("85"), 340_000), Line(INR, -290_000, None, -290_000))
        assert (found.total, found.quote, found.rounding) == (50_000, INR, Rounding.DOWN)

    exchange(desk, "sell the rest", BOB, rate("85").inverse(), 40_000_000, Rounding.UP, bought=True)
    with transaction() as session:
        assert position(session, desk) == {USDT: 0, INR: 50_000}
        # All is realised: no rate is needed any more.
        assert result(session, desk, quote=INR, rates={}).total == 50_000
    b.assert_sound()


def test_a_loss_is_never_rounded_away(desk: str) -> None:
    """The 100 USDT that cost 8,000 INR are worth 7,999.995: down is the loss of a whole paisa."""
    exchange(desk, "buy", ALICE, rate("80"), 100_000_000)
    with transaction() as session:
        held = position(session, desk)
        assert held[USDT] * Fraction("79.99995") / 10**4 + held[INR] == Fraction(-1, 2)
        totals = {
            rounding: result(session, desk, quote=INR, rates={USDT: rate("79.99995")}, rounding=rounding).total
            for rounding in Rounding
        }
    assert totals == {Rounding.DOWN: -1, Rounding.UP: 0, Rounding.HALF_EVEN: 0}


def test_the_remainder_is_income_and_nobody_loses_a_wei(desk: str) -> None:
    exchange(desk, "down", ALICE, rate("2000.00", ETH, EUR), 10**18 + 1)
    with transaction() as session:
        assert has(session, desk, ALICE, ETH) == 0
        assert has(session, desk, ALICE, EUR) == 200_000
        assert has(session, desk, chart.rounding(), ETH) == 1
        assert position(session, desk) == {ETH: 10**18, EUR: -200_000}
        found = read(session, desk, reference="down")
    assert found is not None
    assert found.category == "conversion"
    assert found.metadata == {
        "rate": "2000",
        "rate_base": ETH,
        "rate_quote": EUR,
        "rate_source": "desk",
        "rate_at": "2026-01-31T12:00:00+00:00",
        "rounding": "down",
        "remainder": "1",
    }
    b.assert_sound()


def test_rounding_up_is_paid_by_the_house(desk: str) -> None:
    exchange(desk, "up", ALICE, rate("2000.00", ETH, EUR), 10**18 + 1, Rounding.UP)
    with transaction() as session:
        assert has(session, desk, ALICE, EUR) == 200_001
        assert has(session, desk, chart.rounding(), ETH) == 1 - 5 * 10**12
        assert position(session, desk) == {ETH: 200_001 * 5 * 10**12, EUR: -200_001}
    b.assert_sound()


def test_a_fee_is_part_of_the_same_journal(desk: str) -> None:
    fee = Posting(source=ALICE, destination=chart.fees(), asset=INR, units=4_000)
    exchange(desk, "with fee", ALICE, rate("80"), 100_000_000, fees=[fee], subject="quote:1")
    with transaction() as session:
        assert has(session, desk, ALICE, INR) == 796_000
        assert has(session, desk, chart.fees(), INR) == 4_000
        assert position(session, desk) == {USDT: 100_000_000, INR: -800_000}


def test_a_conversion_is_booked_once(desk: str) -> None:
    first = exchange(desk, "one", ALICE, rate("80"), 100_000_000)
    again = exchange(desk, "one", ALICE, rate("80"), 100_000_000)
    assert (again.id, again.created) == (first.id, False)
    with pytest.raises(ReferenceReusedError):
        exchange(desk, "one", ALICE, rate("81"), 100_000_000)
    with transaction() as session:
        assert position(session, desk) == {USDT: 100_000_000, INR: -800_000}


def test_who_has_too_little_converts_nothing(desk: str) -> None:
    with pytest.raises(InsufficientFundsError):
        exchange(desk, "much", ALICE, rate("2000", ETH, EUR), 10**18 + 2)
    with transaction() as session:
        assert position(session, desk) == {}
        assert has(session, desk, ALICE, ETH) == 10**18 + 1


def test_a_result_needs_each_rate_and_of_the_right_assets(desk: str) -> None:
    exchange(desk, "buy", ALICE, rate("80"), 100_000_000)
    with transaction() as session:
        with pytest.raises(InvalidRequestError, match=f"no rate from {USDT} into {INR}"):
            result(session, desk, quote=INR, rates={})
        with pytest.raises(InvalidRequestError, match="not into"):
            result(session, desk, quote=INR, rates={USDT: rate("80").inverse()})
        with pytest.raises(InvalidRequestError, match="unknown"):
            result(session, desk, quote="iso4217:XXX", rates={})
        with pytest.raises(InvalidRequestError, match="unknown"):
            scales(session, USDT, "iso4217:XXX")
        assert result(session, b.new_tenant(), quote=INR, rates={}).lines == ()


@settings(
    max_examples=12,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    deals=st.lists(
        st.tuples(
            st.integers(1, 10**9),
            st.decimals("0.01", "9999", places=4),
            st.sampled_from(Rounding),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    ),
    one_rate=st.booleans(),
)
def test_whatever_is_converted_the_position_is_what_was_taken_and_given(
    desk: str, deals: list[tuple[int, Decimal, Rounding, bool, bool]], one_rate: bool
) -> None:
    """The clearing account and the rounding account hold all that the customers gave, less what they got."""
    tenant = b.new_tenant()
    b.book(tenant, "start", b.move(CUSTODY, ALICE, 10**30, USDT), b.move(BANK, ALICE, 10**30, INR))
    drift = Fraction(0)
    for number, (units, value, rounding, back, bought) in enumerate(deals):
        pair = replace(rate("1"), value=deals[0][1] if one_rate else value)
        pair = pair.inverse() if back else pair
        try:
            exchange(tenant, f"{number}", ALICE, pair, units, rounding, bought=bought)
        except InvalidRequestError as error:
            if "too small" not in str(error):
                raise
            continue
        # Half a smallest unit of what went in.
        drift += Fraction(1, 2) * (1 if pair.base == USDT else pair.fraction * 10**4)
    with transaction() as session:
        for asset in (USDT, INR):
            ours = has(session, tenant, chart.fx_clearing(), asset) + has(session, tenant, chart.rounding(), asset)
            assert ours == 10**30 - has(session, tenant, ALICE, asset)
        held = position(session, tenant)
        assert set(held) <= {USDT, INR}
    if one_rate:
        # At one rate throughout nothing is gained or lost, but for what could not be split.
        at = Fraction(deals[0][1])
        assert abs(held.get(USDT, 0) + held.get(INR, 0) / at * 10**4) <= drift
    b.assert_sound()
