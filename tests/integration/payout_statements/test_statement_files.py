"""Statements that a person brings, and how the command line tells what differs."""

import csv
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from core import breaks, clock
from core.db import transaction
from core.errors import InvalidRequestError
from domain.payout.statement_file import parsed
from domain.payout.statement_models import PayoutStatement, PayoutStatementLine
from tests.integration.cli.conftest import Cli
from tests.integration.payout_statements.counter import UNITS, Counter

INTEGERS = ["line", "kind", "reference", "provider_ref", "currency", "units", "fee_units", "booked_at"]
DECIMALS = ["booked_at", "line", "kind", "reference", "provider_ref", "currency", "amount", "fee"]
GOOD = {
    "line": "t-1",
    "kind": "payout",
    "reference": "",
    "provider_ref": "pout_1",
    "currency": "iso4217:INR",
    "units": "-1012",
    "fee_units": "12",
    "amount": "-10.12",
    "fee": "0.12",
    "booked_at": "2026-07-31T12:00:00+05:30",
}


def written(path: Path, rows: Iterable[dict[str, str]], columns: list[str] = INTEGERS) -> Path:
    with path.open("w", newline="") as file:
        made = csv.DictWriter(file, columns, extrasaction="ignore")
        made.writeheader()
        made.writerows(rows)
    return path


def row(counter: Counter, payout_id: Any, **changed: str) -> dict[str, str]:
    """What a dashboard's file has of a payout that was paid."""
    fee = counter.double.fee(UNITS)
    return {
        "line": f"line-{counter.reference(payout_id)[:13]}",
        "kind": "payout",
        "reference": counter.reference(payout_id),
        "provider_ref": "",
        "currency": counter.double.currency,
        "units": str(-UNITS - fee),
        "fee_units": str(fee),
        "booked_at": (clock.now() - timedelta(minutes=1)).isoformat(),
        **changed,
    }


@pytest.mark.parametrize(("columns", "units"), [(INTEGERS, "-1012"), (DECIMALS, "-1012")])
def test_both_ways_to_write_amounts_come_to_the_same(tmp_path: Path, columns: list[str], units: str) -> None:
    (line,) = parsed(written(tmp_path / "a.csv", [GOOD], columns).read_bytes()).lines.values()
    assert (str(line.units), line.fee_units, line.reference, line.provider_ref) == (units, 12, None, "pout_1")
    assert line.booked_at == datetime(2026, 7, 31, 6, 30, tzinfo=UTC)


