"""Exports say what the books say, to the last unit, and beancount's own checker agrees."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core import db
from core.db import transaction
from core.errors import InvalidRequestError, NotFoundError
from core.money import UNITS_MAX
from ledger import beancount
from ledger.batches import post_all
from ledger.chart import Kind, rule
from ledger.errors import AlreadyReversedError, InsufficientFundsError
from ledger.exports import COLUMNS, Format, export
from ledger.models import LedgerAsset
from ledger.posting import Journal, post, reverse
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, CUSTODY, ETH, EUR, FEES, SUSPENSE, USDT

EXACTLY = Context(prec=60)
_AMOUNT = re.compile(r'(?P<start>  [A-Z][^" ]*  |\S+ balance \S+  )(?P<number>-?[0-9.]+)(?P<end> [A-Z]\S*)')
BEAN_CHECK = Path(sys.executable).with_name("bean-check")
JPY, BTC, SOL, ODD = "iso4217:JPY", "bip122:000000000019d6689c085ae165831e93/slip44:0", "solana/sol", "a.b_c%d-e:f"
SCALES = {JPY: 0, EUR: 2, USDT: 6, BTC: 8, SOL: 9, ETH: 18, ODD: 18}
CODES = [
    *(CUSTODY, SUSPENSE, FEES, ALICE, "house:rounding", "clearing:fx"),
    *("user:Alice:available", "user:0xAb.c_d-e:winnings", "merchant:a--c.-d:x-c", "agent:Z:owed", "user:a-.b:owed"),
]
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
references = st.text(letters, max_size=20).filter(str.isprintable)
notes = st.none() | st.text(letters, max_size=20)
documents = st.dictionaries(
    st.text(letters, max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(letters, max_size=10),
        lambda inner: st.lists(inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)
units = st.one_of(st.integers(1, 1_000), st.integers(1, 10**20), st.integers(1, UNITS_MAX // 1_000))
postings = st.builds(
    lambda pair, asset, amount: b.move(pair[0], pair[1], amount, asset),
    st.tuples(st.sampled_from(CODES), st.sampled_from(CODES)).filter(lambda pair: pair[0] != pair[1]),
    st.sampled_from(list(SCALES)),
    units,
)
journals = st.fixed_dictionaries(
    {
        "postings": st.lists(postings, min_size=1, max_size=4),
        "reference": references,
        "subject": notes,
        "correlation_id": notes,
        "metadata": documents,
        "effective_at": st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        "reversed": st.booleans(),
    }
)
many = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def tenant(books: str) -> str:
    with transaction() as session:
        for asset in (SOL, ODD):  # the others are in the registry
            session.add(LedgerAsset(id=asset, scale=SCALES[asset]))
    return books


def exported(tenant: str, form: Format, **period: Any) -> str:
    return "".join(export(tenant, form, **period))


def checked(content: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "books.beancount"
    file.write_bytes(content.encode())
    return subprocess.run([BEAN_CHECK, "--no-cache", file], capture_output=True, text=True, check=False)


def assert_checks(content: str, folder: Path) -> None:
    done = checked(content, folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def book_all(tenant: str, wanted: list[dict[str, Any]], prefix: str) -> None:
    for number, given_ in enumerate(wanted):
        more = dict(given_)
        reference, undo = f"{prefix}{number}:{more.pop('reference')}", more.pop("reversed")
        try:
            with transaction() as session:
                made = post(session, Journal(tenant=tenant, reference=reference, category="test", **more))
                if undo:
                    reverse(session, tenant=tenant, reference=f"undo:{reference}", journal_id=made.id)
        except (InsufficientFundsError, AlreadyReversedError):
            continue


def rows_of(tenant: str, since: datetime | None = None, until: datetime | None = None) -> list[Any]:
    """The entries as the tables have them."""
    with transaction() as session:
        return list(
            session.execute(
                text("""
                    SELECT j.number, j.reference, j.subject, j.booked_at, j.effective_at, j.metadata, j.correlation_id,
                           j.reverses, j.id, e.position, e.units, e.balance, e.version, a.code, a.kind, a.asset,
                           a.stripe
                    FROM ledger_journals j JOIN ledger_entries e ON e.journal_number = j.number
                    JOIN ledger_accounts a ON a.id = e.account_id
                    WHERE j.tenant = :tenant AND (CAST(:since AS timestamptz) IS NULL OR j.booked_at >= :since)
                      AND (CAST(:until AS timestamptz) IS NULL OR j.booked_at < :until)
                    ORDER BY j.number, e.position"""),
                {"tenant": tenant, "since": since, "until": until},
            )
        )


def now() -> datetime:
    """By the database's clock, which books."""
    with transaction() as session:
        made: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return made


