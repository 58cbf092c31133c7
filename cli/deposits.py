"""`tallyrail deposits`."""

from collections.abc import Collection
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import amounts, values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, pretty, section, table
from core import db
from core.errors import ConflictError, NotFoundError
from domain.deposit import service as deposits
from domain.deposit.service import Deposit, DepositEvent, DepositState
from ledger import freezes

app = noun()
COLUMNS = (
    Column("Deposit", "id"),
    Column("State", lambda row: f"{row['state']} ({row['reason']})" if row["reason"] else row["state"]),
    Column("Tenant", "tenant"),
    Column("Account", "account"),
    Column("Expected", "amount_expected", right=True),
    Column("Received", "amount_received", right=True),
    Column("Units", "units_received", right=True),
    Column("Asset", "asset"),
    Column("Created", "created_at"),
)
OWED = (
    Column("Owed", "units_short", right=True),
    Column("Froze", lambda row: "yes" if row["freezes"] else ""),
)
WAITING = (Column("Waits for", "waits_for"), Column("Since", "waits_since"))
HISTORY = (
    Column("At", "at"),
    Column("Event", "event"),
    Column("State", "state"),
    Column("Detail", lambda row: row["detail"] or "", free=True),
)
DepositId = Annotated[UUID, typer.Argument(metavar="DEPOSIT", help="The deposit's id.")]


def _row(deposit: Deposit, holders: Collection[str]) -> dict[str, Any]:
    """`holders`: who holds an account frozen."""
    known = amounts.scales()
    return {
        "id": deposit.id,
        "tenant": deposit.tenant,
        "state": deposit.state,
        "reason": deposit.reason,
        "mode": deposit.mode,
        "chain": deposit.chain,
        "asset": deposit.asset,
        "account": deposit.account,
        "address": deposit.address,
        "tag": deposit.tag,
        "payment_uri": deposits.payment_uri(deposit),
        "chain_tx": deposit.chain_tx,
        "payer": deposit.payer,
        "units_expected": _text(deposit.units_expected),
        "amount_expected": amounts.amount(deposit.units_expected, deposit.asset, known),
        "units_received": _text(deposit.units_received),
        "amount_received": amounts.amount(deposit.units_received, deposit.asset, known),
        "units_short": _text(deposit.units_short),
        "freezes": deposit.subject in holders,
        "value_currency": deposit.value_currency,
        "value_units": _text(deposit.value_units),
        "accepts": deposit.accepts,
        "waits_for": deposit.waits_for,
        "waits_since": deposit.waits_since,
        "priced_at": deposit.priced_at,
        "agreed_at": deposit.agreed_at,
        "disputed_at": deposit.disputed_at,
        "tolerance_bps": deposit.tolerance_bps,
        "confirmations": deposit.confirmations,
        "confirmations_seen": deposit.confirmations_seen,
        "block_number": deposit.block_number,
        "block_hash": deposit.block_hash,
        "incarnation": deposit.incarnation,
        "journal_id": deposit.journal_id,
        "release_journal_id": deposit.release_journal_id,
        "correlation_id": deposit.correlation_id,
        "deadline_at": deposit.deadline_at,
        "next_poll_at": deposit.next_poll_at,
        "final_at": deposit.final_at,
        "created_at": deposit.created_at,
        "updated_at": deposit.updated_at,
        "metadata": deposit.details,
    }


def _text(units: int | None) -> str | None:
    return None if units is None else str(units)


def _event(event: DepositEvent) -> dict[str, Any]:
    return {"at": event.at, "event": event.event, "state": event.state_after, "detail": event.detail}


@app.command("list")
def list_deposits(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    state: Annotated[DepositState | None, typer.Option()] = None,
    owed: Annotated[bool, typer.Option("--owed", help="Only what a reorg undid: a debt or a frozen account.")] = False,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what waits for a node or a rate.")] = False,
    limit: values.Limit = 50,
    cursor: Annotated[UUID | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Deposits, newest first."""
    with db.transaction() as session:
        found = deposits.page(
            session, tenant=tenant, state=state, before=cursor, limit=limit + 1, owed=owed, waiting=waiting
        )
        holders = freezes.holders(session, Deposit.SUBJECT)
    listing(
        "deposits",
        [_row(deposit, holders) for deposit in found[:limit]],
        (*COLUMNS, *(OWED if owed else ()), *(WAITING if waiting else ())),
        as_json=as_json,
        empty="There are no such deposits.",
        paged=True,
        next_cursor=str(found[limit - 1].id) if len(found) > limit else None,
    )


@app.command()
def show(deposit: DepositId, *, as_json: AsJson = False) -> None:
    """One deposit with its history."""
    with db.transaction() as session:
        found = deposits.get(session, deposit)
        if found is None:
            raise NotFoundError(f"there is no deposit {deposit}")
        history = [_event(event) for event in deposits.history(session, deposit)]
        holders = freezes.holders(session, found.subject)
    if as_json:
        document({**_row(found, holders), "history": history})
        return
    _show(found, freezes_it=bool(holders))
    typer.echo("")
    table(history, HISTORY)


@app.command()
def release(
    deposit: DepositId,
    *,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Give a suspended deposit's money to its account. Prints the plan unless --commit is given."""
    who, why = actor or user(), checked(reason)
    with db.transaction() as session:
        found = deposits.get(session, deposit)
        if found is None:
            raise NotFoundError(f"there is no deposit {deposit}")
        if found.current is not DepositState.SUSPENDED:
            raise ConflictError(f"the deposit {deposit} is {found.state}; only a suspended one can be released")
        arrived = amounts.with_units(found.units_received, found.asset, amounts.scales())
        if commit:
            found = deposits.release(session, deposit, actor=who, reason=why)
        row = _row(found, freezes.holders(session, found.subject))
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(
        f"Deposit {deposit} ({row['reason']}): {arrived} to {row['account']} of {row['tenant']}, as {who}: {why}"
    )
    typer.echo(f"Released, as journal {row['release_journal_id']}." if commit else NOTHING_DONE)


def _show(deposit: Deposit, *, freezes_it: bool) -> None:
    known = amounts.scales()
    details(
        {
            "Deposit": deposit.id,
            "Tenant": deposit.tenant,
            "State": deposit.state,
            "Reason": deposit.reason,
            "Asset": deposit.asset,
            "Account": deposit.account,
            "Expected": amounts.with_units(deposit.units_expected, deposit.asset, known),
            "Received": amounts.with_units(deposit.units_received, deposit.asset, known),
            "Value": amounts.with_units(deposit.value_units, deposit.value_currency or "", known),
            "Accepts": deposit.accepts or None,
            "Waits for": deposit.waits_for,
            "Since": deposit.waits_since,
            "Agreed": deposit.agreed_at,
            "Disputed": deposit.disputed_at,
            "Account frozen by it": "yes" if freezes_it else None,
            "Owed": amounts.with_units(deposit.units_short or None, deposit.asset, known),
            "Address": deposit.address,
            "Tag": deposit.tag,
            "Payment URI": deposits.payment_uri(deposit),
            "Chain tx": deposit.chain_tx,
            "Block": deposit.block_number,
            "Block hash": deposit.block_hash,
            "Confirmations": deposit.confirmations_seen or None,
            "Undone by reorgs": deposit.incarnation or None,
            "Deadline": deposit.deadline_at,
            "Next look": deposit.next_poll_at,
            "Final": deposit.final_at,
            "Journal": deposit.journal_id,
            "Release": deposit.release_journal_id,
            "Correlation": deposit.correlation_id,
        }
    )
    if deposit.details:
        section("Metadata", pretty(deposit.details))
