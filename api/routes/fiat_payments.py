"""Payments by card, bank and wallet: asked for, read, and given back."""

from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import ingest, openapi, waiting
from api.auth import needs
from api.body import JsonBytes
from api.booking import Booking, IdempotencyKey, Units, once
from api.paging import Cursor, Limit, opened, seal
from api.responses import json_response
from api.routes.deposits import Metadata, Text, Word
from core import db
from core.errors import NotFoundError
from domain.access.service import Principal, Scope
from domain.fiat_payment import service as payments
from domain.fiat_payment.service import (
    Conversions,
    FiatPayment,
    FiatPaymentEvent,
    FiatRefund,
    HoldReason,
    NewFiatPayment,
    NewRefund,
    PaymentState,
    RefundState,
    Wait,
)
from domain.quote import service as quotes
from domain.quote.settings import quotes as quote_settings
from providers.fiat.base import Method

router = APIRouter(prefix="/v1/fiat-payments", tags=["fiat-payments"])

ACCEPTED = 202

EXAMPLES: list[JsonValue] = [
    {
        "account": "user:42:available",
        "currency": "iso4217:NGN",
        "units": "5000000",
        "method": "bank_transfer",
        "return_url": "https://shop.example/orders/1001",
        "description": "Order 1001",
    },
    {
        "account": "user:42:available",
        "currency": "iso4217:EUR",
        "units": "2500",
        "provider": "stripe",
        "credit_asset": "eip155:56/erc20:0x55d398326f99059ff775485246999027b3197955",
    },
]
MethodWord = Annotated[Method, Field(strict=False)]
Id = Annotated[UUID, Field(strict=False)]


