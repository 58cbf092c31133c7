"""`tallyrail ledger`: the books, read. Nothing here can change them."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from cli import amounts, values
from cli.amounts import amount, symbol
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, pretty, say, section, table
from core import db
from core.errors import InvalidRequestError, NotFoundError
from ledger import balances as books
from ledger.balances import JournalRecord, TrialBalance
from ledger.invariants import verify as prove

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
    Column("Units", "units", right=True),
    Column("Balance", "balance", right=True),
    Column("Version", "version", right=True),
    Column("Asset", "asset"),
)
Tenant = Annotated[str | None, typer.Option(help="Default: the whole house.")]


def scales_of(session: Session, wanted: set[str], tenant: str) -> dict[str, int]:
    """By the registry; what has left it, the ledger still knows."""
    known = amounts.scales()
    if not wanted <= known.keys():
        known |= {line.asset: line.scale for line in books.trial_balance(session, tenant)}
    return known


@app.command()
def balances(
    *,
    tenant: Tenant = None,
    prefix: Annotated[str, typer.Option(help="Accounts whose code starts so, such as user:42. Needs --tenant.")] = "",
    asset: Annotated[str | None, typer.Option(help="Only this asset, by its whole id.")] = None,
    limit: values.Limit = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """The trial balance; with --tenant also its accounts. Exit status 1 if an asset does not balance."""
    if tenant is None and (prefix or cursor):
        raise typer.BadParameter("--prefix and --cursor list the accounts of one tenant: give --tenant")
    with db.transaction() as session:
        trial = [line for line in books.trial_balance(session, tenant) if asset in (None, line.asset)]
        page = None
        if tenant is not None:
            page = books.accounts(session, tenant, prefix, cursor=cursor, limit=limit)
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
    next_cursor = page.cursor if page else None
    if as_json:
        more = {} if page is None else {"accounts": accounts, "next_cursor": next_cursor}
        document({"trial_balance": lines, **more})
    else:
        _show_balances(lines, accounts, next_cursor)
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


def _show_balances(lines: list[dict[str, Any]], accounts: list[dict[str, Any]], cursor: str | None) -> None:
    if not lines:
        typer.echo("Nothing is booked.")
        return
    table(lines, TRIAL)
    for line in lines:
        of_asset = [account for account in accounts if account["asset"] == line["asset"]]
        if of_asset:
            typer.echo("")
            table(of_asset, ACCOUNTS, title=f"{line['symbol']} {line['asset']} (scale {line['scale']})".strip())
    if cursor is not None:
        typer.echo(f"\nMore accounts: --cursor {cursor}")


@app.command()
def journal(
    which: Annotated[str | None, typer.Argument(metavar="[JOURNAL]", help="Its id or its reference.")] = None,
    *,
    tenant: Annotated[str, typer.Option(help="Whose books.")],
    subject: Annotated[str | None, typer.Option(help="All journals about this, such as deposit:<id>.")] = None,
    as_json: AsJson = False,
) -> None:
    """One journal with its entries, or all journals about a subject."""
    if (which is None) == (subject is None):
        raise typer.BadParameter("give a journal's id or reference, or --subject")
    with db.transaction() as session:
        found = _find(session, tenant, which, subject)
        scales = scales_of(session, {entry.asset for record in found for entry in record.entries}, tenant)
    if as_json:
        document({"journals": [_journal_row(record, scales) for record in found]})
        return
    for place, record in enumerate(found):
        if place:
            typer.echo("")
        _show_journal(_journal_row(record, scales))


def _find(session: Session, tenant: str, which: str | None, subject: str | None) -> list[JournalRecord]:
    if subject is not None:
        about = list(books.journals_about(session, tenant, subject).rows)
        if not about:
            raise NotFoundError(f"{tenant} has no journal about {subject!r}")
        return about
    if which is None:
        raise InvalidRequestError("give a journal's id or reference")
    found = books.journal(session, tenant, reference=which)
    if found is None and (journal_id := _uuid(which)) is not None:
        found = books.journal(session, tenant, journal_id=journal_id)
    if found is None:
        raise NotFoundError(f"{tenant} has no journal {which!r}")
    return [found]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _journal_row(record: JournalRecord, scales: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": record.id,
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
                "version": entry.version,
            }
            for entry in record.entries
        ],
    }


def _show_journal(row: dict[str, Any]) -> None:
    titles = {
        "id": "Journal",
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


@app.command()
def verify(*, as_json: AsJson = False) -> None:
    """Prove the books from their rows alone. Exit status 1, and each rule that does not hold, if they are wrong."""
    with db.transaction() as session:
        violations = prove(session)
    if as_json:
        document(
            {
                "holds": not violations,
                "violations": [
                    {"rule": found.rule, "row": found.row, "message": found.message, "count": found.count}
                    for found in violations
                ],
            }
        )
    elif not violations:
        typer.echo("The books balance: every rule holds.")
    else:
        for found in violations:
            typer.echo(str(found))
    if violations:
        say(f"tallyrail: the books are wrong: {len(violations)} of the rules do not hold")
        raise typer.Exit(1)
