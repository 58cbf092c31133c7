"""`tallyrail breaks`, and the list behind it."""

import json

from core import breaks
from core.breaks import Difference
from core.db import transaction
from tests.integration.cli.conftest import Cli


def noted(found: str = "7", *, subject: str = "player:ann") -> str:
    with transaction() as session:
        difference = Difference(
            kind="bet.player", subject=subject, expected="5", found=found, asset="iso4217:USD", detail={"version": 3}
        )
        return str(breaks.note(session, difference))


def test_a_difference_seen_again_is_the_same_break(cli: Cli) -> None:
    first = noted("7")
    assert noted("8") == first != noted("7", subject="player:bob")
    rows = json.loads(cli("breaks", "list", "--kind", "bet.player", "--json").stdout)["breaks"]
    assert [(row["subject"], row["found"], row["times"]) for row in rows] == [
        ("player:bob", "7", 1),
        ("player:ann", "8", 2),
    ]
    assert "There are no such breaks" in cli("breaks", "list", "--kind", "hot.gap").stdout
    shown = cli("breaks", "show", first).stdout
    assert "player:ann" in shown and '"version": 3' in shown
    with transaction() as session:
        assert breaks.count_open(session) == {"bet.player": 2}


def test_it_is_explained_once_with_a_reason_and_only_with_commit(cli: Cli) -> None:
    first = noted()
    assert "Nothing was done" in cli("breaks", "explain", first, "--reason", "paid twice").stdout
    assert first in cli("breaks", "list").stdout
    cli("breaks", "explain", first, "--reason", " ", status=2)
    made = json.loads(cli("breaks", "explain", first, "--reason", "paid twice", "--commit", "--json").stdout)
    assert (made["state"], made["explained_by"], made["explanation"]) == ("explained", "ada", "paid twice")
    cli("breaks", "explain", first, "--reason", "again", "--commit", status=1)
    assert "There are no such breaks" in cli("breaks", "list").stdout
    assert "paid twice" in cli("breaks", "list", "--all").stdout


def test_an_explained_one_that_is_found_again_is_a_new_one(cli: Cli) -> None:
    first = noted()
    cli("breaks", "explain", first, "--reason", "settled", "--commit")
    second = noted()
    assert second != first
    assert second in cli("breaks", "list").stdout


def test_what_is_not_there_is_said_in_a_sentence(cli: Cli) -> None:
    said = cli("breaks", "show", "0192d5b4-0000-7000-8000-000000000000", status=1).stderr
    assert "there is no break" in said and "Traceback" not in said


def test_it_has_an_owner_until_it_is_explained(cli: Cli) -> None:
    first = noted()
    assert "Nothing was done" in cli("breaks", "assign", first, "--owner", "bob").stdout
    cli("breaks", "assign", first, "--owner", "bob", "--commit")
    noted("9")  # seen again, it is still his
    (row,) = json.loads(cli("breaks", "list", "--json").stdout)["breaks"]
    assert (row["owner"], row["times"]) == ("bob", 2)
    cli("breaks", "assign", first, "--owner", " ", "--commit", status=1)
    cli("breaks", "assign", first, "--commit")
    assert json.loads(cli("breaks", "show", first, "--json").stdout)["owner"] is None
    cli("breaks", "explain", first, "--reason", "settled", "--commit")
    cli("breaks", "assign", first, "--owner", "bob", "--commit", status=1)
