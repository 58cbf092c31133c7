"""`tallyrail ledger account | entries | statement`: one account, read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from cli import amounts, values
from cli.amounts import amount
from cli.output import AsJson, Column, details, document, listing, pretty, section, table
from core import db
from core.errors import NotFoundError
from ledger import balances as books
from ledger import freezes
from ledger.asof import Clock, balance_at
from ledger.balances import Account, Entry
from ledger.chart import rule
from ledger.freezes import Freeze
from ledger.statement import Statement
from ledger.statement import statement as statement_of

LINES = (
    Column("Booked", "booked_at"),
    Column("Amount", "amount", right=True),
    Column("Balance", "balance_amount", right=True),
    Column("Units", "units", right=True),
    Column("Reference", "reference"),
)
HELD = (
    Column("Asset", "asset"),
    Column("State", "state"),
    Column("Balance", "amount", right=True),
    Column("Held", "held_amount", right=True),
    Column("Available", "available_amount", right=True),
    Column("Units", "units", right=True),
    Column("Entries", "entries", right=True),
)
FROZEN = (
    Column("Frozen by", "holder"),
    Column("Since", "at"),
    Column("Reason", "reason", free=True),
    Column("Asset", "asset"),
)
THEN = (Column("Asset", "asset"), Column("Balance", "amount", right=True), Column("Units", "units", right=True))
LISTED = (*LINES, Column("Asset", "asset"))
Whose = Annotated[str, typer.Option(help="Whose books.")]
Code = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its code, such as user:42:available.")]
Asset = Annotated[str | None, typer.Option(help="Only this asset, by its whole id.")]
Cursor = Annotated[str | None, typer.Option(help="Go on after the page that named this cursor.")]
At = Annotated[
    datetime | None,
    typer.Option(
        parser=values.past, metavar="TIME", help="As of this moment: 2h for two hours ago, or 2026-01-31T12:00Z."
    ),
]


def scales_of(session: Session, wanted: set[str], tenant: str) -> dict[str, int]:
    """By the registry; what has left it, the ledger still knows."""
    known = amounts.scales()
    if not wanted <= known.keys():
        known |= {line.asset: line.scale for line in books.trial_balance(session, tenant)}
    return known


def account(
    code: Code,
    *,
    tenant: Whose,
    asset: Asset = None,
    at: At = None,
    clock: Annotated[
        Clock | None, typer.Option(help="With --at: what was booked by then (the default), or had happened by then.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One account in each of its assets.

    Its balance, what is held of it and what holds and the floor leave free; with --at only its balance, as of a time.
    """
    if clock is not None and at is None:
        raise typer.BadParameter("--clock says how --at is meant: give --at")
    clock = clock or Clock.BOOKED
    rule(code)
    with db.transaction() as session:
        found = [one for one in books.account(session, tenant, code) if asset in (None, one.asset)]
        if not found:
            raise NotFoundError(f"{tenant} has no account {code}{'' if asset is None else f' in {asset}'}")
        scales = scales_of(session, {one.asset for one in found}, tenant)
        if at is None:
            held = [_freeze_row(one) for one in freezes.of_account(session, tenant, code)]
            rows = [_account_row(one, scales, held) for one in found]
        else:
            rows = [
                _balance_row(one, balance_at(session, tenant, code, one.asset, at, clock=clock), scales)
                for one in found
            ]
    if as_json:
        asked = {} if at is None else {"at": at, "clock": clock}
        document({"tenant": tenant, "account": code, **asked, "balances": rows})
        return
    one = found[0]
    head = {"Account": code, "Tenant": tenant, "Kind": f"{one.kind}, grows by {one.normal_side}s"}
    details(head if at is None else {**head, "As of": at, "Clock": clock})
    typer.echo("")
    table(rows, HELD if at is None else THEN)
    held = [freeze for row in rows for freeze in row.get("freezes", ())]
    if held:
        typer.echo("")
        table(held, FROZEN)
    for row in rows:
        if row.get("metadata"):
            section(f"Metadata in {row['asset']}", pretty(row["metadata"]))


def _balance_row(one: Account, balance: int, scales: Mapping[str, int]) -> dict[str, Any]:
    return {
        "asset": one.asset,
        "kind": one.kind,
        "normal_side": one.normal_side,
        "units": str(balance),
        "amount": amount(balance, one.asset, scales),
    }


def _freeze_row(freeze: Freeze) -> dict[str, Any]:
    return {
        "holder": freeze.holder,
        "asset": freeze.asset,
        "reason": freeze.reason,
        "actor": freeze.actor,
        "at": freeze.at,
    }


