"""Nothing is ever shortened, whatever the width; what could steer a terminal is shown instead of obeyed."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import typer

from cli import output, values
from cli.output import Column, age, flow, plain

ID = "0190163d-8694-739b-aea5-966c26f8ad91"


@pytest.mark.parametrize("screen", range(40, 131, 3))
def test_every_id_is_whole_on_one_line(
    screen: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(screen))
    columns = (Column("Id", "id"), Column("Words", "words", free=True), Column("Subject", "subject"))
    output.table([{"id": ID, "words": "some words " * 9, "subject": f"deposit:{ID}"}] * 2, columns)
    shown = capsys.readouterr().out
    assert shown.count(f"deposit:{ID}") == 2
    assert shown.count(ID) == 4
    assert "…" not in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_what_could_steer_a_terminal_is_shown() -> None:
    assert plain("\x1b[31mred\r\n") == "\\x1b[31mred\\x0d\n"
    assert "\x1b" not in plain({"key": "\x1b[2J"})


def test_spans_are_said_in_two_parts() -> None:
    said = [age(timedelta(seconds=seconds)) for seconds in (0, 7, 65, 3_600, 90_061, -5)]
    assert said == ["0s", "7s", "1m 5s", "1h 0m", "1d 1h", "-5s"]


def test_long_parts_stand_alone_and_are_not_broken() -> None:
    assert flow(["a" * 10, "b", "c" * 30, "d"], 20) == ["a" * 10 + "   b", "c" * 30, "d"]


def test_documents_are_json_with_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"at": datetime(2026, 1, 31, tzinfo=UTC), "for": timedelta(seconds=90)})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-01-31T00:00:00Z", "for": 90.0}


def test_spans_rates_and_times_are_read() -> None:
    assert values.span("15m") == timedelta(minutes=15)
    assert values.pause_of("50/s") == timedelta(milliseconds=20)
    assert values.pause_of("600/m") == timedelta(milliseconds=100)
    assert values.past("2026-01-31T12:00") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    for reader, wrong in (
        (values.span, "5"),
        (values.span, "999999999w"),
        (values.pause_of, "0/s"),
        (values.pause_of, "50"),
        (values.past, "soon"),
        (values.past, "99999w"),
        (values.span, "36501d"),
    ):
        with pytest.raises(typer.BadParameter):
            reader(wrong)
