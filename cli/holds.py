"""`tallyrail ledger holds`: money that is bound before it moves, read."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import values
from cli.amounts import amount, with_units
from cli.ledger_accounts import Cursor, Whose, scales_of
from cli.output import AsJson, Column, details, document, listing, pretty, section
from core import db
from ledger import holds as books
from ledger.balances import Page
from ledger.holds import Hold, HoldState

COLUMNS = (
    Column("Hold", "id"),
    Column("State", "state"),
    Column("From", "source"),
    Column("To", "destination"),
    Column("Amount", "amount", right=True),
    Column("Units", "units", right=True),
    Column("Deadline", "expires_at"),
    Column("Reference", "reference"),
)


def holds(
    which: Annotated[UUID | None, typer.Argument(metavar="[HOLD]", help="One hold, by its id.")] = None,
    *,
    tenant: Whose,
    account: Annotated[str | None, typer.Option(help="Only of this account, such as user:42:available.")] = None,
    state: Annotated[HoldState | None, typer.Option(help="Only in this state.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this, such as payout:<id>.")] = None,
    limit: values.Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """Holds, newest first: what is bound for whom, and what became of it; or one hold."""
    if which is not None and (account or state or subject or cursor):
        raise typer.BadParameter("give a hold's id or filters, not both")
    with db.transaction() as session:
        if which is not None:
            page = Page((books.hold(session, tenant, which),), None)
        else:
            page = books.holds(
                session, tenant, account=account, state=state, subject=subject, cursor=cursor, limit=limit
            )
        scales = scales_of(session, {hold.asset for hold in page.rows}, tenant)
    rows = [_row(hold, scales) for hold in page.rows]
    if which is None:
        empty = "There are no such holds."
        listing("holds", rows, COLUMNS, as_json=as_json, empty=empty, next_cursor=page.cursor, paged=True)
    elif as_json:
        document(rows[0])
    else:
        _show(page.rows[0], scales)


def _row(hold: Hold, scales: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": hold.id,
        "tenant": hold.tenant,
        "reference": hold.reference,
        "state": hold.state,
        "source": hold.source,
        "destination": hold.destination,
        "asset": hold.asset,
        "units": str(hold.units),
        "amount": amount(hold.units, hold.asset, scales),
        "posted_units": None if hold.posted_units is None else str(hold.posted_units),
        "expires_at": hold.expires_at,
        "journal_id": hold.journal_id,
        "subject": hold.subject,
        "correlation_id": hold.correlation_id,
        "job_id": hold.job_id,
        "metadata": dict(hold.metadata),
        "created_at": hold.created_at,
        "settled_at": hold.settled_at,
    }


def _show(hold: Hold, scales: Mapping[str, int]) -> None:
    details(
        {
            "Hold": hold.id,
            "Tenant": hold.tenant,
            "State": hold.state,
            "From": hold.source,
            "To": hold.destination,
            "Asset": hold.asset,
            "Held": with_units(hold.units, hold.asset, scales),
            "Captured": with_units(hold.posted_units, hold.asset, scales),
            "Reference": hold.reference,
            "Subject": hold.subject,
            "Placed": hold.created_at,
            "Deadline": hold.expires_at,
            "Settled": hold.settled_at,
            "Journal": hold.journal_id,
            "Job": hold.job_id,
            "Correlation": hold.correlation_id,
        }
    )
    if hold.metadata:
        section("Metadata", pretty(hold.metadata))
