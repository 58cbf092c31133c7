"""`tallyrail payouts rules|deny|allow|unlist|lists`: what the screening asks, and who is on a list."""

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, document, listing
from core import db
from core.errors import NotFoundError
from domain.payout import service as payouts
from domain.payout.service import ListName, ListScope, NewRule, PayoutListing, PayoutRule, Verdict

app = noun()
RULES = (
    Column("Rule", "name"),
    Column("Tenant", lambda row: row["tenant"] or "all"),
    Column("Kind", "kind"),
    Column("Verdict", "verdict"),
    Column("Score", "score", right=True),
    Column("On", lambda row: "yes" if row["enabled"] else "no"),
    Column("Parameters", lambda row: json.dumps(row["parameters"]), free=True),
)
LISTS = (
    Column("List", "list"),
    Column("Tenant", lambda row: row["tenant"] or "all"),
    Column("What", "scope"),
    Column("Key", "key"),
    Column("By", "actor"),
    Column("Because", "reason", free=True),
    Column("Since", "created_at"),
)
Tenant = Annotated[str | None, typer.Option(help="Of this tenant alone. Default: for all.")]
Account = Annotated[str | None, typer.Option(help="Such as user:42:available.")]
Destination = Annotated[
    str | None, typer.Option(metavar="FINGERPRINT", help="A destination, as `tallyrail payouts lists` names it.")
]
DestinationOf = Annotated[
    UUID | None, typer.Option(metavar="PAYOUT", help="The destination of this payout, wherever else it is used.")
]


def _rule(row: PayoutRule) -> dict[str, Any]:
    same = ("id", "tenant", "name", "kind", "parameters", "verdict", "score", "enabled", "actor", "reason")
    return {name: getattr(row, name) for name in same} | {"updated_at": row.updated_at}


def _listing(row: PayoutListing) -> dict[str, Any]:
    same = ("id", "tenant", "list", "scope", "key", "actor", "reason", "created_at", "removed_at", "removed_by")
    return {name: getattr(row, name) for name in same}


@app.command()
def rules(*, tenant: Annotated[str | None, typer.Option()] = None, as_json: AsJson = False) -> None:
    """The rules that are data, by name. Those of settings and lists are not among them."""
    with db.transaction() as session:
        rows = [_rule(row) for row in payouts.rules(session, tenant=tenant)]
    listing("rules", rows, RULES, as_json=as_json, empty="There are no rules but those of the settings.")


@app.command("write-rule")
def write_rule(
    name: Annotated[str, typer.Argument(help="Such as many-to-one.")],
    kind: Annotated[str, typer.Argument(help="Such as velocity: docs/payouts.md lists them.")],
    parameters: Annotated[str, typer.Argument(metavar="JSON", help='Such as {"count": 3, "seconds": 3600}.')],
    *,
    reason: Reason,
    verdict: Annotated[Verdict, typer.Option(help="What it does when it speaks, besides its score.")] = Verdict.NOTE,
    score: Annotated[int, typer.Option(help="Scores sum up.")] = 0,
    off: Annotated[bool, typer.Option("--off", help="Written, and silent.")] = False,
    tenant: Tenant = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Make a rule, or change the one of this name."""
    try:
        given = json.loads(parameters)
    except ValueError:
        raise typer.BadParameter("the parameters are a JSON object") from None
    if not isinstance(given, dict):
        raise typer.BadParameter("the parameters are a JSON object")
    new = NewRule(
        tenant=tenant,
        name=name,
        kind=kind,
        parameters=given,
        verdict=verdict,
        score=score,
        actor=f"person:{actor or user()}",
        reason=checked(reason),
        enabled=not off,
    )
    with db.transaction() as session:
        before = [
            _rule(row) for row in payouts.rules(session, tenant=tenant) if (row.tenant, row.name) == (tenant, name)
        ]
        rehearsal = session.begin_nested()
        told = _rule(payouts.write_rule(session, new))  # also without --commit: what is wrong is said now
        if not commit:
            rehearsal.rollback()
    _done(
        told, f"{'Change' if before else 'Make'} the rule {name} of {tenant or 'all'}", commit=commit, as_json=as_json
    )


@app.command()
def deny(
    *,
    reason: Reason,
    account: Account = None,
    destination: Destination = None,
    destination_of: DestinationOf = None,
    tenant: Tenant = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Refuse every payout of an account, or to a destination."""
    _put("deny", _what(account, destination, destination_of), tenant, reason, actor, commit=commit, as_json=as_json)


@app.command()
def allow(
    *,
    reason: Reason,
    account: Account = None,
    destination: Destination = None,
    destination_of: DestinationOf = None,
    tenant: Tenant = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Let an account or a destination count as known. Limits and other rules stay."""
    _put("allow", _what(account, destination, destination_of), tenant, reason, actor, commit=commit, as_json=as_json)


@app.command()
def unlist(
    *,
    account: Account = None,
    destination: Destination = None,
    destination_of: DestinationOf = None,
    tenant: Tenant = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Take an account or a destination off the list that it is on."""
    scope, key = _what(account, destination, destination_of)
    with db.transaction() as session:
        rehearsal = session.begin_nested()
        row = payouts.take_off_list(session, tenant=tenant, scope=scope, key=key, actor=f"person:{actor or user()}")
        told = _listing(row)
        if not commit:
            rehearsal.rollback()
    _done(told, f"Take the {scope} {key} off the {told['list']} list", commit=commit, as_json=as_json)


@app.command()
def lists(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    removed: Annotated[bool, typer.Option("--removed", help="Also what is on a list no more.")] = False,
    as_json: AsJson = False,
) -> None:
    """What stands on the deny and allow lists, newest first."""
    with db.transaction() as session:
        rows = [_listing(row) for row in payouts.listings(session, tenant=tenant, removed=removed)]
    listing("listings", rows, LISTS, as_json=as_json, empty="Nothing is on a list.")


def _what(account: str | None, destination: str | None, destination_of: UUID | None) -> tuple[ListScope, str]:
    if sum(each is not None for each in (account, destination, destination_of)) != 1:
        raise typer.BadParameter("say one of --account, --destination and --destination-of")
    if account is not None:
        return "account", account
    if destination_of is None:
        return "destination", destination or ""
    with db.transaction() as session:
        payout = payouts.get(session, destination_of)
    if payout is None:
        raise NotFoundError(f"there is no payout {destination_of}")
    return "destination", payout.destination_fingerprint


def _put(
    name: ListName,
    what: tuple[ListScope, str],
    tenant: str | None,
    reason: str,
    actor: str | None,
    *,
    commit: bool,
    as_json: bool,
) -> None:
    (scope, key), who, why = what, f"person:{actor or user()}", checked(reason)
    with db.transaction() as session:
        rehearsal = session.begin_nested()
        row = payouts.put_on_list(session, tenant=tenant, name=name, scope=scope, key=key, actor=who, reason=why)
        told = _listing(row)
        if not commit:
            rehearsal.rollback()
    _done(told, f"Put the {scope} {key} on the {name} list of {tenant or 'all'}", commit=commit, as_json=as_json)


def _done(told: dict[str, Any], words: str, *, commit: bool, as_json: bool) -> None:
    if as_json:
        document({**told, "done": commit})
        return
    typer.echo(words + ("" if commit else f". {NOTHING_DONE}"))
