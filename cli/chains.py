"""`tallyrail chains`: how far each chain was read, and setting a stopped scan going again."""

from typing import Annotated

import typer
from sqlalchemy import select

from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.health import CHAINS, chain_rows
from cli.nouns import noun
from cli.output import AsJson, details, listing
from core import db
from core.errors import NotFoundError
from domain.deposit import service as deposits
from domain.deposit.models import ChainCursor

app = noun()


@app.command("list")
def list_chains(*, as_json: AsJson = False) -> None:
    """Every chain that was read here, and how that goes."""
    with db.transaction() as session:
        rows = chain_rows(session)
    listing("chains", rows, CHAINS, as_json=as_json, empty="No chain was read yet.")


@app.command()
def restart(
    chain: Annotated[str, typer.Argument(help="The CAIP-2 id, such as eip155:1.")],
    *,
    from_block: Annotated[int, typer.Option(min=0, help="The first block to scan again.")],
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
) -> None:
    """Let a scan go on from a block. Prints the plan unless --commit is given.

    What was found before stays as it is: read docs/runbooks/reorg-too-deep.md first.
    """
    who, why = actor or user(), checked(reason)
    with db.transaction() as session:
        cursor = session.scalars(select(ChainCursor).where(ChainCursor.chain == chain)).one_or_none()
        if cursor is None:
            raise NotFoundError(f"the chain {chain} has not been scanned yet")
        details(
            {
                "Chain": chain,
                "Status": cursor.status,
                "Stopped by": cursor.last_error,
                "Next block": cursor.next_block,
                "Would go on from": from_block,
                "As": who,
                "Because": why,
            }
        )
        if commit:
            deposits.restart_scan(session, chain, next_block=from_block, actor=who, reason=why)
    typer.echo(f"\nThe scan goes on from block {from_block}." if commit else f"\n{NOTHING_DONE}")
