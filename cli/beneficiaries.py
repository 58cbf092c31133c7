"""`tallyrail beneficiaries`: destinations, always masked."""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from cli import values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, table
from core import db, jobs
from core.errors import NotFoundError
from core.jobs import NewJob
from domain.beneficiary import service as book
from domain.beneficiary.service import Beneficiary, BeneficiaryEvent, BeneficiaryState
from providers.payout.base import Kind

app = noun()
COLUMNS = (
    Column("Beneficiary", "id"),
    Column("State", lambda row: f"{row['state']} ({row['failure']})" if row["failure"] else row["state"]),
    Column("Tenant", "tenant"),
    Column("Account", "account"),
    Column("Kind", "kind"),
    Column("Destination", "masked"),
    Column("Label", "label", free=True),
    Column("Created", "created_at"),
)
HISTORY = (
    Column("At", "at"),
    Column("Event", "event"),
    Column("State", "state"),
    Column("By", "actor"),
    Column("Because", "reason", free=True),
    Column("Detail", lambda row: row["detail"] or "", free=True),
)
BANKS = (Column("Code", "code"), Column("Name", "name"))
BeneficiaryId = Annotated[UUID, typer.Argument(metavar="BENEFICIARY")]


def _row(row: Beneficiary) -> dict[str, Any]:
    same = (
        "id", "tenant", "account", "kind", "chain", "bank", "masked", "label", "state", "failure", "holder_matches",
        "verified_by", "verified_at", "sealed_by", "created_at", "updated_at", "removed_at",
    )  # fmt: skip
    return {name: getattr(row, name) for name in same}


def _event(event: BeneficiaryEvent) -> dict[str, Any]:
    same = {name: getattr(event, name) for name in ("at", "event", "actor", "reason", "detail")}
    return {**same, "state": event.state_after}


def _found(session: Session, beneficiary: UUID) -> Beneficiary:
    found = book.get(session, beneficiary)
    if found is None:
        raise NotFoundError(f"there is no beneficiary {beneficiary}")
    return found


@app.command("list")
def list_beneficiaries(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    account: Annotated[str | None, typer.Option(help="Only in this account's book.")] = None,
    state: Annotated[BeneficiaryState | None, typer.Option(help="Default: all but those removed.")] = None,
    limit: values.Limit = 50,
    cursor: Annotated[UUID | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Destinations, newest first."""
    with db.transaction() as session:
        found = book.page(session, tenant=tenant, account=account, state=state, before=cursor, limit=limit + 1)
    listing(
        "beneficiaries",
        [_row(row) for row in found[:limit]],
        COLUMNS,
        as_json=as_json,
        empty="There are no such beneficiaries.",
        paged=True,
        next_cursor=str(found[limit - 1].id) if len(found) > limit else None,
    )


@app.command()
def show(beneficiary: BeneficiaryId, *, as_json: AsJson = False) -> None:
    """One destination with its history."""
    with db.transaction() as session:
        row = _row(_found(session, beneficiary))
        history = [_event(event) for event in book.history(session, beneficiary)]
        bank = book.banks(session, Kind(row["kind"])).names.get(row["bank"] or "")
    if as_json:
        document({**row, "bank_name": bank, "history": history})
        return
    details(
        {
            "Beneficiary": row["id"],
            "Tenant": row["tenant"],
            "Account": row["account"],
            "State": row["state"],
            "Failure": row["failure"],
            "Kind": row["kind"],
            "Chain": row["chain"],
            "Destination": row["masked"],
            "Bank": bank,
            "Label": row["label"],
            "Holder fits": row["holder_matches"],
            "Verified by": row["verified_by"],
            "Verified": row["verified_at"],
            "Sealed by": row["sealed_by"],
        }
    )
    typer.echo("")
    table(history, HISTORY)


def _decide(
    beneficiary: UUID,
    verb: str,
    step: Callable[[Session, str], Beneficiary],
    *,
    actor: str | None,
    reason: str | None,
    commit: bool,
    as_json: bool,
) -> None:
    who = actor or user()
    with db.transaction() as session:
        row = _found(session, beneficiary)
        before = row.state
        if commit:
            row = step(session, f"person:{who}")
        told = _row(row)
    if as_json:
        document({**told, "committed": commit})
        return
    why = f": {reason}" if reason else ""
    typer.echo(f"{verb} {beneficiary} ({told['masked']}, {before}) of {told['account']}, as {who}{why}")
    typer.echo(f"It is {told['state']}." if commit else NOTHING_DONE)


@app.command()
def verify(
    beneficiary: BeneficiaryId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Let it be paid, whatever is known of its holder. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Beneficiary:
        return book.verify_by_hand(session, beneficiary, actor=who, reason=why)

    _decide(beneficiary, "Verify", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command()
def refuse(
    beneficiary: BeneficiaryId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Let it not be paid any more. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Beneficiary:
        return book.refuse(session, beneficiary, actor=who, reason=why)

    _decide(beneficiary, "Refuse", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command()
def retry(
    beneficiary: BeneficiaryId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Have the holder of a refused one asked for again. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Beneficiary:
        return book.retry(session, beneficiary, actor=who, reason=why)

    _decide(beneficiary, "Ask again about", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command()
def remove(beneficiary: BeneficiaryId, *, actor: Actor = None, commit: Commit = False, as_json: AsJson = False) -> None:
    """Take it out of its book. What it was is deleted. Prints the plan unless --commit is given."""

    def step(session: Session, who: str) -> Beneficiary:
        return book.remove(session, beneficiary, actor=who)

    _decide(beneficiary, "Remove", step, actor=actor, reason=None, commit=commit, as_json=as_json)


@app.command()
def banks(
    kind: Annotated[Kind, typer.Argument()] = Kind.BANK_NG,
    *,
    refresh: Annotated[bool, typer.Option("--refresh", help="Have providers asked now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Banks that money can be sent to, as providers told them last."""
    with db.transaction() as session:
        found = book.banks(session, kind)
        if refresh:
            jobs.submit(session, NewJob("payout.refresh_banks", {}))
    rows = [{"code": code, "name": name} for code, name in found.names.items()]
    listing("banks", rows, BANKS, as_json=as_json, empty="No list is known.")
