"""`tallyrail reconcile`: what providers' statements say, against our record and the books."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import amounts, values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, age, document, say, table
from core import clock, db, jobs
from core.breaks import Break
from core.errors import InvalidRequestError
from core.jobs import NewJob
from domain.payout import service as payouts
from domain.payout.service import Into, Settlement, StatementFile, Sums
from domain.payout.statement_settings import statements as settings

READ = "payout.read_statement"
app = noun()
SUMS = (
    Column("Provider", "provider"),
    Column("Matched", "payouts", right=True),
    Column("Sum", "gone", right=True),
    Column("Fees", "fees", right=True),
    Column("Open", "unmatched", right=True),
    Column("Other", "other", right=True),
    Column("In the books", "books", right=True),
    Column("There", "there", right=True),
    Column("Read until", lambda row: f"{row['read_until']:%Y-%m-%d %H:%MZ}" if row["read_until"] else ""),
)
BREAKS = (
    Column("Break", "id"),
    Column("Kind", "kind"),
    Column("Age", "age", right=True),
    Column("Owner", "owner"),
    Column("Expected", "expected", free=True),
    Column("Found", "found", free=True),
    Column("About", "about"),
)


@app.command("payouts")
def reconcile_payouts(
    *,
    provider: Annotated[
        list[str] | None,
        typer.Option(help="May be repeated. Default: all that there are statements of. Of --import: whose it is."),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Lines from then on. Default: the last days.")] = None,
    until: Annotated[str | None, typer.Option(help="Lines before then. Default: now.")] = None,
    file: Annotated[
        Path | None, typer.Option("--import", help="A statement as CSV. Kept only with --commit.", dir_okay=False)
    ] = None,
    read: Annotated[
        bool, typer.Option("--read", help="Have a worker ask the provider for the lines of this time again.")
    ] = False,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Match payouts three ways, and tell what differs. Exit status 1 while breaks are open.

    Moves no money. With --import, the file is only checked unless --commit is given.
    """
    period = _period(since, until)
    names = _providers(provider)
    if file is not None:
        _bring(file, provider or [], since, until, actor=actor, commit=commit)
        if not commit:
            return
    if read:
        _read_again(names, *period)
    for name in names:
        payouts.match_statement(name, *period)
    with db.transaction() as session:
        found = payouts.statement_report(session, *period, providers=names)
        sums, breaks = [_sum(each) for each in found.sums], [_break(each) for each in found.breaks]
    if as_json:
        document({"since": period[0], "until": period[1], "providers": sums, "breaks": breaks})
    else:
        _show(sums, breaks)
    if breaks:
        are = "one break is" if len(breaks) == 1 else f"{len(breaks)} breaks are"
        say(f"tallyrail: {are} open: `tallyrail breaks show BREAK`")
        raise typer.Exit(1)


def _show(sums: Sequence[dict[str, Any]], breaks: Sequence[dict[str, Any]]) -> None:
    if sums:
        table(sums, SUMS)
    else:
        typer.echo("No statement has lines of this time.")
    if breaks:
        typer.echo("")
        table(breaks, BREAKS)


def _period(since: str | None, until: str | None) -> tuple[datetime, datetime]:
    end = clock.now() if until is None else values.past(until)
    begin = end - settings().within if since is None else values.past(since)
    if begin >= end:
        raise typer.BadParameter("--since is not before --until")
    return begin, end


def _providers(wanted: Sequence[str] | None) -> list[str]:
    """Those that are named or, if none is, those that there are statements of."""
    with db.transaction() as session:
        known, told = payouts.statement_providers(session), payouts.statements_of(session)
    for name in wanted or ():
        if name not in known:
            there_are = ", ".join(known) or "none"
            raise InvalidRequestError(f"there is no payout provider {name!r}; there are: {there_are}")
    return sorted(set(wanted)) if wanted else list(told)


def _read_again(names: Sequence[str], since: datetime, until: datetime) -> None:
    """What it answers is matched by the worker that asks."""
    with db.transaction() as session:
        for name in names:
            args = {"provider": name, "since": since.isoformat(), "until": until.isoformat()}
            made = jobs.submit(session, NewJob(READ, args, subject=f"payout_provider:{name}"))
            say(f"{name} is asked again: `tallyrail jobs show {made}`")


