"""`tallyrail ledger`: the books, read. Nothing here can change them."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from cli import values
from cli.amounts import amount, symbol
from cli.books import audit, audits, heads, verify
from cli.exports import export
from cli.holds import holds
from cli.ledger_accounts import Asset, At, Cursor, Whose, account, entries, scales_of, statement
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, pretty, say, section, table
from core import db
from core.errors import InvalidRequestError, NotFoundError
from ledger import balances as books
from ledger.balances import JournalRecord, Page, Total, TrialBalance

app = noun()
TRIAL = (
    Column("Asset", "asset"),
    Column("Symbol", "symbol"),
    Column("Accounts", "accounts", right=True),
    Column("Amount", "amount", right=True),
    Column("Debits", "debits", right=True),
    Column("Credits", "credits", right=True),
    Column("Difference", "difference", right=True),
)
TOTALS = (
    Column("Asset", "asset"),
    Column("Kind", "kind"),
    Column("Accounts", "accounts", right=True),
    Column("Amount", "amount", right=True),
    Column("Units", "units", right=True),
)
ACCOUNTS = (
    Column("Account", "account"),
    Column("Kind", "kind"),
    Column("Entries", "entries", right=True),
    Column("Amount", "amount", right=True),
    Column("Units", "units", right=True),
)
ENTRIES = (
    Column("Account", "account"),
    Column("Amount", "amount", right=True),
    Column("Balance", "balance_amount", right=True),
    Column("Units", "units", right=True),
    Column("Asset", "asset"),
)
Tenant = Annotated[str | None, typer.Option(help="Default: the whole house.")]


@app.command()
def balances(
    *,
    tenant: Tenant = None,
    prefix: Annotated[str, typer.Option(help="Accounts whose code starts so, such as user:42. Needs --tenant.")] = "",
    asset: Asset = None,
    at: At = None,
    limit: values.Limit = 100,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """The trial balance; with --tenant also its accounts.

    Exit status 1 if an asset does not balance. With --prefix also the totals of the accounts whose code starts so;
    with --at the trial balance alone, of what was booked by then.
    """
    if tenant is None and (prefix or cursor):
        raise typer.BadParameter("--prefix and --cursor list the accounts of one tenant: give --tenant")
    if at is not None and (prefix or cursor):
        raise typer.BadParameter("--at is for the trial balance; for one account: tallyrail ledger account")
    page, totals = None, list[Total]()
    with db.transaction() as session:
        trial = [line for line in books.trial_balance(session, tenant, at=at) if asset in (None, line.asset)]
        if tenant is not None and at is None:
            page = books.accounts(session, tenant, prefix, cursor=cursor, limit=limit)
            totals = list(books.total(session, tenant, prefix)) if prefix else []
    scales = {line.asset: line.scale for line in trial}
    accounts = [
        {
            "tenant": account.tenant,
            "account": account.code,
            "asset": account.asset,
            "kind": account.kind,
            "units": str(account.balance),
            "amount": amount(account.balance, account.asset, scales),
            "floor": None if account.floor is None else str(account.floor),
            "entries": account.version,
        }
        for account in (page.rows if page else ())
        if asset in (None, account.asset)
    ]
    lines = [_trial_row(line) for line in trial]
    sums = [_total_row(one) for one in totals if asset in (None, one.asset)]
    next_cursor = page.cursor if page else None
    if as_json:
        more: dict[str, Any] = {} if at is None else {"at": at}
        if page is not None:
            more |= {"totals": sums, "accounts": accounts, "next_cursor": next_cursor}
        document({"trial_balance": lines, **more})
    else:
        _show_balances(lines, accounts, next_cursor, totals=(f"All of {prefix}", sums))
    if any(line.difference for line in trial):
        say("tallyrail: the books do not balance: see `tallyrail ledger verify`")
        raise typer.Exit(1)


def _trial_row(line: TrialBalance) -> dict[str, Any]:
    return {
        "asset": line.asset,
        "symbol": symbol(line.asset),
        "scale": line.scale,
        "accounts": line.accounts,
        "amount": amount(line.debits, line.asset, {line.asset: line.scale}),
        "debits": str(line.debits),
        "credits": str(line.credits),
        "difference": str(line.difference),
        "kinds": {kind: str(units) for kind, units in line.kinds.items()},
    }


def _total_row(one: Total) -> dict[str, Any]:
    return {
        "asset": one.asset,
        "kind": one.kind,
        "accounts": one.accounts,
        "units": str(one.balance),
        "held": str(one.held),
        "amount": amount(one.balance, one.asset, {one.asset: one.scale}),
    }


def _show_balances(
    lines: list[dict[str, Any]],
    accounts: list[dict[str, Any]],
    cursor: str | None,
    *,
    totals: tuple[str, list[dict[str, Any]]],
) -> None:
    if not lines:
        typer.echo("Nothing is booked.")
        return
    table(lines, TRIAL)
    title, sums = totals
    if sums:
        typer.echo("")
        table(sums, TOTALS, title=title)
    for line in lines:
        of_asset = [account for account in accounts if account["asset"] == line["asset"]]
        if of_asset:
            typer.echo("")
            table(of_asset, ACCOUNTS, title=f"{line['symbol']} {line['asset']} (scale {line['scale']})".strip())
    if cursor is not None:
        typer.echo(f"\nMore accounts: --cursor {cursor}")


for command in (account, entries, statement, export, holds, verify, heads, audits, audit):
    app.command()(command)


@app.command()
def journal(
    which: Annotated[str | None, typer.Argument(metavar="[JOURNAL]", help="Its id or its reference.")] = None,
    *,
    tenant: Whose,
    subject: Annotated[str | None, typer.Option(help="All journals about this, such as deposit:<id>.")] = None,
    limit: values.Limit = 100,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """One journal with its entries, or all journals about a subject."""
    if (which is None) == (subject is None):
        raise typer.BadParameter("give a journal's id or reference, or --subject")
    with db.transaction() as session:
        if subject is None:
            page = Page((_find(session, tenant, which),), None)
        else:
            page = books.journals_about(session, tenant, subject, cursor=cursor, limit=limit)
        scales = scales_of(session, {entry.asset for record in page.rows for entry in record.entries}, tenant)
    if not page.rows:
        raise NotFoundError(f"{tenant} has no journal about {subject!r}")
    if as_json:
        document({"journals": [_journal_row(record, scales) for record in page.rows], "next_cursor": page.cursor})
        return
    for place, record in enumerate(page.rows):
        if place:
            typer.echo("")
        _show_journal(_journal_row(record, scales))
    if page.cursor is not None:
        typer.echo(f"\nMore: --cursor {page.cursor}")


def _find(session: Session, tenant: str, which: str | None) -> JournalRecord:
    if which is None:
        raise InvalidRequestError("give a journal's id or reference")
    found = books.journal(session, tenant, reference=which)
    if found is None and (journal_id := _uuid(which)) is not None:
        found = books.journal(session, tenant, journal_id=journal_id)
    if found is None:
        raise NotFoundError(f"{tenant} has no journal {which!r}")
    return found


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _journal_row(record: JournalRecord, scales: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": record.id,
        "number": record.number,
        "tenant": record.tenant,
        "reference": record.reference,
        "category": record.category,
        "subject": record.subject,
        "effective_at": record.effective_at,
        "booked_at": record.booked_at,
        "job_id": record.job_id,
        "correlation_id": record.correlation_id,
        "reverses": record.reverses,
        "reversed_by": record.reversed_by,
        "metadata": dict(record.metadata),
        "entries": [
            {
                "account": entry.code,
                "asset": entry.asset,
                "units": str(entry.units),
                "amount": amount(entry.units, entry.asset, scales),
                "balance": str(entry.balance),
                "balance_amount": amount(entry.balance, entry.asset, scales),
            }
            for entry in record.entries
        ],
    }


def _show_journal(row: dict[str, Any]) -> None:
    titles = {
        "id": "Journal",
        "number": "Number",
        "tenant": "Tenant",
        "reference": "Reference",
        "category": "Category",
        "subject": "Subject",
        "effective_at": "Effective",
        "booked_at": "Booked",
        "job_id": "Job",
        "correlation_id": "Correlation",
        "reverses": "Reverses",
        "reversed_by": "Reversed by",
    }
    details({title: row[key] for key, title in titles.items()})
    if row["metadata"]:
        section("Metadata", pretty(row["metadata"]))
    typer.echo("")
    table(row["entries"], ENTRIES)
