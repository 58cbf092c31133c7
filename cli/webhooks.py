"""`tallyrail webhooks`: what providers told us, and what became of it."""

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, pretty, section, table
from core import db, jobs
from domain.webhook import service
from domain.webhook.models import WebhookReceipt
from domain.webhook.states import ReceiptState

app = noun()
COLUMNS = (
    Column("Webhook", "id"),
    Column("Provider", "provider"),
    Column("State", "state"),
    Column("Received", "received_at"),
    Column("Repeats", "repeats", right=True),
    Column("Secret", "secret", right=True),
    Column("Note", lambda row: row["note"] or "", free=True),
)
JOBS = (Column("Job", "id"), Column("Status", "status"), Column("Attempts", "attempts", right=True),
        Column("Runs at", "run_at"), Column("Error", "error", free=True))  # fmt: skip
SHOWN = frozenset(
    {
        "id", "event", "event_type", "type", "object", "status", "state", "currency", "amount", "created", "created_at",
        "reference", "tx_ref", "flw_ref", "order_id", "orderNo", "merchantOrderNo", "payment_intent", "fiat",
        "payment_method", "callback_time", "client_reference_id", "entity", "account_id",
    }
)  # fmt: skip
"""Members of bodies that are names and amounts. The words of all others are hidden: a payer may be in any of them."""
HIDDEN = "…"
ReceiptId = Annotated[UUID, typer.Argument(metavar="RECEIPT")]


@app.command("list")
def list_receipts(
    *,
    provider: Annotated[str | None, typer.Option(help="Only of this provider.")] = None,
    state: Annotated[ReceiptState | None, typer.Option(help="Only in this state.")] = None,
    before: Annotated[
        UUID | None, typer.Option(metavar="RECEIPT", help="Go on below this one, the last of the page.")
    ] = None,
    limit: values.Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Webhooks that were kept, newest first."""
    with db.transaction() as session:
        found = service.page(session, provider=provider, state=state, before=before, limit=limit)
    listing("webhooks", [_row(one) for one in found], COLUMNS, as_json=as_json, empty="There are no such webhooks.")


@app.command()
def show(
    receipt: ReceiptId,
    *,
    raw: Annotated[bool, typer.Option("--raw", help="The body as it came. It may hold a payer's data.")] = False,
    as_json: AsJson = False,
) -> None:
    """One webhook, with what it says and the jobs that looked at it."""
    with db.transaction() as session:
        found = service.get(session, receipt)
        looked = [_job_row(job) for job in jobs.page(session, subject=service.subject(receipt))]
    row = _row(found)
    body = _body(found.body, raw=raw)
    if as_json:
        document({**row, "headers": found.headers, "body": body, "jobs": looked})
        return
    details({name.replace("_", " ").capitalize(): value for name, value in row.items()})
    if body is None:
        typer.echo("\nIts body was deleted: its time was over.")
    else:
        section("Body" if raw else "Body, with words hidden", body if isinstance(body, str) else pretty(body))
    if looked:
        typer.echo("")
        table(looked, JOBS, title="Jobs")


@app.command()
def replay(
    receipt: ReceiptId,
    *,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Handle a webhook once more, from the beginning. Money that is booked is not booked again."""
    who = actor or user()
    with db.transaction() as session:
        before = service.get(session, receipt).state
        row = _row(service.replay(session, receipt, actor=who))
        if not commit:
            session.rollback()
    _report(row, f"{row['provider']}, {before}: handled once more, for {who}.", commit=commit, as_json=as_json)


@app.command()
def ignore(
    receipt: ReceiptId,
    *,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Take a webhook off the list of those that wait: it is about nothing of ours."""
    reason = checked(reason)
    who = actor or user()
    with db.transaction() as session:
        before = service.get(session, receipt).state
        row = _row(service.ignore(session, receipt, actor=who, reason=reason))
        if not commit:
            session.rollback()
    _report(row, f"{row['provider']}, {before}: ignored by {who}: {reason}", commit=commit, as_json=as_json)


def _report(row: dict[str, Any], words: str, *, commit: bool, as_json: bool) -> None:
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(f"{row['id']}: {words}")
    if not commit:
        typer.echo(NOTHING_DONE)


def _row(found: WebhookReceipt) -> dict[str, Any]:
    hidden = {"body", "headers"}
    return {column.name: getattr(found, column.name) for column in WebhookReceipt.__table__.columns
            if column.name not in hidden}  # fmt: skip


def _job_row(job: jobs.Job) -> dict[str, Any]:
    error = (job.last_error or {}).get("message", "")
    return {"id": job.id, "status": job.status, "attempts": job.attempts, "run_at": job.run_at, "error": error}


def _body(body: bytes | None, *, raw: bool) -> Any:
    """For eyes: as it came, or with every word hidden that may be a payer's. None: there is none any more."""
    if body is None:
        return None
    if raw:
        return body.decode(errors="backslashreplace")
    try:
        return redacted(json.loads(body, parse_float=str, parse_constant=str))
    except (ValueError, RecursionError):
        return f"{len(body)} bytes that are no JSON"


def redacted(content: Any, name: str = "") -> Any:
    """The same shape. Of values only those whose names say that they are names and amounts."""
    match content:
        case dict():
            return {key: redacted(value, key) for key, value in content.items()}
        case list():
            return [redacted(value, name) for value in content]
        case None | bool():
            return content
        case _:
            return content if name in SHOWN else HIDDEN
