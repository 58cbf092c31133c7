"""The chart of accounts."""

import pytest

from core.errors import InvalidRequestError
from ledger import chart
from ledger.chart import Kind, Side


@pytest.mark.parametrize(
    ("code", "kind", "side", "floor"),
    [
        (chart.user_available("42"), Kind.LIABILITY, Side.CREDIT, 0),
        ("merchant:shop-1:available", Kind.LIABILITY, Side.CREDIT, 0),
        ("agent:0190f3c2-aaaa.b_c:available", Kind.LIABILITY, Side.CREDIT, 0),
        ("user:42:bonus", Kind.LIABILITY, Side.CREDIT, None),
        (chart.user_owed("42"), Kind.ASSET, Side.DEBIT, 0),
        (chart.custody("eip155:56"), Kind.ASSET, Side.DEBIT, None),
        (chart.deposit_suspense(), Kind.LIABILITY, Side.CREDIT, None),
        (chart.fees(), Kind.INCOME, Side.CREDIT, None),
    ],
)
def test_a_code_says_what_the_account_is(code: str, kind: Kind, side: Side, floor: int | None) -> None:
    made = chart.rule(code)
    assert (made.kind, made.normal_side, made.floor) == (kind, side, floor)


@pytest.mark.parametrize(
    "code",
    [
        "",
        ":",
        "user",
        "user:42",
        "user::available",
        "user:42:available:more",
        "user:42:available\n",
        "user:4 2:available",
        "user:é:available",
        "User:42:available",
        "player:42:available",
        "custody",
        "custody:eip155",
        "custody:eip155:1:hot",
        "house:fees:eth",
        "house:secret",
        "suspense",
        "user:-1:available",
        f"user:{'x' * 65}:available",
        "user:42:" + "x" * 300,
    ],
)
def test_a_code_that_the_chart_doesnt_know_is_refused(code: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        chart.rule(code)
    assert caught.value.field == "account"


@pytest.mark.parametrize("code", ["user:42:available", "merchant:m:available", "agent:7:commission"])
def test_what_we_owe_somebody_can_be_credited(code: str) -> None:
    assert chart.owner_account(code) == code


@pytest.mark.parametrize(
    "code", ["user:42:owed", "custody:eip155:1", "house:fees", "suspense:deposits", "user:42", "", "nobody:1:available"]
)
def test_nothing_else_can_be_credited(code: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"credited|account"):
        chart.owner_account(code)


def test_a_receivable_stands_beside_each_owners_account() -> None:
    assert chart.owed_by("agent:7:available") == "agent:7:owed"
    assert chart.owed_by(chart.user_available("1")) == chart.user_owed("1")
    with pytest.raises(InvalidRequestError):
        chart.owed_by("house:fees")