def age(superuser_url: str, tenant: str, days: int) -> None:
    """Make all that the tenant has booked so far older."""
    with psycopg.connect(superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        earlier = f"booked_at = booked_at - interval '{days} days'"
        connection.execute(f"UPDATE ledger_journals SET {earlier} WHERE tenant = %s", [tenant])
        connection.execute(
            f"UPDATE ledger_entries SET {earlier} WHERE account_id IN"
            " (SELECT id FROM ledger_accounts WHERE tenant = %s)",
            [tenant],
        )
        connection.execute(f"UPDATE ledger_accounts SET {earlier} WHERE tenant = %s", [tenant])


def assert_says(entry: dict[str, Any], row: Any) -> None:
    sign = 1 if entry["side"] == "credit" else -1
    assert sign * int(entry["units"]) == row.units
    assert Decimal(entry["amount"]).scaleb(SCALES[row.asset], EXACTLY) == abs(int(row.units))
    assert len(entry["amount"].partition(".")[2]) == SCALES[row.asset] == int(entry["scale"])
    assert rule(row.code).normal_side.sign * int(entry["balance"]) == row.balance
    assert (entry["account"], entry["kind"], entry["asset"]) == (row.code, row.kind, row.asset)
    assert [int(entry[name]) for name in ("position", "stripe", "version")] == [row.position, row.stripe, row.version]


def assert_head(head: dict[str, Any], row: Any) -> None:
    assert int(head["number"]) == row.number
    assert head["journal_id"] == str(row.id)
    assert head["reference"] == row.reference
    assert datetime.fromisoformat(head["booked_at"]) == row.booked_at
    assert datetime.fromisoformat(head["effective_at"]) == row.effective_at


@settings(many, max_examples=5)
@given(before=st.lists(journals, max_size=6), after=st.lists(journals, max_size=6))
def test_every_format_says_what_the_tables_say(
    tenant: str, tmp_path: Path, superuser_url: str, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    tenant = b.new_tenant()
    with transaction() as session:
        post(session, b.journal(tenant, "first", b.move(CUSTODY, ALICE, 1)))
    book_all(tenant, before, "a")
    age(superuser_url, tenant, 3)
    db.dispose()  # another session of the database, which has other stripes
    middle = now()
    book_all(tenant, after, "b")
    for period in ({}, {"since": middle}, {"until": middle}, {"since": middle - timedelta(days=9), "until": now()}):
        rows = rows_of(tenant, **period)
        read = list(csv.DictReader(io.StringIO(exported(tenant, Format.CSV, **period), newline=""), strict=True))
        assert len(read) == len(rows)
        sums: Counter[str] = Counter()
        for found, row in zip(read, rows, strict=True):
            assert tuple(found) == COLUMNS
            assert_says(found, row)
            assert_head(found, row)
            assert (found["subject"], found["correlation_id"]) == (row.subject or "", row.correlation_id or "")
            assert found["reverses"] == ("" if row.reverses is None else str(row.reverses))
            assert json.loads(found["metadata"]) == row.metadata
            sums[found["asset"]] += int(found["units"]) * (1 if found["side"] == "credit" else -1)
        assert set(sums.values()) <= {0}

        lines = exported(tenant, Format.JSONL, **period).splitlines()
        assert [line for line in lines if not line.isascii()] == []
        documents_read = [json.loads(line) for line in lines]
        entries = [(journal, entry) for journal in documents_read for entry in journal["entries"]]
        for (journal, entry), row in zip(entries, rows, strict=True):
            assert_says(entry, row)
            assert_head(journal, row)
            assert (journal["subject"], journal["correlation_id"]) == (row.subject, row.correlation_id)
            assert journal["metadata"] == row.metadata
        assert all(one["number"] < other["number"] for one, other in pairwise(documents_read))

        assert_checks(exported(tenant, Format.BEANCOUNT, **period), tmp_path)


@pytest.fixture
def period(tenant: str, superuser_url: str) -> tuple[str, datetime]:
    """A tenant with one journal of long ago and one of now, and a moment between the two."""
    b.book(tenant, "old", b.move(CUSTODY, ALICE, 150, EUR), b.move(CUSTODY, ALICE, UNITS_MAX - 10))
    age(superuser_url, tenant, 40)
    made = now()
    b.book(
        tenant,
        "new",
        b.move(ALICE, FEES, 25, EUR),
        b.move(ALICE, FEES, 10**30 + 1),
        subject='a "quoted" \\ subject\nof two lines',
    )
    return tenant, made


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(False, {"posting": 12, "balance": 9}, marks=pytest.mark.faults),
        (True, {"posting": 18, "balance": 12}),
    ],
)
def test_beancount_sees_every_unit_that_is_wrong(
    period: tuple[str, datetime], tmp_path: Path, part: bool, expected: dict[str, int]
) -> None:
    """One smallest unit more or less, in any amount of the file: each is found."""
    tenant, middle = period
    content = exported(tenant, Format.BEANCOUNT, since=middle if part else None)
    assert_checks(content, tmp_path)
    lines = content.splitlines()
    broken = Counter[str]()
    for place, line in enumerate(lines):
        found = _AMOUNT.fullmatch(line)
        if found is None:
            continue
        number = Decimal(found["number"])
        places = len(found["number"].partition(".")[2])
        wrong = EXACTLY.add(number, Decimal(1).scaleb(-places))
        changed = [*lines[:place], f"{found['start']}{wrong:f}{found['end']}", *lines[place + 1 :]]
        assert checked("\n".join(changed) + "\n", tmp_path).returncode == 1, changed[place]
        broken["balance" if "balance" in line else "posting"] += 1
    # Whatever is in ether stands in two commodities; with a period come the opening balances and their account.
    assert broken == expected