@settings(max_examples=40)
@given(units=st.integers(-(10**30), 10**30), asset=st.sampled_from(["iso4217:INR", "iso4217:JPY"]))
def test_decimal_amounts_are_exact_or_refused(units: int, asset: str) -> None:
    scale = 0 if asset == "iso4217:JPY" else 2
    whole, part = divmod(abs(units), 10**scale)
    text = f"{'-' if units < 0 else ''}{whole}" + (f".{part:02}" if scale else "")
    told = {**GOOD, "currency": asset, "amount": text, "fee": "0"}
    content = ",".join(DECIMALS) + "\n" + ",".join(told[name] for name in DECIMALS) + "\n"
    (line,) = parsed(content.encode()).lines.values()
    assert line.units == units
    finer = content.replace(f",{text},", f",{text}{'' if scale else '.'}01,")
    with pytest.raises(InvalidRequestError, match=r"line 2: amount .* has more than the"):
        parsed(finer.encode())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"units": "-10.12"}, "line 3: units is an integer"),
        ({"units": "1e3"}, "line 3: units is an integer"),
        ({"units": ""}, "line 3: units is an integer"),
        ({"kind": "refund"}, "line 3: kind is one of"),
        ({"currency": "INR"}, "line 3: there is no asset 'INR'"),
        ({"booked_at": "2026-07-31T12:00:00"}, "line 3: .* has no time zone"),
        ({"booked_at": "31/07/2026"}, "line 3: booked_at is a time"),
        ({"line": ""}, "line 3: line is empty"),
        ({"line": "t-1"}, "line 3: 't-1' stands in line 2 already"),
        ({"reference": "\x07"}, "line 3: reference has at most"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, change: dict[str, str], said: str) -> None:
    path = written(tmp_path / "a.csv", [GOOD, {**GOOD, "line": "t-2", **change}])
    with pytest.raises(InvalidRequestError, match=said):
        parsed(path.read_bytes())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: the columns are"),
        (b"line,kind\n", "line 1: the columns are"),
        (",".join([*INTEGERS, "amount", "fee"]).encode() + b"\n", "line 1: the columns are"),
        (",".join([*INTEGERS, "note"]).encode() + b"\n", "line 1: the columns are"),
        (",".join(INTEGERS).encode() + b"\n", "the file has no lines"),
        (",".join(INTEGERS).encode() + b"\nt-1,payout\n", "line 2: it has not as many fields"),
        (",".join(INTEGERS).encode() + b"\n1,2,3,4,5,6,7,8,9\n", "line 2: it has not as many fields"),
        (",".join(INTEGERS).encode() + b'\n"t-1,payout\n', "line 2: unexpected end"),
        (",".join(INTEGERS).encode() + b"\n\xff\n", "line 2: it is not UTF-8"),
    ],
)
def test_a_bad_file_is_told(content: bytes, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        parsed(content)


def test_a_file_is_kept_whole_or_not_at_all_and_once(counter: Counter, cli: Cli, tmp_path: Path) -> None:
    paid = [counter.paid(), counter.paid()]
    rows = [row(counter, payout_id) for payout_id in paid]
    path = written(tmp_path / "july.csv", rows)
    ask = ("reconcile", "payouts", "--import", path, "--provider", "razorpayx")
    assert "No statement has lines of this time" in cli("reconcile", "payouts").stdout
    assert "2 lines of razorpayx, 2 of them new" in cli(*ask).stderr
    assert counter.lines() == []
    cli(*ask, "--commit", "--actor", "bob")
    assert [(line.state, line.payout_id) for line in counter.lines()] == [("matched", each) for each in paid]
    again = cli(*ask, "--commit").stderr
    assert "person:bob brought the same file" in again and "0 of them new" in again
    counter.later(seconds=1)
    assert counter.read().withdrawn == 0  # what the provider tells over the network says nothing of files
    counter.later(days=10)
    other = written(tmp_path / "other.csv", [row(counter, paid[0], line="new"), rows[1] | {"units": "-1"}])
    said = cli(*ask[:3], other, *ask[4:], "--commit", status=1).stderr
    assert "line 3: " in said and f"is known with units {-UNITS - 590}, not -1" in said
    assert len(counter.lines()) == 2 + 2
    with transaction() as session:
        assert session.scalars(select(PayoutStatement.actor)).all() == ["person:bob", "person:ada", "payout"]
        assert set(session.scalars(select(PayoutStatementLine.withdrawn_at))) == {None}
    cli(*ask[:-1], "nobody", "--commit", status=1)
    cli(*ask, "--until", "2099-01-01", "--commit", status=1)


def test_what_differs_is_told_and_settled(counter: Counter, cli: Cli) -> None:
    """At a hundred columns as blocks, at two hundred and forty as tables; no id is ever broken."""
    payout_id = counter.paid()
    counter.paid()
    counter.double.transactions[0]["debit"] += 2000  # type: ignore[attr-defined]
    counter.later(seconds=5)
    counter.reconcile()
    (found,) = counter.open()
    cli("breaks", "assign", found.id, "--owner", "ada", "--commit")
    for columns in (100, 200, 240):
        told = cli("reconcile", "payouts", status=1, columns=columns)
        assert "one break is open" in told.stderr
        for word in ("razorpayx", "1000 INR", str(found.id), "payout.statement_fee", str(payout_id), "ada"):
            assert word in told.stdout, columns
        assert max(map(len, told.stdout.splitlines())) <= columns
    document = json.loads(cli("reconcile", "payouts", "--json", status=1).stdout)
    (sums,) = document["providers"]
    assert (sums["payouts"], sums["gone_units"], sums["unmatched"]) == (1, str(UNITS), 1)
    assert [(each["kind"], each["owner"]) for each in document["breaks"]] == [("payout.statement_fee", "ada")]
    settle = ("reconcile", "settle", found.id, "--to", "fees", "--reason", "GST on their invoice")
    assert "house:payout_fees -> custody:provider:razorpayx  2000" in cli(*settle).stdout
    cli(*settle, "--commit", status=2)
    made = json.loads(cli(*settle, "--units", "-2000", "--commit", "--json").stdout)
    assert (made["committed"], made["units"]) == (True, "-2000")
    assert "explained by ada" in cli(*settle, "--units", "-2000", "--commit", status=1).stderr
    other = breaks.Difference(
        kind="payout.statement_fee", subject="x", expected="1", found="2", detail={"provider": "stripe"}
    )
    with transaction() as session:
        breaks.note(session, other)  # another provider's
    assert str(found.id) not in cli("reconcile", "payouts").stdout
    assert counter.balance("house:payout_fees", counter.double.currency) == 2 * 590 + 2000
