"""`tallyrail fiat`."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import amounts, values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, pretty, section, table
from core import db, jobs
from core.errors import ConflictError, NotFoundError
from core.jobs import NewJob
from domain.fiat_payment import service as payments
from domain.fiat_payment.service import FiatPayment, FiatPaymentEvent, FiatRefund, NewRefund, PaymentState
from domain.rates.service import usable
from ledger import freezes

LOOK = "fiat_webhook.look"
app = noun()
COLUMNS = (
    Column("Payment", "id"),
    Column("State", lambda row: f"{row['state']} ({row['hold_reason']})" if row["hold_reason"] else row["state"]),
    Column("Tenant", "tenant"),
    Column("Account", "account"),
    Column("Asked", "amount", right=True),
    Column("Paid", "amount_paid", right=True),
    Column("Gateway", "provider"),
    Column("Created", "created_at"),
)
HISTORY = (
    Column("At", "at"),
    Column("Event", "event"),
    Column("State", "state"),
    Column("Detail", lambda row: row["detail"] or "", free=True),
)
REFUNDS = (
    Column("Refund", "id"),
    Column("State", "state"),
    Column("Units", "units", right=True),
    Column("By", "actor"),
    Column("Because", "reason", free=True),
)


class RefundEnd(StrEnum):
    MADE = "made"
    NOT_MADE = "not-made"


PaymentId = Annotated[UUID, typer.Argument(metavar="PAYMENT", help="The payment's id, which is its reference too.")]


def _row(payment: FiatPayment) -> dict[str, Any]:
    known = amounts.scales()
    return {
        "id": payment.id,
        "tenant": payment.tenant,
        "state": payment.state,
        "hold_reason": payment.hold_reason,
        "waits_for": payment.waits_for,
        "waits_since": payment.waits_since,
        "failure": payment.failure,
        "account": payment.account,
        "currency": payment.currency,
        "units": str(payment.units),
        "amount": amounts.amount(payment.units, payment.currency, known),
        "provider": payment.provider,
        "provider_ref": payment.provider_ref,
        "duplicate_of": payment.duplicate_of,
        "method": payment.method,
        "paid_currency": payment.paid_currency,
        "paid_units": str(payment.paid_units),
        "amount_paid": amounts.amount(payment.paid_units or None, payment.paid_currency, known),
        "provider_fee_units": None if payment.provider_fee_units is None else str(payment.provider_fee_units),
        "refunded_units": str(payment.refunded_units),
        "disputed_units": str(payment.disputed_units),
        "charged_back_units": str(payment.charged_back_units),
        "suspended_units": str(payment.suspended_units),
        "credit_asset": payment.credit_asset,
        "credited_asset": payment.credited_asset,
        "credited_units": str(payment.credited_out - payment.returned_out),
        "owed_units": str(payment.short_units),
        "quote_id": payment.quote_id,
        "next_look_at": payment.next_look_at,
        "correlation_id": payment.correlation_id,
        "expires_at": payment.expires_at,
        "created_at": payment.created_at,
        "updated_at": payment.updated_at,
        "metadata": payment.details,
    }


def _event(event: FiatPaymentEvent) -> dict[str, Any]:
    return {"at": event.at, "event": event.event, "state": event.state_after, "detail": event.detail}


def _refund(refund: FiatRefund) -> dict[str, Any]:
    return {
        "id": refund.id,
        "state": refund.state,
        "units": str(refund.units),
        "actor": refund.actor,
        "reason": refund.reason,
        "failure": refund.why,
        "created_at": refund.created_at,
    }


def _found(session: Any, payment: UUID) -> FiatPayment:
    found = payments.get(session, payment)
    if found is None:
        raise NotFoundError(f"there is no fiat payment {payment}")
    return found


@app.command("list")
def list_payments(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    state: Annotated[PaymentState | None, typer.Option()] = None,
    held: Annotated[bool, typer.Option("--held", help="Only those that wait for a person.")] = False,
    limit: values.Limit = 50,
    cursor: Annotated[UUID | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Payments, newest first."""
    with db.transaction() as session:
        found = payments.page(session, tenant=tenant, state=state, held=held, before=cursor, limit=limit + 1)
    listing(
        "fiat_payments",
        [_row(payment) for payment in found[:limit]],
        COLUMNS,
        as_json=as_json,
        empty="There are no such payments.",
        paged=True,
        next_cursor=str(found[limit - 1].id) if len(found) > limit else None,
    )


@app.command()
def show(payment: PaymentId, *, as_json: AsJson = False) -> None:
    """One payment with its refunds and its history."""
    with db.transaction() as session:
        found = _found(session, payment)
        history = [_event(event) for event in payments.history(session, payment)]
        refunds = [_refund(refund) for refund in payments.refunds(session, payment)]
        freezes_it = bool(freezes.holders(session, found.subject))
    if as_json:
        document({**_row(found), "freezes": freezes_it, "refunds": refunds, "history": history})
        return
    _show(found, freezes_it=freezes_it)
    typer.echo("")
    if refunds:
        table(refunds, REFUNDS)
        typer.echo("")
    table(history, HISTORY)