def test_a_period_opens_with_what_was_there(period: tuple[str, datetime], tmp_path: Path) -> None:
    tenant, middle = period
    content = exported(tenant, Format.BEANCOUNT, since=middle)
    day, after = middle.date(), now().date() + timedelta(days=1)
    for line in (
        f'{day} * "opening balance"',
        "  Assets:Custody:Eip155:1  1.50 EUR",
        "  Equity:Opening-Balances  -1.50 EUR",
        f"{after} balance Liabilities:User:Alice:Available  -1.25 EUR",
        f"{after} balance Income:House:Fees  -0.25 EUR",
        f"{after} balance Equity:Opening-Balances  0.00 EUR",
        '  subject: "a \\"quoted\\" \\\\ subject\\nof two lines"',
    ):
        assert line in content.splitlines()
    assert 'reference: "old"' not in content
    assert 'reference: "new"' in content
    assert_checks(content, tmp_path)


def test_a_period_has_its_first_moment_and_not_its_last(period: tuple[str, datetime], tmp_path: Path) -> None:
    tenant, _ = period
    at = rows_of(tenant)[-1].booked_at
    for form in Format:
        from_there, until_there = exported(tenant, form, since=at), exported(tenant, form, until=at)
        assert ("new" in from_there, "new" in until_there) == (True, False)
    assert "  Assets:Custody:Eip155:1  1.50 EUR\n" in exported(tenant, Format.BEANCOUNT, since=at)
    assert_checks(exported(tenant, Format.BEANCOUNT, since=at), tmp_path)
    assert_checks(exported(tenant, Format.BEANCOUNT, until=at), tmp_path)


