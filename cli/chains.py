"""`tallyrail chains`: how far each chain was read, what was not, and setting a stopped scan going again."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from sqlalchemy import select

from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.health import CHAINS, chain_rows
from cli.nouns import noun
from cli.output import AsJson, Column, age, details, document, listing, table
from core import clock, db
from core.errors import NotFoundError
from domain.deposit import service as deposits
from domain.deposit.scan_models import ChainCursor

app = noun()

ChainId = Annotated[str, typer.Argument(metavar="CHAIN", help="The CAIP-2 id, such as eip155:1.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000, help="How many rows.")]

COVERAGE = (
    Column("First block", "first_block", right=True),
    Column("Last block", "last_block", right=True),
    Column("By", "by"),
    Column("Addresses", "addresses", right=True),
    Column("From", "began_at"),
    Column("To", "updated_at"),
    Column("Hash of the last", "last_hash"),
)
GAPS = (
    Column("First block", "first_block", right=True),
    Column("Last block", "last_block", right=True),
    Column("Blocks", "blocks", right=True),
)
RESCANS = (
    Column("Rescan", "id"),
    Column("Chain", "chain"),
    Column("First block", "first_block", right=True),
    Column("Last block", "last_block", right=True),
    Column("Next block", "next_block", right=True),
    Column("Status", "status"),
    Column("Found", "found", right=True),
    Column("Asked", "created_at"),
    Column("By", "actor"),
    Column("Because", "reason", free=True),
)
NODES = (
    Column("Chain", "chain"),
    Column("Node", "label"),
    Column("State", lambda row: row["trouble"] or ("up" if row["up"] else "down")),
    Column("Head", "head_number", right=True),
    Column("Latency", lambda row: "" if row["latency_ms"] is None else f"{row['latency_ms']} ms", right=True),
    Column("Calls", "calls", right=True),
    Column("Failed", "failures", right=True),
    Column("Processes", "processes", right=True),
    Column("Seen", lambda row: f"{age(row['age'])} ago", right=True),
    Column("Not asked until", "open_until"),
    Column("Last error", lambda row: row["last_error"] or "", free=True),
)


@app.command("list")
def list_chains(*, as_json: AsJson = False) -> None:
    """Every chain that was read here, and how that goes."""
    with db.transaction() as session:
        rows = chain_rows(session)
    listing("chains", rows, CHAINS, as_json=as_json, empty="No chain was read yet.")


@app.command()
def nodes(
    chain: Annotated[str | None, typer.Argument(metavar="[CHAIN]", help="The CAIP-2 id. Default: all.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """How each endpoint does, as the workers saw it in the last minutes."""
    with db.transaction() as session:
        rows = [{**asdict(node), "age": clock.now() - node.updated_at} for node in deposits.node_states(session, chain)]
    listing("nodes", rows, NODES, as_json=as_json, empty="No worker has asked a node lately.")


@app.command()
def coverage(chain: ChainId, *, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Which blocks were read, the newest first, and which were passed over. Exit status 1 if there are such."""
    with db.transaction() as session:
        if session.get(ChainCursor, chain) is None:
            raise NotFoundError(f"the chain {chain} has not been scanned yet")
        covers = [_row(row, COVERAGE) for row in deposits.coverage(session, chain, limit=limit)]
        gaps = [
            {"first_block": gap.first, "last_block": gap.last, "blocks": gap.blocks}
            for gap in deposits.gaps(session, chain)
        ]
    if as_json:
        document({"chain": chain, "coverage": covers, "gaps": gaps})
    else:
        if covers:
            table(covers, COVERAGE)
        else:
            typer.echo("Nothing was read yet.")
        typer.echo("")
        if gaps:
            table(gaps, GAPS, title="Passed over")
        else:
            typer.echo("No block was passed over.")
    if gaps:
        raise typer.Exit(1)


@app.command()
def rescan(
    chain: ChainId,
    *,
    first: Annotated[int, typer.Option("--from", min=0, help="The first block.")],
    last: Annotated[int, typer.Option("--to", min=0, help="The last block, which the scan has passed.")],
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
) -> None:
    """Scan a range once more, beside the scan. Prints the plan unless --commit is given.

    Finds what a scan missed, and closes gaps. What was found before stays as it is.
    """
    who, why = actor or user(), checked(reason)
    with db.transaction() as session:
        rehearsal = session.begin_nested()
        asked = deposits.request_rescan(session, chain, first=first, last=last, actor=who, reason=why)
        details(
            {"Chain": chain, "Blocks": f"{first} to {last}", "How many": last - first + 1, "As": who, "Because": why}
        )
        if not commit:
            rehearsal.rollback()
    typer.echo(f"\nAsked for, as rescan {asked.id}." if commit else f"\n{NOTHING_DONE}")


@app.command()
def rescans(
    chain: Annotated[str | None, typer.Argument(help="Of this chain only.")] = None,
    *,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """What was scanned once more, newest first, and how far that has come."""
    with db.transaction() as session:
        rows = [_row(row, RESCANS) for row in deposits.rescans(session, chain, limit=limit)]
    listing("rescans", rows, RESCANS, as_json=as_json, empty="Nothing was scanned once more yet.")


def _row(row: object, columns: tuple[Column, ...]) -> dict[str, Any]:
    return {column.of: getattr(row, column.of) for column in columns if isinstance(column.of, str)}


@app.command()
def restart(
    chain: ChainId,
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
        passed_over = from_block - (cursor.next_block or 0)
        details(
            {
                "Chain": chain,
                "Status": cursor.status,
                "Stopped by": cursor.last_error,
                "Next block": cursor.next_block,
                "Would go on from": from_block,
                "Passed over": f"{passed_over} blocks, until a rescan" if passed_over > 0 else None,
                "As": who,
                "Because": why,
            }
        )
        if commit:
            deposits.restart_scan(session, chain, next_block=from_block, actor=who, reason=why)
    typer.echo(f"\nThe scan goes on from block {from_block}." if commit else f"\n{NOTHING_DONE}")
