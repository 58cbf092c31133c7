"""A tenant's books as a file: whole or not at all."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import db
from ledger import chart
from ledger.assets import sync_assets
from ledger.posting import Journal, Posting, post
from tests.integration.cli.conftest import Cli

USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
EXPORT = ("ledger", "export", "--tenant", "acme", "--format")
BEAN_CHECK = Path(sys.executable).with_name("bean-check")


@pytest.fixture
def booked(database_url: str) -> None:
    with db.transaction() as session:
        sync_assets(session)
        move = Posting(
            source=chart.custody("eip155:1"), destination=chart.user_available("42"), asset=USDT, units=1_500_000
        )
        post(session, Journal(tenant="acme", reference="deposit:é", category="deposit", postings=[move]))


@pytest.mark.usefixtures("booked")
def test_each_format_goes_to_standard_output(cli: Cli) -> None:
    read = list(csv.DictReader(io.StringIO(cli(*EXPORT, "csv").stdout, newline="")))
    assert [(row["account"], row["side"], row["units"], row["amount"]) for row in read] == [
        ("custody:eip155:1", "debit", "1500000", "1.500000"),
        ("user:42:available", "credit", "1500000", "1.500000"),
    ]
    [line] = cli(*EXPORT, "jsonl").stdout.splitlines()
    assert json.loads(line)["reference"] == "deposit:é"
    assert 'reference: "deposit:é"' in cli(*EXPORT, "beancount").stdout


@pytest.mark.usefixtures("booked")
def test_a_file_is_the_same_and_its_owners_only(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "books.beancount"
    file.write_text("the one before")
    told = cli(*EXPORT, "beancount", "--output", file)
    assert (told.stdout, told.stderr) == (f"Wrote {file}\n", "")
    assert file.read_text(encoding="utf-8") == cli(*EXPORT, "beancount").stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    done = subprocess.run([BEAN_CHECK, "--no-cache", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    cli(*EXPORT, "csv", "--output", tmp_path / "books.csv")
    assert (tmp_path / "books.csv").read_bytes().count(b"\r\n") == 3


@pytest.mark.usefixtures("booked")
def test_a_period_is_said_as_everywhere(cli: Cli) -> None:
    assert cli(*EXPORT, "jsonl", "--since", "1h").stdout.count("\n") == 1
    assert cli(*EXPORT, "jsonl", "--until", "1h").stdout == ""
    assert cli(*EXPORT, "jsonl", "--since", "2026-01-01", "--until", "2026-01-02T12:00Z").stdout == ""
    told = cli(*EXPORT, "jsonl", "--since", "1h", "--until", "2h", status=1).stderr
    assert told == "tallyrail: a period begins before it ends\n"
    cli(*EXPORT, "jsonl", "--since", "yesterday", status=2)
    cli(*EXPORT, "xml", status=2)
    cli("ledger", "export", "--format", "csv", status=2)


@pytest.mark.usefixtures("booked")
def test_a_tenant_that_nothing_is_booked_for_gets_a_sentence_and_no_file(cli: Cli, tmp_path: Path) -> None:
    told = cli("ledger", "export", "--tenant", "acne", "--format", "csv", "--output", tmp_path / "f", status=1)
    assert (told.stdout, told.stderr) == ("", "tallyrail: nothing is booked for 'acne'\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("booked")
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_export_that_breaks_off_leaves_what_was_there(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def breaks(*_: object, **__: object) -> Iterator[str]:
        yield "half of it"
        raise error

    monkeypatch.setattr("cli.exports.read", breaks)
    file = tmp_path / "books.csv"
    file.write_text("the one before")
    told = cli(*EXPORT, "csv", "--output", file, status=1 if isinstance(error, OSError) else 130)
    assert file.read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    if isinstance(error, OSError):
        assert told.stderr.count("\n") == 1 and "No space left on device" in told.stderr


@pytest.mark.usefixtures("booked")
def test_what_is_no_file_is_not_replaced(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for wrong in (tmp_path, tmp_path / "pipe"):
        assert cli(*EXPORT, "csv", "--output", wrong, status=1).stderr.endswith("is no file that could be replaced\n")
    missing = tmp_path / "no" / "folder"
    assert "No such file or directory" in cli(*EXPORT, "csv", "--output", missing, status=1).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