def test_a_full_export_opens_accounts_when_they_began(period: tuple[str, datetime], tmp_path: Path) -> None:
    tenant, middle = period
    content = exported(tenant, Format.BEANCOUNT)
    began = (middle - timedelta(days=40)).date()
    assert f'{began} open Assets:Custody:Eip155:1\n  code: "custody:eip155:1"\n' in content
    assert f"{began} commodity ETH\n" in content
    assert f'  asset: "{ETH}"\n  scale: 18\n' in content
    assert "Opening-Balances" not in content
    assert content.startswith(f'option "title" "The books of {tenant}"\n')


def test_amounts_beyond_beancounts_digits_stand_in_two_commodities(tenant: str, tmp_path: Path) -> None:
    """Its arithmetic rounds to 28 digits, so 38 digits are two amounts that it adds up apart."""
    b.book(tenant, "one", b.move(CUSTODY, ALICE, UNITS_MAX), b.move(CUSTODY, ALICE, 10**20 + 5, USDT))
    content = exported(tenant, Format.BEANCOUNT)
    assert f"  Assets:Custody:Eip155:1  {10**20 - 1} ETH_E18\n" in content
    assert f"  Assets:Custody:Eip155:1  0.{'9' * 18} ETH\n" in content
    assert "  units: 1000000000000000000\n" in content
    assert "  Assets:Custody:Eip155:1  100000000000000.000005 USDT-" in content  # two chains have a USDT
    assert_checks(content, tmp_path)


def test_a_reversal_is_linked_to_what_it_reverses(tenant: str, tmp_path: Path) -> None:
    made = b.book(tenant, "one", b.move(CUSTODY, ALICE, 5))
    with transaction() as session:
        undone = reverse(session, tenant=tenant, reference="undo", journal_id=made.id)
    content = exported(tenant, Format.BEANCOUNT)
    assert f'* "test" ^{made.id}\n' in content
    assert f'* "reversal" ^{undone.id} ^{made.id}\n' in content
    assert "balance Assets:Custody:Eip155:1  0.000000000000000000 ETH\n" in content
    assert_checks(content, tmp_path)


def test_an_export_is_of_one_moment(tenant: str, tmp_path: Path) -> None:
    """What is booked while it is read is in none of its parts."""
    b.book(tenant, "one", b.move(CUSTODY, ALICE, 5))
    pieces = export(tenant, Format.BEANCOUNT)
    read = [next(pieces)]
    b.book(tenant, "two", b.move(CUSTODY, ALICE, 7), b.move(ALICE, FEES, 1))
    content = "".join([*read, *pieces])
    assert '"two"' not in content
    assert_checks(content, tmp_path)


def test_a_striped_account_is_one_account_with_its_rows_told(tenant: str, tmp_path: Path, superuser_url: str) -> None:
    """Each session of the database has a stripe of its own."""
    for number in range(6):
        b.book(tenant, f"{number}", b.move(CUSTODY, ALICE, 10 + number))
        db.dispose()  # the next post is another session's
    content = exported(tenant, Format.BEANCOUNT)
    assert content.count("open Assets:Custody:Eip155:1") == content.count("balance Assets:Custody:Eip155:1") == 1
    assert_checks(content, tmp_path)
    read = list(csv.DictReader(io.StringIO(exported(tenant, Format.CSV), newline="")))
    of_custody = [row for row in read if row["account"] == CUSTODY]
    last = {row["stripe"]: int(row["balance"]) for row in of_custody}
    assert len(last) > 1
    assert sum(last.values()) == 75


def test_another_tenants_books_stay_out(tenant: str) -> None:
    other = b.new_tenant()
    b.book(tenant, "mine", b.move(CUSTODY, ALICE, 5))
    b.book(other, "theirs", b.move(CUSTODY, ALICE, 7))
    for form in Format:
        content = exported(tenant, form)
        assert "mine" in content
        assert "theirs" not in content