def _bring(
    path: Path, names: Sequence[str], since: str | None, until: str | None, *, actor: str | None, commit: bool
) -> None:
    if len(names) != 1:
        raise typer.BadParameter("--import needs one --provider")
    file: StatementFile = payouts.parse_statement(path.read_bytes())
    name, (first, last) = names[0], file.period
    who = f"person:{actor or user()}"
    begin = first if since is None else values.past(since)
    end = last if until is None else values.past(until)
    with db.transaction() as session:
        before = payouts.statement_brought(session, name, file)
        made = payouts.bring_statement(session, name, file, actor=who, since=begin, until=end)
        if not commit:
            session.rollback()
    if before is not None:
        say(f"{before.actor} brought the same file at {before.begun_at:%Y-%m-%d %H:%M}Z.")
    say(f"{made.lines} lines of {name}, {made.new} of them new, from {begin:%Y-%m-%d %H:%M}Z to {end:%Y-%m-%d %H:%M}Z")
    if not commit:
        say(NOTHING_DONE)


def _sum(found: Sums) -> dict[str, Any]:
    scales = amounts.scales()

    def amount(units: int | None) -> str:
        return amounts.amount(units, found.currency, scales) or ("" if units is None else f"{units} {found.currency}")

    return {
        "provider": found.provider,
        "currency": found.currency,
        "lines": found.lines,
        "payouts": found.payouts,
        "gone_units": str(found.gone_units),
        "gone": amount(found.gone_units),
        "fee_units": str(found.fee_units),
        "fees": amount(found.fee_units),
        "unmatched": found.unmatched,
        "other_units": str(found.other_units),
        "other": amount(found.other_units),
        "books_units": str(found.books_units),
        "books": amount(found.books_units),
        "there_units": None if found.there_units is None else str(found.there_units),
        "there": amount(found.there_units),
        "read_until": found.read_until,
    }


def _break(found: Break) -> dict[str, Any]:
    same = ("id", "kind", "subject", "tenant", "asset", "expected", "found", "owner", "times", "opened_at", "detail")
    since: timedelta = clock.now() - found.opened_at
    return {
        **{name: getattr(found, name) for name in same},
        "age": age(since),
        "age_seconds": int(since.total_seconds()),
        "about": found.detail.get("payout") or found.subject,
    }


@app.command()
def settle(
    break_id: Annotated[UUID, typer.Argument(metavar="BREAK")],
    *,
    into: Annotated[
        Into, typer.Option("--to", help="Whose it is: the house's cost, or nobody knows yet. Fees are the house's.")
    ],
    reason: Reason,
    units: Annotated[
        int | None, typer.Option(help="What it adds to our account there, as the plan says. Needed with --commit.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="In whose books, where it is of no payout.")] = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Book what a break about statements differs by, and explain it. Prints the plan unless --commit is given."""
    why = checked(reason)
    if commit and units is None:
        raise typer.BadParameter("--units must say what you saw: without --commit the plan tells it")
    who = f"person:{actor or user()}"
    with db.transaction() as session:
        if commit and units is not None:
            made = payouts.settle_break(session, break_id, into, units=units, actor=who, reason=why, tenant=tenant)
        else:
            made = payouts.plan_settlement(session, break_id, into, tenant=tenant)
    if as_json:
        document({**_settlement(made), "committed": commit})
        return
    typer.echo(f"Settle {made.kind} of {made.subject}, as {who.removeprefix('person:')}: {why}")
    for journal in made.journals():
        for move in journal.postings:
            typer.echo(f"  {move.source} -> {move.destination}  {move.units} {move.asset}  ({journal.category})")
    typer.echo(f"Units: {made.units}")
    typer.echo("It is booked and explained." if commit else NOTHING_DONE)


def _settlement(made: Settlement) -> dict[str, Any]:
    return {
        "break": made.break_id,
        "kind": made.kind,
        "subject": made.subject,
        "tenant": made.tenant,
        "asset": made.asset,
        "units": str(made.units),
        "journals": [
            {
                "reference": journal.reference,
                "category": journal.category,
                "postings": [
                    {"source": each.source, "destination": each.destination, "units": str(each.units)}
                    for each in journal.postings
                ],
            }
            for journal in made.journals()
        ],
    }
