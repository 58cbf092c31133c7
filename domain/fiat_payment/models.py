from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn
from core.money import UnitsType
from domain.fiat_payment.states import HoldReason, PaymentState, RefundState

ZERO = text("0")


class FiatPayment(Base):
    """One payment. Nothing of who pays is kept, but an address that is sealed until the order is made."""

    __tablename__ = "fiat_payments"
    __table_args__ = (
        CheckConstraint("units > 0", name="units"),
        CheckConstraint(
            "paid_units >= 0 AND refunded_units >= 0 AND disputed_units >= 0 AND charged_back_units >= 0",
            name="totals",
        ),
        CheckConstraint("credited_units <= paid_units AND returned_units <= credited_units", name="credited"),
        CheckConstraint("suspended_units >= 0 AND short_units >= 0", name="suspended"),
        Index("ix_fiat_payments_tenant", "tenant", "id"),
        Index("ix_fiat_payments_account", "tenant", "account", "id"),
        Index("ix_fiat_payments_due", "next_look_at", postgresql_where=text("next_look_at IS NOT NULL")),
        Index("ix_fiat_payments_waiting", "waits_since", postgresql_where=text("waits_for IS NOT NULL")),
        Index("ix_fiat_payments_held", "id", postgresql_where=text("hold_reason IS NOT NULL")),
        Index("ix_fiat_payments_settle_by", "provider", "settle_by", postgresql_where=text("settle_by IS NOT NULL")),
        Index(
            "uq_fiat_payments_duplicate_of",
            "duplicate_of",
            "provider",
            unique=True,
            postgresql_where=text("duplicate_of IS NOT NULL"),
        ),
        Index(
            "ix_fiat_payments_live",
            "state",
            postgresql_where=text("state IN ('created', 'pending', 'paid', 'disputed')"),
        ),
        Index(
            "uq_fiat_payments_provider_ref",
            "provider",
            "provider_ref",
            unique=True,
            postgresql_where=text("provider_ref IS NOT NULL"),
        ),
    )

    # What was asked for. It never changes.
    id: Mapped[IdColumn]
    """Also our reference at the provider, and the key of each request about it; but see `duplicate_of`."""
    duplicate_of: Mapped[UUID | None] = mapped_column(ForeignKey("fiat_payments.id"))
    """Nobody asked for this one: that payment was paid at two gateways, and this is what the second has."""
    tenant: Mapped[str]
    account: Mapped[str]
    currency: Mapped[str]
    units: Mapped[int] = mapped_column(UnitsType)
    credit_asset: Mapped[str]
    """What the account is credited with: the currency itself, or what it is converted into."""
    quote_id: Mapped[UUID | None]
    quote_units_out: Mapped[int | None] = mapped_column(UnitsType)
    quote_spread: Mapped[int | None] = mapped_column(UnitsType)
    quote_remainder: Mapped[int | None] = mapped_column(UnitsType)
    quote_rate: Mapped[str | None]
    """Without the spread: how many whole credited assets a whole one of the currency was worth, as a fraction."""
    quote_rate_at: Mapped[datetime | None]
    quote_slippage_bps: Mapped[int | None] = mapped_column(Integer)
    fee_bps: Mapped[int] = mapped_column(Integer)
    spread_bps: Mapped[int] = mapped_column(Integer)
    method: Mapped[str]
    automatic: Mapped[bool]
    """The gateway is ours to choose."""
    return_url: Mapped[str | None]
    description: Mapped[str]
    # `metadata` is taken in SQLAlchemy's classes.
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, default=dict)
    correlation_id: Mapped[str | None]
    payer_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The payer's address for the provider, encrypted; removed with the outcome of the order."""
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime]

    # The order at the provider.
    provider: Mapped[str | None]
    provider_ref: Mapped[str | None]
    page_url: Mapped[str | None]
    instructions: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    closed: Mapped[bool] = mapped_column(default=False)
    """The provider said that it is paid, or that nobody can pay any more: what is there is all there will be."""
    paid_currency: Mapped[str]
    """Of all amounts below, as the provider said it. It is `currency` unless something is wrong."""
    paid_units: Mapped[int] = mapped_column(UnitsType, default=0)
    provider_fee_units: Mapped[int | None] = mapped_column(UnitsType)
    refunded_units: Mapped[int] = mapped_column(UnitsType, default=0)
    disputed_units: Mapped[int] = mapped_column(UnitsType, default=0)
    charged_back_units: Mapped[int] = mapped_column(UnitsType, default=0)
    asked_at: Mapped[datetime | None]
    """When the question was asked whose answer these are."""
    paid_at: Mapped[datetime | None]
    """When we first knew of money."""
    settle_by: Mapped[datetime | None]
    """From then on it is a break that no settlement has named all of it. None: one has, it is on the list of breaks,
    or its gateway tells of no settlements."""

    state: Mapped[str] = mapped_column(default=PaymentState.CREATED)
    hold_reason: Mapped[str | None]
    waits_for: Mapped[str | None]
    waits_since: Mapped[datetime | None]
    failure: Mapped[str | None]
    """In the provider's code, why it failed."""
    released_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Up to this total paid, a person said that it may be credited, however it differs from what was asked."""
    slippage_accepted: Mapped[bool] = mapped_column(default=False)
    """A person said that the quote holds, however the market has moved."""
    at_moment: Mapped[bool] = mapped_column(default=False)
    """A person said that the rate of the moment holds, and not the quote's."""

    # What the books have of it. In `paid_currency`, but `..._out`, which is in `credited_asset`.
    booked_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of what was paid: what the gateway's account has been charged with."""
    suspended_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of it: what is in suspense."""
    credited_asset: Mapped[str | None]
    credited_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of what was paid: what was turned into a credit, our fee and spread included."""
    credited_fee: Mapped[int] = mapped_column(UnitsType, default=0)
    credited_spread: Mapped[int] = mapped_column(UnitsType, default=0)
    credited_remainder: Mapped[int] = mapped_column(UnitsType, default=0)
    credited_out: Mapped[int] = mapped_column(UnitsType, default=0)
    returned_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of what was credited: what was taken back, since it went back to the payer or is contested."""
    returned_fee: Mapped[int] = mapped_column(UnitsType, default=0)
    returned_spread: Mapped[int] = mapped_column(UnitsType, default=0)
    returned_remainder: Mapped[int] = mapped_column(UnitsType, default=0)
    returned_out: Mapped[int] = mapped_column(UnitsType, default=0)
    short_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of `returned_out`: what the owner no longer had, and owes."""
    fee_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """What the provider kept."""
    journals: Mapped[int] = mapped_column(Integer, default=0)
    """How many were booked: each has its number in its reference."""

    looks: Mapped[int] = mapped_column(Integer, default=0)
    next_look_at: Mapped[datetime | None]
    """When the provider is asked next; None: never again."""
    updated_at: Mapped[datetime]

    @property
    def current(self) -> PaymentState:
        return PaymentState(self.state)

    @property
    def held_for(self) -> HoldReason | None:
        return None if self.hold_reason is None else HoldReason(self.hold_reason)

    @property
    def reference(self) -> str:
        """How the provider knows it."""
        return str(self.duplicate_of or self.id)

    @property
    def subject(self) -> str:
        """How its jobs and journals are found."""
        return f"fiat_payment:{self.id}"

    @property
    def taken_units(self) -> int:
        """What the provider says that it has given back or withholds. Above what was paid it is a break."""
        return self.refunded_units + self.disputed_units + self.charged_back_units

    @property
    def gone_units(self) -> int:
        """What the provider has given back, or withholds, of what was paid. More than that is a break."""
        return min(self.paid_units, self.taken_units)