def test_a_period_without_journals_is_an_empty_file_or_only_balances(tenant: str, tmp_path: Path) -> None:
    b.book(tenant, "one", b.move(CUSTODY, ALICE, 5, EUR))
    later = now() + timedelta(days=400)
    assert exported(tenant, Format.JSONL, since=later) == ""
    assert exported(tenant, Format.CSV, since=later) == ",".join(COLUMNS) + "\r\n"
    only = exported(tenant, Format.BEANCOUNT, since=later)
    assert f"{later.date() + timedelta(days=1)} balance Assets:Custody:Eip155:1  0.05 EUR\n" in only
    assert_checks(only, tmp_path)
    before = exported(tenant, Format.BEANCOUNT, until=now() - timedelta(days=400))
    assert "balance" not in before
    assert_checks(before, tmp_path)


def test_what_can_not_be_exported_is_refused(tenant: str) -> None:
    b.book(tenant, "one", b.move(CUSTODY, ALICE, 5))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(NotFoundError, match="nothing is booked for 'nobody'"):
        next(export("nobody", Format.CSV))
    for wrong in ({"since": at, "until": at}, {"since": at.replace(tzinfo=None)}, {"until": at.replace(tzinfo=None)}):
        with pytest.raises(InvalidRequestError):
            export(tenant, Format.CSV, **wrong)


def resident() -> int:
    """What the process holds of the machine's memory, in bytes: the driver's buffers are none of Python's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
def test_an_export_needs_little_memory(tenant: str) -> None:
    """Books of 128 MB, as the database sends them, in less than half of that."""
    note = {"n": "x" * 16_000}
    for first in range(0, 4_000, 500):
        with transaction() as session:
            made = [
                b.journal(tenant, f"{number}", b.move(CUSTODY, f"user:{number}:available", 1), metadata=note)
                for number in range(first, first + 500)
            ]
            post_all(session, made)
    for form in Format:
        before, peak, length = resident(), 0, 0
        for number, piece in enumerate(export(tenant, form)):
            length += len(piece)
            if number % 100 == 0:
                peak = max(peak, resident())
        assert length > 64_000_000
        assert peak - before < 60_000_000, form


@pytest.mark.parametrize("code", CODES)
def test_no_account_lies_below_another(code: str) -> None:
    """A balance that beancount checks is that of the account with all below it, which the ledger doesn't add up."""
    with pytest.raises(InvalidRequestError):
        rule(f"{code}:more")


segments = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)


@given(st.lists(segments, min_size=2, max_size=3), st.sampled_from(Kind))
def test_an_accounts_name_reads_back_as_its_code(parts: list[str], kind: Kind) -> None:
    name = beancount.account_name(kind, ":".join(parts))
    assert beancount.account_code(name) == ":".join(parts)
    assert name != beancount.OPENING


@given(st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1), st.text()))
def test_each_asset_has_a_name_of_its_own(symbols: dict[str, str]) -> None:
    names = beancount.commodity_names(symbols)
    assert len(set(names.values())) == len(names) == len(symbols)
    for name in names.values():
        longest = beancount.Commodity("a", name, 18, wide=True).larger
        assert re.fullmatch(r"[A-Z][A-Z0-9'._-]{0,22}[A-Z0-9]", longest)
        assert name not in {"TRUE", "FALSE", "NULL"}


def test_a_symbol_that_two_assets_have_is_nobodys_name() -> None:
    names = beancount.commodity_names({"a": "usdt", "b": "USDT", "c": "ETH", "d": "$x", "e": "NULL", "f": "V"})
    assert names["c"] == "ETH"
    assert names["a"].startswith("USDT-") and names["b"].startswith("USDT-") and names["a"] != names["b"]
    assert names["d"].startswith("X-") and names["e"].startswith("NULL-") and names["f"].startswith("V-")


@given(st.integers(-UNITS_MAX, UNITS_MAX))
def test_two_parts_make_the_whole(units: int) -> None:
    larger, smaller = beancount.parts(units)
    assert larger * beancount.PART + smaller == units
    assert abs(smaller) < beancount.PART
    assert larger * smaller >= 0
