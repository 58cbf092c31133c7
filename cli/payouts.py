"""`tallyrail payouts`: what waits for people, and what they decide. Rules and lists: cli.payout_rules."""

from collections.abc import Callable, Sequence
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from cli import payout_resolve, payout_rows, payout_rules, values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, details, document, listing, section, table
from core import db
from core.errors import NotFoundError
from domain.payout import service as payouts
from domain.payout.service import Edit, Evidence, Payout, PayoutProviderRow, PayoutState

app = noun()
app.add_typer(payout_resolve.app)
app.add_typer(payout_rules.app)  # without a name: its commands are among these
PayoutId = Annotated[UUID, typer.Argument(metavar="PAYOUT", help="The payout's id, from `tallyrail payouts list`.")]
Seen = Annotated[
    str | None,
    typer.Option(metavar="HASH", help="The payout as you saw it: what `show` calls seen. Needed with --commit."),
]
Step = Callable[[Session, str], Payout]


def _found(session: Session, payout: UUID) -> Payout:
    found = payouts.get(session, payout)
    if found is None:
        raise NotFoundError(f"there is no payout {payout}")
    return found


# --- looking ---------------------------------------------------------------------------------------------------------


@app.command("list")
def list_payouts(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    state: Annotated[list[PayoutState] | None, typer.Option(help="May be repeated. Default: all.")] = None,
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only those that wait for people, the next to expire first.")
    ] = False,
    limit: values.Limit = 50,
    cursor: Annotated[UUID | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Payouts, newest first; with --waiting, the queue of what people must decide."""
    if waiting and (state or account or cursor):
        raise typer.BadParameter("--waiting goes with --tenant and --limit only")
    with db.transaction() as session:
        if waiting:
            queue = [payout_rows.waiting(session, row) for row in payouts.waiting(session, tenant=tenant, limit=limit)]
            found: Sequence[Payout] = []
        else:
            found = payouts.page(
                session, tenant=tenant, states=state or (), account=account, before=cursor, limit=limit + 1
            )
    if waiting:
        listing("payouts", queue, payout_rows.WAITING, as_json=as_json, empty="Nothing waits for approval.")
        return
    listing(
        "payouts",
        [payout_rows.row(payout) for payout in found[:limit]],
        payout_rows.COLUMNS,
        as_json=as_json,
        empty="There are no such payouts.",
        paged=True,
        next_cursor=str(found[limit - 1].id) if len(found) > limit else None,
    )


@app.command()
def show(payout: PayoutId, *, as_json: AsJson = False) -> None:
    """One payout: what an approver must see, what was said of it, and its history."""
    with db.transaction() as session:
        row = payout_rows.row(_found(session, payout))
        said = [payout_rows.approval(each) for each in payouts.approvals(session, payout)]
        history = [payout_rows.event(each) for each in payouts.history(session, payout)]
    if as_json:
        document({**row, "approvals": said, "history": history})
        return
    details(payout_rows.shown(row, said))
    if row["findings"]:
        typer.echo("")
        table(row["findings"], payout_rows.FINDINGS)
    if said:
        typer.echo("")
        table(said, payout_rows.APPROVALS)
    typer.echo("")
    table(history, payout_rows.HISTORY)


# --- deciding --------------------------------------------------------------------------------------------------------


def _decide(
    payout: UUID, verb: str, step: Step, *, actor: str | None, reason: str | None, commit: bool, as_json: bool
) -> None:
    who = actor or user()
    with db.transaction() as session:
        row = _found(session, payout)
        before = payout_rows.row(row)
        if commit:
            row = step(session, f"person:{who}")
            session.flush()
        after = payout_rows.row(row)
    if as_json:
        document({**after, "committed": commit})
        return
    why = f": {reason}" if reason else ""
    typer.echo(f"{verb} {payout}, as {who}{why}")
    typer.echo(f"{before['amount']} of {before['account']} to {before['destination']} ({before['state']})")
    if commit:
        typer.echo(f"It is {after['state']}.")
    else:
        typer.echo(NOTHING_DONE)


def _seen(seen: str | None, *, commit: bool) -> bytes:
    """What was seen, from what was typed. Raises BadParameter."""
    if seen is None:
        if commit:
            raise typer.BadParameter("--seen must say what you saw: `tallyrail payouts show` tells it")
        return b""
    try:
        return bytes.fromhex(seen)
    except ValueError:
        raise typer.BadParameter(f"{seen!r} is no hash: 64 hexadecimal digits") from None


@app.command()
def approve(
    payout: PayoutId,
    *,
    seen: Seen = None,
    reason: Annotated[str | None, typer.Option(help="For the record.")] = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Say yes to what you saw. Prints the plan unless --commit is given."""
    hash_ = _seen(seen, commit=commit)

    def step(session: Session, who: str) -> Payout:
        return payouts.approve(session, payout, approver=who, seen_hash=hash_, reason=reason)

    _decide(payout, "Approve", step, actor=actor, reason=reason, commit=commit, as_json=as_json)


@app.command()
def reject(
    payout: PayoutId,
    *,
    reason: Reason,
    seen: Seen = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Say no: its money is its owner's again. Prints the plan unless --commit is given."""
    why, hash_ = checked(reason), _seen(seen, commit=commit)

    def step(session: Session, who: str) -> Payout:
        return payouts.reject(session, payout, approver=who, seen_hash=hash_, reason=why)

    _decide(payout, "Reject", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command()
def edit(
    payout: PayoutId,
    *,
    reason: Reason,
    units: Annotated[int | None, typer.Option(min=1, help="In the asset's smallest unit, without our fee.")] = None,
    narration: Annotated[str | None, typer.Option(help="What its recipient reads.")] = None,
    beneficiary: Annotated[UUID | None, typer.Option(help="Another entry of the same account's book.")] = None,
    seen: Seen = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Change it: it is screened again, and others approve it. Prints the plan unless --commit is given."""
    why, hash_ = checked(reason), _seen(seen, commit=commit)
    change = Edit(units=units, narration=narration, beneficiary_id=beneficiary)

    def step(session: Session, who: str) -> Payout:
        from api.payout_ports import PORTS  # brings along much that no other command needs

        return payouts.edit(session, payout, change, PORTS, editor=who, seen_hash=hash_, reason=why)

    wanted = {"units": units, "narration": narration, "beneficiary": beneficiary}
    told = ", ".join(f"{name} to {value!s}" for name, value in wanted.items() if value is not None)
    _decide(payout, f"Change {told} of", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command()
def cancel(
    payout: PayoutId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """End it before it is sent: its money is its owner's again. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Payout:
        return payouts.cancel(session, payout, actor=who, reason=why)

    _decide(payout, "Cancel", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command()
def freeze(
    payout: PayoutId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Let it not go on until somebody thaws it. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Payout:
        return payouts.freeze(session, payout, actor=who, reason=why)

    _decide(payout, "Freeze", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command()
def thaw(
    payout: PayoutId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Let it go on, from the screening. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Payout:
        return payouts.thaw(session, payout, actor=who, reason=why)

    _decide(payout, "Thaw", step, actor=actor, reason=why, commit=commit, as_json=as_json)


# --- paying by hand --------------------------------------------------------------------------------------------------


@app.command("take-by-hand")
def take_by_hand(
    payout: PayoutId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Have people pay an approved one: no provider is given it. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Payout:
        return payouts.take_by_hand(session, payout, actor=who, reason=why)

    _decide(payout, "Have people pay", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command("record-by-hand")
def record_by_hand(
    payout: PayoutId,
    *,
    reference: Annotated[str, typer.Option(help="The bank's, or the hash of what was sent on the chain.")],
    paid_on: Annotated[str, typer.Option(metavar="DAY", help="When it was paid, in UTC: 2026-01-31.")],
    note: Annotated[str, typer.Option(help="How it was paid, for who confirms it. Nothing of the destination.")],
    file_sha256: Annotated[str | None, typer.Option(metavar="HASH", help="SHA-256 of the receipt.")] = None,
    seen: Seen = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Write down that you paid it; another person confirms. Prints the plan unless --commit is given."""
    hash_ = _seen(seen, commit=commit)
    evidence = Evidence(reference=reference, paid_on=values.day(paid_on), note=note, file_sha256=file_sha256)

    def step(session: Session, who: str) -> Payout:
        return payouts.record_by_hand(session, payout, evidence, actor=who, seen_hash=hash_)

    _decide(payout, "Record as paid", step, actor=actor, reason=note, commit=commit, as_json=as_json)


@app.command("withdraw-by-hand")
def withdraw_by_hand(
    payout: PayoutId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Take a record back that nobody has confirmed. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> Payout:
        return payouts.withdraw_by_hand(session, payout, actor=who, reason=why)

    _decide(payout, "Withdraw the record of", step, actor=actor, reason=why, commit=commit, as_json=as_json)


@app.command("confirm-by-hand")
def confirm_by_hand(
    payout: PayoutId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Say that the evidence shows it: it is paid. Prints the plan unless --commit is given."""
    why = checked(reason)
    if not as_json:
        with db.transaction() as session:
            evidence = _found(session, payout).evidence
        if evidence is not None:
            section("Evidence", payout_rows.evidence(evidence))
            typer.echo("")

    def step(session: Session, who: str) -> Payout:
        return payouts.confirm_by_hand(session, payout, actor=who, reason=why)

    _decide(payout, "Confirm", step, actor=actor, reason=why, commit=commit, as_json=as_json)


# --- providers -------------------------------------------------------------------------------------------------------


def _switch(
    provider: str,
    verb: str,
    step: Callable[[Session, str], PayoutProviderRow],
    *,
    actor: str | None,
    reason: str,
    commit: bool,
) -> None:
    who = actor or user()
    typer.echo(f"{verb} {provider}, as {who}: {reason}")
    if not commit:
        typer.echo(NOTHING_DONE)
        return
    with db.transaction() as session:
        by = step(session, f"person:{who}").stopped_by
    typer.echo(f"It is stopped by {by}." if by else "It is sent to.")


@app.command("stop-provider")
def stop_provider(provider: str, *, reason: Reason, actor: Actor = None, commit: Commit = False) -> None:
    """Send it nothing new until it is started again. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> PayoutProviderRow:
        return payouts.stop_provider(session, provider, actor=who, reason=why)

    _switch(provider, "Stop", step, actor=actor, reason=why, commit=commit)


@app.command("start-provider")
def start_provider(provider: str, *, reason: Reason, actor: Actor = None, commit: Commit = False) -> None:
    """Send it payouts again. Prints the plan unless --commit is given."""
    why = checked(reason)

    def step(session: Session, who: str) -> PayoutProviderRow:
        return payouts.start_provider(session, provider, actor=who, reason=why)

    _switch(provider, "Start", step, actor=actor, reason=why, commit=commit)
