"""`tallyrail vault`: which key has sealed what, and sealing it anew."""

from typing import Any

import typer

from cli.acting import NOTHING_DONE, Commit
from cli.nouns import noun
from cli.output import AsJson, Column, listing, say
from core import db, vault

app = noun()
COLUMNS = (
    Column("What", "what"),
    Column("Key", "key"),
    Column("Rows", "rows", right=True),
    Column("Key is", "standing"),
)


def _rows() -> list[dict[str, Any]]:
    from tasks.vault import KEPT

    known = vault.key_ids()
    found: list[dict[str, Any]] = []
    for what, kept in KEPT.items():
        with db.transaction() as session:
            counts = kept.count_by_key(session)
        found += [
            {"what": what, "key": key, "rows": counts.get(key, 0), "standing": _standing(key, known)}
            for key in dict.fromkeys([*known, *sorted(counts)])
        ]
    return found


def _standing(key: str, known: list[str]) -> str:
    if key not in known:
        return "missing"
    return "sealing" if key == known[0] else "opening"


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """How many rows each key has sealed. Exit status 1 if the key of some is missing.

    A key that only opens, and has sealed none, can be taken out of VAULT_KEYS.
    """
    rows = _rows()
    listing("keys", rows, COLUMNS, as_json=as_json, empty="Nothing is sealed.")
    if any(row["standing"] == "missing" for row in rows):
        say("Rows of a missing key can't be opened: put it back behind the first of VAULT_KEYS.")
        raise typer.Exit(1)


@app.command()
def reseal(*, commit: Commit = False) -> None:
    """Seal everything by the first of VAULT_KEYS, so that the others can be taken out. Safe to interrupt."""
    from tasks.vault import reseal_all

    by, before = vault.current(), _otherwise()
    if not commit:
        typer.echo(f"{before} rows are sealed by another key than {by}. {NOTHING_DONE}")
        return
    reseal_all()
    left = _otherwise()
    typer.echo(f"Of {before} rows that another key had sealed, {left} are not sealed by {by} yet.")
    if left:
        say("These can't be opened, or are worked on at this moment: the log says which.")
        raise typer.Exit(1)


def _otherwise() -> int:
    return sum(row["rows"] for row in _rows() if row["standing"] != "sealing")