class FiatPaymentRequest(BaseModel):
    """Money that somebody is to pay into an account."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    account: Word = Field(description="The account to credit, such as user:42:available")
    currency: Word = Field(description="What is paid in, such as iso4217:NGN")
    units: Units
    provider: Word | None = Field(default=None, description="The gateway; left out, we choose one that can take it")
    method: MethodWord = Field(default=Method.ANY, description="How it is paid; `any`: the payer chooses")
    credit_asset: Word | None = Field(
        default=None, description="What the account gets; default: the currency, or what the quote says"
    )
    quote_id: Id | None = Field(default=None, description="Converts as it promises; without, at the rate of the moment")
    return_url: Text | None = Field(default=None, description="Where the payer's browser goes afterwards")
    description: Text = Field(default="", description="What the payer reads")
    expires_in: int | None = Field(default=None, ge=1, le=10_000_000, description="Seconds that the payer has")
    payer_email: Text | None = Field(
        default=None,
        repr=False,
        description="For gateways that insist on one. Passed on with the order and not kept",
    )
    metadata: Metadata = Field(default_factory=dict, description="Yours; given back with the payment")


class RefundBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [{"units": "2500"}]})

    units: Units
    reason: Text = Field(default="requested", description="For the provider and for people")


class PaymentLinks(BaseModel):
    payment: str
    refunds: str
    jobs: str = Field(description="All jobs of this payment")
    journals: str = Field(description="What it did to the books")


class FiatPaymentView(BaseModel):
    """One payment. Amounts are totals, in units of `paid_currency`; `credited_units` are of `credited_asset`."""

    id: UUID
    state: PaymentState
    hold_reason: HoldReason | None = Field(description="It waits for a person, and why")
    waits_for: Wait | None = Field(description="It is paid, and credited as soon as this is there")
    failure: str | None = Field(description="Why there is no order, in the gateway's code")
    account: str
    currency: str
    units: str = Field(description="What was asked for")
    provider: str | None = Field(description="The gateway; null until one is chosen")
    provider_ref: str | None = Field(description="What the gateway calls it")
    duplicate_of: UUID | None = Field(
        description="The payment that was paid at another gateway as well: this is the second money, which is held"
    )
    method: Method
    page_url: str | None = Field(description="Where the payer pays; null until the gateway has the order")
    instructions: dict[str, str] = Field(description="What the payer is told for a bank transfer")
    paid_currency: str
    paid_units: str
    refunded_units: str
    disputed_units: str
    charged_back_units: str
    provider_fee_units: str | None
    credit_asset: str
    credited_asset: str | None
    credited_units: str = Field(description="What the account has of it, after what went back")
    owed_units: str = Field(description="Of what went back: what the account no longer had")
    quote_id: UUID | None
    return_url: str | None
    description: str
    metadata: dict[str, Any]
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    links: PaymentLinks


class FiatPaymentEventView(BaseModel):
    at: datetime
    event: str
    state_before: PaymentState | None
    state_after: PaymentState
    detail: dict[str, Any]


class RefundView(BaseModel):
    id: UUID
    payment_id: UUID
    state: RefundState
    units: str
    reason: str
    failure: str | None
    created_at: datetime
    updated_at: datetime


class FiatPaymentDetail(FiatPaymentView):
    refunds: list[RefundView]
    history: list[FiatPaymentEventView]


class FiatPaymentPage(BaseModel):
    fiat_payments: list[FiatPaymentView]
    next_cursor: str | None


# --- asking for payments ---------------------------------------------------------------------------------------------


def _conversions() -> Conversions:
    chosen = quote_settings()
    return Conversions(quotes.consume, chosen.slippage_bps, chosen.spread_of)


def _create(tenant: str, session: Session, _reference: str, asked: FiatPaymentRequest) -> tuple[FiatPaymentView, bool]:
    new = NewFiatPayment(
        tenant=tenant,
        account=asked.account,
        currency=asked.currency,
        units=asked.units,
        provider=asked.provider,
        method=asked.method,
        credit_asset=asked.credit_asset,
        quote_id=asked.quote_id,
        return_url=asked.return_url,
        description=asked.description,
        expires_in=None if asked.expires_in is None else timedelta(seconds=asked.expires_in),
        payer_email=asked.payer_email,
        details=asked.metadata,
        correlation_id=ingest.correlation_id(),
    )
    return _view(payments.create(session, new, _conversions())), True


@router.post(
    "",
    status_code=ACCEPTED,
    summary="Ask for a payment",
    responses={ACCEPTED: {"model": FiatPaymentView, "description": "Durably accepted"}},
    openapi_extra=openapi.body_of(FiatPaymentRequest),
)
async def create_fiat_payment(
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.FIAT_PAYMENTS_WRITE)],
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[
        str | None,
        Header(description=f"`wait=10` (RFC 7240): answer when the page is there, at most {waiting.WAIT_MAX} s later"),
    ] = None,
) -> Response:
    """Accepted means written: the payment and the job that asks a gateway for the order are one transaction.

    With `Prefer: wait=N` the answer is the payment as it is once it has a page or has failed, or after N seconds.
    """
    booking = Booking(
        "fiat_payment",
        Scope.FIAT_PAYMENTS_WRITE,
        FiatPaymentRequest,
        partial(_create, caller.tenant),
        status=ACCEPTED,
        location="/v1/fiat-payments",
        fields={"quote": "quote_id"},
    )
    response = await run_in_threadpool(once, caller, booking, idempotency_key, body)
    return await waiting.preferred(
        response,
        prefer,
        read=partial(_read, caller.tenant),
        is_over=lambda payment: payment.current is not PaymentState.CREATED,
        view=_view,
    )


def _read(tenant: str, payment_id: UUID) -> FiatPayment:
    with db.transaction() as session:
        found = payments.get(session, payment_id, tenant=tenant)
    if found is None:
        raise NotFoundError(f"there is no fiat payment {payment_id}")
    return found


@router.post(
    "/{payment_id}/refunds",
    status_code=ACCEPTED,
    summary="Give money back to the payer",
    responses={ACCEPTED: {"model": RefundView, "description": "Durably accepted"}},
    openapi_extra=openapi.body_of(RefundBody),
)
def refund_fiat_payment(
    payment_id: UUID,
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.FIAT_PAYMENTS_WRITE)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """What the account was credited with is held at once. If it has been spent: 409 insufficient-funds."""
    booking = Booking(
        f"fiat_payment.refund:{payment_id}",
        Scope.FIAT_PAYMENTS_WRITE,
        RefundBody,
        partial(_refund, caller.tenant, payment_id),
        status=ACCEPTED,
    )
    return once(caller, booking, idempotency_key, body)


def _refund(
    tenant: str, payment_id: UUID, session: Session, _reference: str, asked: RefundBody
) -> tuple[RefundView, bool]:
    new = NewRefund(payment_id=payment_id, tenant=tenant, units=asked.units, reason=asked.reason, actor=f"api:{tenant}")
    return _refund_view(payments.request_refund(session, new)), True


# --- reading ---------------------------------------------------------------------------------------------------------


@router.get("", summary="List payments, newest first", responses={200: {"model": FiatPaymentPage}})
def list_fiat_payments(  # noqa: PLR0917  # parameters of a query
    caller: Annotated[Principal, needs(Scope.FIAT_PAYMENTS_READ)],
    state: PaymentState | None = None,
    account: Annotated[str | None, Query(pattern=r"^[!-~]{1,200}$", examples=["user:42:available"])] = None,
    held: Annotated[bool, Query(description="Only those that wait for a person")] = False,  # noqa: FBT002
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    before = opened("fiat_payments", cursor)
    with db.transaction() as session:
        rows = payments.page(
            session, tenant=caller.tenant, state=state, account=account, held=held, before=before, limit=limit + 1
        )
    more = seal("fiat_payments", rows[limit - 1].id) if len(rows) > limit else None
    return json_response(FiatPaymentPage(fiat_payments=[_view(row) for row in rows[:limit]], next_cursor=more))


@router.get("/{payment_id}", summary="Read a payment and its history", responses={200: {"model": FiatPaymentDetail}})
def read_fiat_payment(payment_id: UUID, caller: Annotated[Principal, needs(Scope.FIAT_PAYMENTS_READ)]) -> Response:
    with db.transaction() as session:
        found = payments.get(session, payment_id, tenant=caller.tenant)
        if found is None:
            raise NotFoundError(f"there is no fiat payment {payment_id}")
        detail = FiatPaymentDetail(
            **_fields(found),
            refunds=[_refund_view(row) for row in payments.refunds(session, payment_id)],
            history=[_event(row) for row in payments.history(session, payment_id)],
        )
    return json_response(detail)


def _view(payment: FiatPayment) -> FiatPaymentView:
    return FiatPaymentView(**_fields(payment))


_UNITS = ("units", "paid_units", "refunded_units", "disputed_units", "charged_back_units")
_COMPUTED = {*_UNITS, "provider_fee_units", "credited_units", "owed_units", "metadata", "links"}


def _fields(payment: FiatPayment) -> dict[str, Any]:
    same = {name: getattr(payment, name) for name in FiatPaymentView.model_fields if name not in _COMPUTED}
    here = f"/v1/fiat-payments/{payment.id}"
    fee = payment.provider_fee_units
    return {
        **same,
        **{name: str(getattr(payment, name)) for name in _UNITS},
        "provider_fee_units": None if fee is None else str(fee),
        "credited_units": str(payment.credited_out - payment.returned_out),
        "owed_units": str(payment.short_units),
        "metadata": payment.details,
        "links": {
            "payment": here,
            "refunds": f"{here}/refunds",
            "jobs": f"/v1/jobs?subject={payment.subject}",
            "journals": f"/v1/journals?subject={payment.subject}",
        },
    }


def _refund_view(refund: FiatRefund) -> RefundView:
    return RefundView(
        id=refund.id,
        payment_id=refund.payment_id,
        state=refund.current,
        units=str(refund.units),
        reason=refund.reason,
        failure=refund.why,
        created_at=refund.created_at,
        updated_at=refund.updated_at,
    )


def _event(event: FiatPaymentEvent) -> FiatPaymentEventView:
    return FiatPaymentEventView(
        at=event.at,
        event=event.event,
        state_before=None if event.state_before is None else PaymentState(event.state_before),
        state_after=PaymentState(event.state_after),
        detail=event.detail,
    )