class FiatPaymentEvent(Base):
    """The history of a payment. Rows are only ever added."""

    __tablename__ = "fiat_payment_events"
    __table_args__ = (Index("ix_fiat_payment_events_payment_id", "payment_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("fiat_payments.id"))
    at: Mapped[datetime]
    event: Mapped[str]
    state_before: Mapped[str | None]
    state_after: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)


class FiatAttempt(Base):
    """A gateway that was asked for the order. Written before the call, so that what may be there is looked up."""

    __tablename__ = "fiat_attempts"
    __table_args__ = (
        # One open question at a time: an order that may be there keeps others from being made.
        Index(
            "uq_fiat_attempts_open",
            "payment_id",
            unique=True,
            postgresql_where=text("state IN ('asking', 'unknown', 'accepted')"),
        ),
        Index("ix_fiat_attempts_unknown", "asked_at", postgresql_where=text("state IN ('asking', 'unknown')")),
        Index(
            "ix_fiat_attempts_provider_ref",
            "provider",
            "provider_ref",
            postgresql_where=text("provider_ref IS NOT NULL"),
        ),
    )

    payment_id: Mapped[UUID] = mapped_column(ForeignKey("fiat_payments.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    provider: Mapped[str]
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of what was asked."""
    provider_ref: Mapped[str | None]
    """What the gateway calls its order, if it told of one, whatever it answered first."""
    state: Mapped[str]
    why: Mapped[str | None]
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]


class FiatRefund(Base):
    """Money that is to go back to the payer, because somebody asked for it."""

    __tablename__ = "fiat_refunds"
    __table_args__ = (
        CheckConstraint("units > 0", name="units"),
        Index("ix_fiat_refunds_payment_id", "payment_id", "id"),
        Index(
            "ix_fiat_refunds_open",
            "asked_at",
            postgresql_where=text("state IN ('requested', 'asking', 'unknown', 'pending')"),
        ),
    )

    id: Mapped[IdColumn]
    """Also our reference of it at the provider."""
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("fiat_payments.id"))
    tenant: Mapped[str]
    units: Mapped[int] = mapped_column(UnitsType)
    """Of the payment's currency."""
    reason: Mapped[str]
    actor: Mapped[str]
    state: Mapped[str] = mapped_column(default=RefundState.REQUESTED)
    provider_ref: Mapped[str | None]
    why: Mapped[str | None]
    hold_id: Mapped[UUID | None]
    """What keeps the owner from spending it meanwhile."""
    refunded_before: Mapped[int] = mapped_column(UnitsType)
    """The payment's total of refunds when this one was asked for."""
    lost: Mapped[bool] = mapped_column(default=False)
    """It was asked for once more after a try that nobody knew of, and which may turn up yet."""
    asked_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def current(self) -> RefundState:
        return RefundState(self.state)

    @property
    def reference(self) -> str:
        return str(self.id)


class FiatGateway(Base):
    """What a gateway of this deployment can do, as a worker wrote it for the API, and how it has been lately."""

    __tablename__ = "fiat_gateways"

    name: Mapped[str] = mapped_column(primary_key=True)
    currencies: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """By currency, the least and the most units of one order, as text."""
    methods: Mapped[list[str]] = mapped_column(ARRAY(Text))
    refunds: Mapped[bool]
    settlements: Mapped[bool]
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default=ZERO)
    """Calls in a row that got no answer."""
    failed_at: Mapped[datetime | None]
    refused_at: Mapped[datetime | None]
    """When it last refused our credentials."""
    seen_at: Mapped[datetime]
    """When a worker last had it."""


class FiatSettlementLine(Base):
    """One line of what a provider paid out to us."""

    __tablename__ = "fiat_settlement_lines"
    __table_args__ = (
        UniqueConstraint("provider", "line"),
        Index("ix_fiat_settlement_lines_payment_id", "payment_id"),
        Index("ix_fiat_settlement_lines_unmatched", "provider", "id", postgresql_where=text("state = 'unmatched'")),
    )

    id: Mapped[IdColumn]
    provider: Mapped[str]
    line: Mapped[str]
    settlement: Mapped[str]
    kind: Mapped[str]
    reference: Mapped[str | None]
    provider_ref: Mapped[str | None]
    currency: Mapped[str]
    units: Mapped[int] = mapped_column(UnitsType)
    fee_units: Mapped[int] = mapped_column(UnitsType)
    settled_at: Mapped[datetime]
    state: Mapped[str]
    why: Mapped[str | None]
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("fiat_payments.id"))
    journal_id: Mapped[UUID | None]
    break_id: Mapped[UUID | None]
    created_at: Mapped[datetime]
