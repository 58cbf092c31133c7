"""`tallyrail payouts resolve`: two people say what became of a payout that nobody knows about."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from cli.acting import NOTHING_DONE, Actor, Commit, user
from cli.nouns import noun
from core import db
from core.errors import NotFoundError
from domain.payout import resolving
from domain.payout import service as payouts

app = noun()


class Outcome(StrEnum):
    PAID = "paid"
    FAILED = "failed"


@app.command()
def resolve(
    payout: Annotated[UUID, typer.Argument(metavar="PAYOUT", help="The payout's id.")],
    *,
    outcome: Annotated[Outcome | None, typer.Option(help="What became of it. Left away: only look.")] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Agree with what another person proposed.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the proposal back.")] = False,
    note: Annotated[str | None, typer.Option(help="How one knows, for the record. Needed to propose or withdraw.")] = (
        None
    ),
    reference: Annotated[str | None, typer.Option(help="The provider's or the bank's name for it, if there is.")] = (
        None
    ),
    actor: Actor = None,
    commit: Commit = False,
) -> None:
    """End what nobody knows: one person proposes, another confirms. Prints the plan unless --commit is given."""
    if confirm and withdraw:
        raise typer.BadParameter("--confirm or --withdraw, not both")
    with db.transaction() as session:
        typer.echo(_shown(session, payout))
        if outcome is None and not withdraw:
            return
        if not commit:
            typer.echo(NOTHING_DONE)
            return
        who = f"person:{actor or user()}"
        if withdraw:
            resolving.withdraw(session, payout, actor=who, reason=note or "")
            typer.echo(f"{who} took the proposal about {payout} back.")
        elif outcome is not None and confirm:
            made = resolving.confirm(session, payout, outcome, actor=who)
            typer.echo(f"{payout} is {made.state}: {who} agreed.")
        elif outcome is not None:
            resolving.propose(session, payout, outcome, {"note": note or "", "reference": reference or ""}, actor=who)
            typer.echo(f"{who} proposed that {payout} {outcome}. Another person confirms it with --confirm.")


def _shown(session: Session, payout_id: UUID) -> str:
    """What is known, what is proposed, and what each outcome would book."""
    payout = payouts.get(session, payout_id)
    if payout is None:
        raise NotFoundError(f"there is no payout {payout_id}")
    plan = resolving.plan(session, payout_id)
    amount = f"{payout.payout_units} {payout.payout_asset}"
    lines = [
        f"{payout_id} is {payout.state}, since {payout.unknown_since or '-'}",
        f"{amount} by {payout.provider} to {payout.destination_masked}",
        f"ask {payout.provider} for the reference {resolving.reference(session, payout_id)}",
    ]
    for outcome, moves in (("paid", plan.paid), ("failed", plan.failed)):
        lines.append(f"if it {'was ' if outcome == 'paid' else ''}{outcome}:")
        lines += [f"  {source} -> {destination}  {units} {asset}" for source, destination, asset, units in moves]
    proposed = resolving.proposed(session, payout_id)
    if proposed is not None:
        lines.append(f"{proposed.proposed_by} proposed {proposed.outcome}: {proposed.evidence.get('note')}")
    return "\n".join(lines)
