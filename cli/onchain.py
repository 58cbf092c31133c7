"""`tallyrail onchain`: what we send on chains, and how far each has come."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import amounts, values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, table
from core import db
from core.errors import NotFoundError
from domain.onchain import service as onchain
from domain.onchain.service import OnchainEvent, OnchainTransfer, OnchainVersion, TransferState

app = noun()
TransferId = Annotated[
    UUID, typer.Argument(metavar="TRANSFER", help="The transfer's id: of a payout, what its provider calls it.")
]
SHOWN = 6
"""Characters of an address at each end: what else there is to see, the chain shows."""


def _state(row: Mapping[str, Any]) -> str:
    return f"{row['state']} ({row['why']})" if row["why"] else str(row["state"])


COLUMNS = (
    Column("Transfer", "id"),
    Column("State", _state),
    Column("Chain", "chain"),
    Column("Amount", "amount", right=True),
    Column("To", "to"),
    Column("Versions", "versions", right=True),
    Column("Created", "created_at"),
)
VERSIONS = (
    Column("Version", "number", right=True),
    Column("Pays", lambda row: "nobody" if row["cancels"] else "its recipient"),
    Column("Transaction", lambda row: row["chain_tx"] or row["refusal"] or "with the signer"),
    Column("At most", "fee_max", right=True),
    Column("Cost", "cost", right=True),
    Column("Shown", "broadcasts", right=True),
    Column("Nodes", "reception"),
)
HISTORY = (
    Column("At", "at"),
    Column("Event", "event"),
    Column("State", "state"),
    Column("By", "actor"),
    Column("Because", lambda row: row["reason"] or "", free=True),
    Column("Detail", lambda row: row["detail"] or "", free=True),
)


def _row(transfer: OnchainTransfer, versions: int) -> dict[str, Any]:
    return {
        "id": transfer.id,
        "reference": transfer.reference,
        "tenant": transfer.tenant,
        "state": transfer.state,
        "failure": transfer.failure,
        "why": transfer.why,
        "chain": transfer.chain,
        "wallet": transfer.wallet,
        "asset": transfer.asset,
        "units": transfer.units,
        "amount": amounts.with_units(transfer.units, transfer.asset, amounts.scales()),
        "to": f"{transfer.recipient[:SHOWN]}...{transfer.recipient[-SHOWN:]}",
        "versions": versions,
        "in_block": transfer.block_number,
        "version": transfer.version,
        "cancel_asked_at": transfer.cancel_asked_at,
        "created_at": transfer.created_at,
        "sent_at": transfer.sent_at,
        "ended_at": transfer.ended_at,
        "final_at": transfer.final_at,
        "next_look_at": transfer.next_look_at,
    }


def _version(version: OnchainVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "cancels": version.cancels,
        "inputs": list(version.decoded.inputs),
        "chain_tx": version.chain_tx,
        "refusal": version.refusal,
        "fee_max": version.fee_max,
        "cost": version.cost_units,
        "broadcasts": version.broadcasts,
        "broadcast_at": version.broadcast_at,
        "reception": version.reception,
        "reception_why": version.reception_why,
    }


def _event(event: OnchainEvent) -> dict[str, Any]:
    return {
        "at": event.at,
        "event": event.event,
        "state": event.state_after,
        "actor": event.actor,
        "reason": event.reason,
        "detail": event.detail,
    }


@app.command("list")
def list_transfers(
    *,
    chain: Annotated[str | None, typer.Option(help="Only of this chain.")] = None,
    state: Annotated[list[TransferState] | None, typer.Option(help="May be repeated. Default: all.")] = None,
    limit: values.Limit = 50,
    cursor: Annotated[UUID | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Transfers of ours, newest first."""
    with db.transaction() as session:
        found = onchain.page(session, chain=chain, states=state or (), before=cursor, limit=limit + 1)
        rows = [_row(each, len(onchain.versions(session, each.id))) for each in found[:limit]]
    listing(
        "transfers",
        rows,
        COLUMNS,
        as_json=as_json,
        empty="There are no such transfers.",
        paged=True,
        next_cursor=str(found[limit - 1].id) if len(found) > limit else None,
    )


@app.command()
def show(transfer: TransferId, *, as_json: AsJson = False) -> None:
    """One transfer: its versions, what nodes made of them, and its history."""
    with db.transaction() as session:
        found = onchain.get(session, transfer)
        if found is None:
            raise NotFoundError(f"there is no transfer {transfer}")
        versions = [_version(each) for each in onchain.versions(session, transfer)]
        history = [_event(each) for each in onchain.history(session, transfer)]
        row = _row(found, len(versions))
    if as_json:
        document({**row, "versions": versions, "history": history})
        return
    details({name: value for name, value in row.items() if name != "versions" and value is not None})
    if versions:
        typer.echo("")
        table(versions, VERSIONS)
    if history:
        typer.echo("")
        table(history, HISTORY)


@app.command()
def cancel(
    transfer: TransferId, *, reason: Reason, actor: Actor = None, commit: Commit = False, as_json: AsJson = False
) -> None:
    """Have it pay nobody, if that can still be had: its payout is then tried anew. Prints the plan unless --commit."""
    why, who = checked(reason), actor or user()
    with db.transaction() as session:
        found = onchain.get(session, transfer)
        if found is None:
            raise NotFoundError(f"there is no transfer {transfer}")
        before = found.state
        if commit:
            found = onchain.cancel(session, transfer, actor=f"person:{who}", reason=why)
            session.flush()
        row = _row(found, len(onchain.versions(session, transfer)))
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(f"Cancel {transfer}, as {who}: {why}")
    typer.echo(f"{row['amount']} to {row['to']} on {row['chain']} ({before})")
    if not commit:
        typer.echo(NOTHING_DONE)
    elif row["state"] == TransferState.CANCELLED:
        typer.echo("It is cancelled: nothing was signed.")
    else:
        typer.echo(f"It is {row['state']}. A version that pays nobody will compete with those that pay.")