def _account_row(one: Account, scales: Mapping[str, int], held: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        **_balance_row(one, one.balance, scales),
        "state": one.state,
        "freezes": [freeze for freeze in held if freeze["asset"] == one.asset],
        "held": str(one.held),
        "held_amount": amount(one.held, one.asset, scales),
        "available": None if one.available is None else str(one.available),
        "available_amount": amount(one.available, one.asset, scales),
        "floor": None if one.floor is None else str(one.floor),
        "ceiling": None if one.ceiling is None else str(one.ceiling),
        "entries": one.version,
        "metadata": dict(one.metadata),
        "created_at": one.created_at,
    }


def entries(
    code: Code,
    *,
    tenant: Whose,
    asset: Asset = None,
    limit: values.Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """An account's entries, newest first."""
    rule(code)
    with db.transaction() as session:
        page = books.entries(session, tenant, code, asset=asset, cursor=cursor, limit=limit)
        scales = scales_of(session, {entry.asset for entry in page.rows}, tenant)
    listing(
        "entries",
        [_entry_row(entry, scales) for entry in page.rows],
        LISTED,
        as_json=as_json,
        empty="There are no such entries.",
        paged=True,
        next_cursor=page.cursor,
    )


def _entry_row(entry: Entry, scales: Mapping[str, int]) -> dict[str, Any]:
    return {
        "journal_id": entry.journal_id,
        "number": entry.number,
        "position": entry.position,
        "reference": entry.reference,
        "category": entry.category,
        "subject": entry.subject,
        "account": entry.code,
        "asset": entry.asset,
        "units": str(entry.units),
        "amount": amount(entry.units, entry.asset, scales),
        "balance": str(entry.balance),
        "balance_amount": amount(entry.balance, entry.asset, scales),
        "effective_at": entry.effective_at,
        "booked_at": entry.booked_at,
    }


def statement(
    code: Code,
    *,
    tenant: Whose,
    asset: Annotated[str | None, typer.Option(help="By its whole id. Needed if the account has several.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=values.past, metavar="TIME", help="From this moment on: 30d, or 2026-01-01."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=values.past, metavar="TIME", help="Up to just before this moment.")
    ] = None,
    limit: values.Limit = 100,
    cursor: Annotated[
        str | None, typer.Option(help="Go on after the page that named this cursor, which names the period.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """An account's statement of a period.

    Its opening balance, what was booked from --since to just before --until, oldest first, and its closing balance.
    """
    if cursor is not None and (since is not None or until is not None):
        raise typer.BadParameter("a cursor names its period: leave --since and --until away")
    rule(code)
    with db.transaction() as session:
        chosen = _asset_of(session, tenant, code, asset)
        made = statement_of(session, tenant, code, chosen, since=since, until=until, cursor=cursor, limit=limit)
        scales = scales_of(session, {chosen}, tenant)
    rows = [_entry_row(line, scales) for line in made.lines]
    if as_json:
        document(
            {
                "tenant": tenant,
                "account": code,
                "asset": chosen,
                "normal_side": made.normal_side,
                "since": made.since,
                "until": made.until,
                "opening": str(made.opening),
                "closing": str(made.closing),
                "entries": made.entries,
                "lines": rows,
                "debits": str(made.debits),
                "credits": str(made.credits),
                "next_cursor": made.cursor,
            }
        )
    else:
        _show_statement(made, rows, scales)


def _asset_of(session: Session, tenant: str, code: str, asset: str | None) -> str:
    known = [one.asset for one in books.account(session, tenant, code)]
    if asset is None and len(known) > 1:
        raise typer.BadParameter(f"{code} has {len(known)} assets: give --asset, one of {', '.join(known)}")
    if not known or asset not in (None, *known):
        raise NotFoundError(f"{tenant} has no account {code}{'' if asset is None else f' in {asset}'}")
    return asset or known[0]


def _show_statement(made: Statement, rows: list[dict[str, Any]], scales: Mapping[str, int]) -> None:
    def said(units: int) -> str:
        return amounts.with_units(units, made.asset, scales)

    details(
        {
            "Account": made.code,
            "Tenant": made.tenant,
            "Asset": made.asset,
            "From": made.since or "the first entry",
            "Until": made.until or "the last entry",
            "Opening": said(made.opening),
        }
    )
    typer.echo("")
    if rows:
        table(rows, LINES)
    else:
        typer.echo("Nothing was booked in this period.")
    typer.echo("")
    totals = {"Debits": said(made.debits), "Credits": said(made.credits)}
    if made.cursor is None:
        details({**totals, "Closing": said(made.closing), "Lines": made.entries})
    else:
        so_far = {f"{title} so far": text for title, text in totals.items()}
        details({**so_far, "Closing": said(made.closing), "Lines": f"{made.entries} on all pages"})
        typer.echo(f"\nMore: --cursor {made.cursor}")