@app.command()
def release(
    payment: PaymentId,
    *,
    reason: Reason,
    at_moment: Annotated[
        bool, typer.Option("--at-moment", help="Convert at the rate of the moment, whatever was quoted.")
    ] = False,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Credit a held payment as it was paid. Prints the plan unless --commit is given."""
    who, why = actor or user(), checked(reason)
    payments.use_rates(usable)
    with db.transaction() as session:
        found = _found(session, payment)
        held = found.hold_reason
        if held is None:
            raise ConflictError(
                f"the fiat payment {payment} is {found.state} and not held: there is nothing to release"
            )
        waiting = amounts.with_units(found.suspended_units, found.paid_currency, amounts.scales())
        if commit:
            found = payments.release(session, payment, actor=who, reason=why, at_moment=at_moment)
        row = _row(found)
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(f"Payment {payment} ({held}): {waiting} to {row['account']} of {row['tenant']}, as {who}: {why}")
    if not commit:
        typer.echo(NOTHING_DONE)
    elif row["hold_reason"] or row["waits_for"]:
        typer.echo(f"Released; it still waits: {row['hold_reason'] or row['waits_for']}.")
    else:
        typer.echo(f"Released: it is {row['state']}.")


@app.command()
def refund(
    payment: PaymentId,
    *,
    reason: Reason,
    units: Annotated[int | None, typer.Option(min=1, help="Of its currency. Default: all that is left.")] = None,
    owe: Annotated[
        bool, typer.Option("--owe", help="Also if the account has spent it: the rest is then owed by its owner.")
    ] = False,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Give money back to the payer. Prints the plan unless --commit is given."""
    who, why = actor or user(), checked(reason)
    with db.transaction() as session:
        found = _found(session, payment)
        back = found.paid_units - found.gone_units if units is None else units
        said = amounts.with_units(back, found.paid_currency, amounts.scales())
        made = None
        if commit:
            new = NewRefund(payment_id=payment, units=back, reason=why, actor=who, may_owe=owe)
            made = _refund(payments.request_refund(session, new))
    if as_json:
        document({"payment": payment, "units": str(back), "refund": made, "committed": commit})
        return
    typer.echo(f"Payment {payment}: {said} back by {found.provider or 'no gateway'}, as {who}: {why}")
    typer.echo(f"Asked for, as refund {made['id']}." if made else NOTHING_DONE)


@app.command("end-refund")
def end_refund(
    refund: Annotated[UUID, typer.Argument(metavar="REFUND", help="The refund's id, as `show` of its payment has it.")],
    *,
    outcome: Annotated[
        RefundEnd, typer.Option(help="made: the payer has the money, or will. not-made: he doesn't and never will.")
    ],
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Say what became of a refund that its gateway says nothing of. Prints the plan unless --commit is given."""
    who, why = actor or user(), checked(reason)
    with db.transaction() as session:
        found = payments.get_refund(session, refund)
        if found is None:
            raise NotFoundError(f"there is no refund {refund}")
        if commit:
            found = payments.end_refund(session, refund, was_made=outcome is RefundEnd.MADE, actor=who, reason=why)
        row = {"payment": found.payment_id, **_refund(found)}
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(f"Refund {refund} of payment {row['payment']} ({row['units']} units) was {outcome}, as {who}: {why}")
    kept = (
        "it stays held until the gateway's totals have it" if outcome is RefundEnd.MADE else "it is the owner's again"
    )
    typer.echo(f"It is {row['state']}; of the money: {kept}." if commit else NOTHING_DONE)


@app.command()
def poll(payment: PaymentId, *, as_json: AsJson = False) -> None:
    """Have the provider asked about one payment now."""
    with db.transaction() as session:
        found = _found(session, payment)
        if found.provider is None:
            raise ConflictError(f"the fiat payment {payment} is at no gateway: there is nobody to ask")
        job = jobs.submit(
            session,
            NewJob(LOOK, {"payment_id": str(payment)}, tenant=found.tenant, subject=found.subject, attempts_max=3),
        )
    if as_json:
        document({"payment": payment, "job": job})
        return
    typer.echo(f"Asked for, as job {job}. See `tallyrail fiat show {payment}`.")


def _show(payment: FiatPayment, *, freezes_it: bool) -> None:
    known = amounts.scales()

    def money(units: int | None, asset: str | None) -> str:
        return amounts.with_units(units or None, asset or "", known)

    paid_in = payment.paid_currency
    details(
        {
            "Payment": payment.id,
            "Tenant": payment.tenant,
            "State": payment.state,
            "Held": payment.hold_reason,
            "Waits for": payment.waits_for,
            "Since": payment.waits_since,
            "Failure": payment.failure,
            "Account": payment.account,
            "Asked": money(payment.units, payment.currency),
            "Paid": money(payment.paid_units, paid_in),
            "Gateway's fee": money(payment.provider_fee_units, paid_in),
            "Refunded": money(payment.refunded_units, paid_in),
            "Disputed": money(payment.disputed_units, paid_in),
            "Charged back": money(payment.charged_back_units, paid_in),
            "In suspense": money(payment.suspended_units, paid_in),
            "Credited": money(payment.credited_out - payment.returned_out, payment.credited_asset),
            "Owed": money(payment.short_units, payment.credited_asset),
            "Account frozen by it": "yes" if freezes_it else None,
            "Credits": payment.credit_asset,
            "Quote": payment.quote_id,
            "Gateway": payment.provider,
            "Gateway's reference": payment.provider_ref,
            "Paid again, after": payment.duplicate_of,
            "Method": payment.method,
            "Page": payment.page_url,
            "Expires": payment.expires_at,
            "Next look": payment.next_look_at,
            "Correlation": payment.correlation_id,
        }
    )
    if payment.instructions:
        section("Instructions", pretty(payment.instructions))
    if payment.details:
        section("Metadata", pretty(payment.details))
