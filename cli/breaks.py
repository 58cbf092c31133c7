"""`tallyrail breaks`: differences that wait for an explanation."""

from typing import Annotated, Any
from uuid import UUID

import typer

from cli import values
from cli.acting import NOTHING_DONE, Actor, Commit, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, pretty, section
from core import breaks, db
from core.breaks import Break

app = noun()
COLUMNS = (
    Column("Break", "id"),
    Column("Kind", "kind"),
    Column("Subject", "subject"),
    Column("Expected", "expected"),
    Column("Found", "found"),
    Column("Asset", "asset"),
    Column("Times", "times", right=True),
    Column("First seen", "opened_at"),
    Column("Last seen", "seen_at"),
    Column("Owner", "owner"),
    Column("Explained", lambda row: row["explanation"] or "", free=True),
)


@app.command("list")
def list_breaks(
    *,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, such as bet.player.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are explained.")] = False,
    before: Annotated[
        UUID | None, typer.Option(metavar="BREAK", help="Go on below this one, the last of the page.")
    ] = None,
    limit: values.Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Breaks that nobody has explained, newest first."""
    with db.transaction() as session:
        found = breaks.page(session, state=None if every else breaks.OPEN, kind=kind, before=before, limit=limit)
    listing("breaks", [_row(one) for one in found], COLUMNS, as_json=as_json, empty="There are no such breaks.")


@app.command()
def show(break_id: Annotated[UUID, typer.Argument(metavar="BREAK")], *, as_json: AsJson = False) -> None:
    """One break, with all that is known of it."""
    with db.transaction() as session:
        row = _row(breaks.get(session, break_id))
    if as_json:
        document(row)
        return
    details({name.replace("_", " ").capitalize(): value for name, value in row.items() if name != "detail"})
    if row["detail"]:
        section("Detail", pretty(row["detail"]))


@app.command()
def explain(
    break_id: Annotated[UUID, typer.Argument(metavar="BREAK")],
    *,
    explanation: Annotated[str, typer.Option("--reason", help="What it was, and what was done about it.")],
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Take a break off the list. It moves no money: that is done first. If it is found again, it is a new break."""
    explanation = checked(explanation)
    who = actor or user()
    with db.transaction() as session:
        row = _row(breaks.explain(session, break_id, actor=who, explanation=explanation))
        if not commit:
            session.rollback()
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(f"{row['kind']} of {row['subject']}: expected {row['expected']}, found {row['found']}.")
    typer.echo(f"Explained by {who}: {explanation}")
    if not commit:
        typer.echo(NOTHING_DONE)


@app.command()
def assign(
    break_id: Annotated[UUID, typer.Argument(metavar="BREAK")],
    *,
    owner: Annotated[str | None, typer.Option(help="Who looks into it. Left away: nobody any more.")] = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Say who looks into a break. Prints the plan unless --commit is given."""
    with db.transaction() as session:
        row = _row(breaks.assign(session, break_id, owner=owner))
        if not commit:
            session.rollback()
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(f"{row['kind']} of {row['subject']} is {'nobody' if owner is None else owner}'s to look into.")
    if not commit:
        typer.echo(NOTHING_DONE)


def _row(found: Break) -> dict[str, Any]:
    return {column.name: getattr(found, column.name) for column in Break.__table__.columns}
