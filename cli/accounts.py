"""`tallyrail accounts`: what a person does to an account of the ledger. Nothing happens without --commit."""

import re
from functools import partial
from typing import Annotated, Any, Protocol

import typer
from sqlalchemy.orm import Session

from cli import values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.ledger_accounts import Asset, Code, Cursor, Whose
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, plain
from core import db
from ledger import accounts as books
from ledger.accounts import Change, Keep
from ledger.chart import rule

app = noun()
COLUMNS = (
    Column("At", "at"),
    Column("Change", "change"),
    Column("From", lambda row: _said(row["before"])),
    Column("To", lambda row: _said(row["after"])),
    Column("By", "actor"),
    Column("Reason", "reason", free=True),
    Column("Asset", "asset"),
)
OneAsset = Annotated[str, typer.Option(help="In which asset, by its whole id.")]
Bound = Annotated[str | None, typer.Option(metavar="UNITS|none", help="In the asset's smallest unit, or none.")]


class Work(Protocol):
    """A change of `ledger.accounts`."""

    def __call__(
        self, session: Session, *, tenant: str, code: str, asset: str, reason: str, actor: str
    ) -> Change | None: ...


@app.command()
def freeze(
    code: Code,
    *,
    tenant: Whose,
    asset: OneAsset,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Let nothing leave an account any more; what arrives is booked. Prints the plan unless --commit is given.

    A reversal still leaves. An account that does not exist yet is opened, so that it is frozen before its first money.
    One that something else holds frozen already is then held by you as well, until a person unfreezes it.
    """
    _act(books.freeze, code, tenant, asset, reason, actor, commit=commit, as_json=as_json)


@app.command()
def unfreeze(
    code: Code,
    *,
    tenant: Whose,
    asset: OneAsset,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Let money leave a frozen account again, whoever froze it. Prints the plan unless --commit is given."""
    _act(books.unfreeze, code, tenant, asset, reason, actor, commit=commit, as_json=as_json)


@app.command()
def close(
    code: Code,
    *,
    tenant: Whose,
    asset: OneAsset,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Let nothing move in an empty account any more. Prints the plan unless --commit is given."""
    _act(books.close, code, tenant, asset, reason, actor, commit=commit, as_json=as_json)


@app.command()
def reopen(
    code: Code,
    *,
    tenant: Whose,
    asset: OneAsset,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Make a closed account what it was, open or frozen. Prints the plan unless --commit is given."""
    _act(books.reopen, code, tenant, asset, reason, actor, commit=commit, as_json=as_json)


@app.command()
def limit(
    code: Code,
    *,
    tenant: Whose,
    asset: OneAsset,
    reason: Reason,
    floor: Bound = None,
    ceiling: Bound = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Bound an account's balance, or lift a bound. Prints the plan unless --commit is given.

    --floor is the least that the balance less what is held may be; below zero it is a credit line. --ceiling is the
    most that the balance may be. What is not given stays.
    """
    if floor is None and ceiling is None:
        raise typer.BadParameter("give --floor or --ceiling")
    bounded = partial(books.limit, floor=_bound("--floor", floor), ceiling=_bound("--ceiling", ceiling))
    _act(bounded, code, tenant, asset, reason, actor, commit=commit, as_json=as_json)


@app.command()
def changes(
    code: Code,
    *,
    tenant: Whose,
    asset: Asset = None,
    limit: values.Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """What was done to an account, by whom and why, newest first."""
    rule(code)
    with db.transaction() as session:
        page = books.changes(session, tenant, code, asset=asset, cursor=cursor, limit=limit)
    rows = [_row(change) for change in page.rows]
    empty = f"Nobody has changed {code}."
    listing("changes", rows, COLUMNS, as_json=as_json, empty=empty, next_cursor=page.cursor, paged=True)


def _act(  # noqa: PLR0917  # the commands' own options, in their order
    work: Work,
    code: str,
    tenant: str,
    asset: str,
    reason: str,
    actor: str | None,
    *,
    commit: bool,
    as_json: bool,
) -> None:
    """Do it, and take it back unless it is to be committed: the plan shows exactly what would be, refusals too."""
    who, why = actor or user(), checked(reason)
    with db.transaction() as session:
        rehearsal = session.begin_nested()
        change = work(session, tenant=tenant, code=code, asset=asset, reason=why, actor=who)
        if not commit:
            rehearsal.rollback()
    if as_json:
        document({"change": None if change is None else _row(change), "committed": commit and change is not None})
        return
    if change is None:
        typer.echo(f"{code} of {tenant} is so already in {asset}. Nothing was done.")
        return
    details(
        {
            "Account": f"{code} of {tenant} in {asset}",
            "Change": change.change,
            "From": _said(change.before),
            "To": _said(change.after),
            "By": f"{who}: {why}",
        }
    )
    typer.echo(f"Done, as change {change.id}." if commit else NOTHING_DONE)


def _bound(option: str, text: str | None) -> int | Keep | None:
    if text is None:
        return Keep.KEEP
    if text == "none":
        return None
    if not re.fullmatch(r"-?[0-9]{1,38}", text):
        raise typer.BadParameter(f"{option} is a whole number of the asset's smallest unit, or none: not {text!r}")
    return int(text)


def _row(change: Change) -> dict[str, Any]:
    return {
        "id": change.id,
        "tenant": change.tenant,
        "account": change.code,
        "asset": change.asset,
        "change": change.change,
        "before": dict(change.before),
        "after": dict(change.after),
        "reason": change.reason,
        "actor": change.actor,
        "at": change.at,
    }


def _said(values_: Any) -> str:
    """`open`, `frozen by person:ada`, or `floor 0, ceiling none`."""
    if {"state"} <= set(values_) <= {"state", "holders"}:
        state = "closed, frozen" if "holders" in values_ and values_["state"] == "closed" else values_["state"]
        return " by ".join((state, *([", ".join(values_["holders"])] if "holders" in values_ else [])))
    return ", ".join(f"{name} {'none' if value is None else plain(value)}" for name, value in sorted(values_.items()))
