"""Amounts that providers write as decimals: exact both ways, or refused."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import OutcomeUnknownError, PermanentError, TransientError
from providers.fiat import decimals
from providers.fiat.base import Standing
from providers.fiat.decimals import UnreadableError

CURRENCIES = {"iso4217:NGN": 2, "iso4217:JPY": 0, "iso4217:KWD": 3}


@pytest.mark.parametrize(
    ("written", "currency", "units"),
    [
        (1500, "iso4217:NGN", 150_000),
        ("1500", "iso4217:NGN", 150_000),
        ("6.03", "iso4217:NGN", 603),
        ("15.00000000", "iso4217:NGN", 1_500),
        ("1.5E+2", "iso4217:NGN", 15_000),
        ("90071992547409.93", "iso4217:NGN", 9_007_199_254_740_993),
        ("-20.10", "iso4217:NGN", -2_010),
        (0, "iso4217:NGN", 0),
        ("1000.00", "iso4217:JPY", 1_000),
        ("1.234", "iso4217:KWD", 1_234),
    ],
)
def test_an_amount_is_read_exactly(written: object, currency: str, units: int) -> None:
    assert decimals.units(written, currency) == units


@pytest.mark.parametrize(
    "written",
    [
        "12.345",
        "1e-3",
        "",
        " 1",
        "1,50",
        "0x10",
        "NaN",
        "Infinity",
        "1e999",
        "+1",
        ".5",
        "1.",
        "\u0661",
        None,
        True,
        1.5,
        [],
    ],
)
def test_what_is_no_amount_is_refused(written: object) -> None:
    with pytest.raises(UnreadableError):
        decimals.units(written, "iso4217:NGN")


def test_an_amount_beyond_all_is_refused() -> None:
    assert decimals.units(10**16, "iso4217:NGN") == 10**18
    with pytest.raises(UnreadableError):
        decimals.units(10**16 + 1, "iso4217:NGN")


def test_a_currency_without_a_scale_is_refused() -> None:
    assert decimals.currency_of("ngn") == "iso4217:NGN"
    for code in ("XXX", "US", "USDT", 840, None):
        with pytest.raises(UnreadableError):
            decimals.currency_of(code)


def test_a_price_is_not_negative() -> None:
    assert decimals.price("0.00", "iso4217:NGN") == 0
    with pytest.raises(UnreadableError):
        decimals.price("-0.01", "iso4217:NGN")


@given(units=st.integers(-(10**18), 10**18), currency=st.sampled_from(sorted(CURRENCIES)))
def test_what_is_written_is_read_again(units: int, currency: str) -> None:
    written = decimals.dumps(decimals.amount(units, currency))
    places = len(written.partition(".")[2])
    assert places == CURRENCIES[currency]
    assert decimals.units(json.loads(written, parse_float=str), currency) == units


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_all_else_is_written_as_json_does(value: Any) -> None:
    assert json.loads(decimals.dumps(value)) == value


def test_a_figure_stands_among_texts_that_look_like_it() -> None:
    text = decimals.dumps({"amount": Decimal("0.10"), "note": '0.10","amount":9'})
    assert text == '{"amount":0.10,"note":"0.10\\",\\"amount\\":9"}'


@pytest.mark.parametrize(
    ("error", "standing"),
    [
        (TransientError("away"), Standing.NOT_SENT),
        (UnreadableError("odd"), Standing.UNKNOWN),
        (PermanentError("refused"), Standing.REJECTED),
    ],
)
def test_a_look_up_that_fails_sends_nothing(error: Exception, standing: Standing) -> None:
    """An order that is there and can't be read is no reason to make another."""

    def ask() -> None:
        raise error

    outcome = decimals.before(ask)
    assert isinstance(outcome, decimals.Outcome)
    assert (outcome.standing, outcome.why) == (standing, str(error))


@pytest.mark.parametrize(
    ("error", "standing"),
    [
        (TransientError("away"), Standing.NOT_SENT),
        (OutcomeUnknownError("silence"), Standing.UNKNOWN),
        (PermanentError("no address"), Standing.REJECTED),
    ],
)
def test_a_call_that_fails_proves_what_its_error_says(error: Exception, standing: Standing) -> None:
    def send() -> Any:
        raise error

    assert decimals.attempt(send, lambda _: ()).standing is standing


def test_a_time_without_a_zone_is_utc() -> None:
    assert decimals.moment("2020-01-24T09:18:37.366Z") == decimals.moment("2020-01-24T09:18:37.366")
    for odd in ("yesterday", "", None, 17):
        with pytest.raises(UnreadableError):
            decimals.moment(odd)
