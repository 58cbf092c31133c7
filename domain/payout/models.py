from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Date,
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
from domain.payout.states import AttemptState, PayoutState, Wait

OPEN_ATTEMPTS = "state IN ('asking', 'unknown', 'accepted')"


class Payout(Base):
    """One payout. Where it goes is sealed; what people see of that is `destination_masked`."""

    __tablename__ = "payouts"
    __table_args__ = (
        CheckConstraint("units > 0 AND fee_units >= 0 AND payout_units > 0", name="units"),
        CheckConstraint("asset = payout_asset OR quote_id IS NOT NULL", name="quoted"),
        CheckConstraint("asset <> payout_asset OR units = payout_units", name="same"),
        CheckConstraint("short_units >= 0", name="short"),
        Index("ix_payouts_tenant", "tenant", "id"),
        Index("ix_payouts_account", "tenant", "account", "id"),
        Index("ix_payouts_beneficiary", "beneficiary_id", "id"),
        Index("ix_payouts_destination", "tenant", "destination_fingerprint", "id"),
        Index("ix_payouts_paid", "tenant", "account", postgresql_where=text("state = 'paid'")),
        Index("ix_payouts_sealed_by", "destination_sealed_by", "id"),
        Index("ix_payouts_batch", "batch_id", "id", postgresql_where=text("batch_id IS NOT NULL")),
        Index("ix_payouts_due", "next_look_at", postgresql_where=text("next_look_at IS NOT NULL")),
        Index(
            "ix_payouts_open",
            "state",
            "id",
            postgresql_where=text(
                "state IN ('held', 'awaiting_approval', 'approved', 'submitting', 'submitted', 'unknown', 'frozen')"
            ),
        ),
        Index("ix_payouts_unknown", "unknown_since", postgresql_where=text("unknown_since IS NOT NULL")),
        # What a bank's reference shows was paid is one payout. For JSON there is no column to name.
        Index(
            "uq_payouts_by_hand_reference",
            "tenant",
            text("(evidence ->> 'reference')"),
            unique=True,
            postgresql_where=text("by_hand"),
        ),
        Index("ix_payouts_expiring", "approve_until", postgresql_where=text("state = 'awaiting_approval'")),
    )

    # What was asked for. An edit changes only what `content_hash` covers, and raises `revision`.
    id: Mapped[IdColumn]
    tenant: Mapped[str]
    account: Mapped[str]
    """The owner's, such as `user:42:available`."""
    asset: Mapped[str]
    units: Mapped[int] = mapped_column(UnitsType)
    """Of `asset`: what the account gives, without our fee."""
    fee_units: Mapped[int] = mapped_column(UnitsType)
    """Of `asset`: what we take on top."""
    payout_asset: Mapped[str]
    payout_units: Mapped[int] = mapped_column(UnitsType)
    """What the destination gets."""
    quote_id: Mapped[UUID | None]
    quote_spread: Mapped[int | None] = mapped_column(UnitsType)
    quote_remainder: Mapped[int | None] = mapped_column(UnitsType)
    quote_rate: Mapped[str | None]
    """Without the spread: how many whole payout assets a whole one of `asset` was worth, as a fraction."""
    quote_rate_at: Mapped[datetime | None]
    beneficiary_id: Mapped[UUID]
    destination_kind: Mapped[str]
    destination_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """As JSON, encrypted for this row alone: domain.payout.sealing."""
    destination_sealed_by: Mapped[str]
    """The key's id."""
    destination_fingerprint: Mapped[str]
    """The same for the same destination, whoever names it; tells nothing of it."""
    destination_masked: Mapped[str]
    narration: Mapped[str]
    purpose: Mapped[str]
    affiliate: Mapped[bool]
    by_hand: Mapped[bool]
    """A person pays it outside and writes down the evidence. No provider is asked."""
    provider_wanted: Mapped[str | None]
    """The app's choice; None: ours."""
    # `metadata` is taken in SQLAlchemy's classes.
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, default=dict)
    correlation_id: Mapped[str | None]
    maker: Mapped[str]
    """Who asked for it: `key:<id>`, or `person:<name>`. Never an approver of it."""
    batch_id: Mapped[UUID | None]
    batch_item: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime]

    # What was decided about it.
    revision: Mapped[int] = mapped_column(Integer, default=1)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of all that an approver must have seen, the revision included."""
    value_cents: Mapped[int | None] = mapped_column(UnitsType)
    """In cents of PAYOUT_LIMIT_CURRENCY at the rate of that moment; None: there was no usable rate."""
    score: Mapped[int] = mapped_column(Integer, default=0)
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, default=list)
    """Of the screening: rule, verdict, score and reason of each."""
    approvals_needed: Mapped[int] = mapped_column(Integer, default=0)
    approve_until: Mapped[datetime | None]
    counted_on: Mapped[date | None] = mapped_column(Date)
    """The day under which the limits count it; None: they don't."""

    state: Mapped[str] = mapped_column(default=PayoutState.CREATED)
    waits_for: Mapped[str | None]
    waits_since: Mapped[datetime | None]
    unknown_since: Mapped[datetime | None]
    failure: Mapped[str | None]
    """Why it failed or was refused, in a code."""

    # What the books have of it.
    hold_id: Mapped[UUID | None]
    begun_journal_id: Mapped[UUID | None]
    """The capture into transit. Set from the first attempt on."""
    converted_journal_id: Mapped[UUID | None]
    paid_journal_id: Mapped[UUID | None]
    settled: Mapped[int] = mapped_column(Integer, default=0)
    """How many journals were booked after the begin: each has its number in its reference."""
    short_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of `asset`: what its owner no longer had when a payout that had failed turned out to be paid, and owes."""
    suspended_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of `asset`: what came back to an account that takes nothing any more, and lies in `suspense:payouts`."""

    # Where it is.
    provider: Mapped[str | None]
    """Of the last attempt."""
    provider_ref: Mapped[str | None]
    provider_fee_units: Mapped[int] = mapped_column(UnitsType, default=0)
    """Of `payout_asset`: booked so far."""
    evidence: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    """Of one that was paid by hand, or whose unknown end two people decided."""
    looks: Mapped[int] = mapped_column(Integer, default=0)
    next_look_at: Mapped[datetime | None]
    """When it is looked at next: sent, asked about, given up; None: never again."""
    submitted_at: Mapped[datetime | None]
    """When the first attempt was begun."""
    ended_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]

    @property
    def current(self) -> PayoutState:
        return PayoutState(self.state)

    @property
    def waiting(self) -> Wait | None:
        return None if self.waits_for is None else Wait(self.waits_for)

    @property
    def subject(self) -> str:
        """How its jobs, journals and freezes are found."""
        return f"payout:{self.id}"

    @property
    def held_units(self) -> int:
        return self.units + self.fee_units


class PayoutEvent(Base):
    """The history: who, when, why. Rows are only ever added."""

    __tablename__ = "payout_events"
    __table_args__ = (Index("ix_payout_events_payout_id", "payout_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.id"))
    at: Mapped[datetime]
    event: Mapped[str]
    state_before: Mapped[str | None]
    state_after: Mapped[str]
    actor: Mapped[str]
    """`key:<id>`, `person:<name>`, `payout` (we), or `provider:<name>`."""
    reason: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)


class PayoutAttempt(Base):
    """A provider that is asked, under one key. Written before the call, so that what may be there is looked up."""

    __tablename__ = "payout_attempts"
    __table_args__ = (
        UniqueConstraint("payout_id", "number"),
        # One open question at a time: a payout that may be there keeps others from being made.
        Index("uq_payout_attempts_open", "payout_id", unique=True, postgresql_where=text(OPEN_ATTEMPTS)),
        Index(
            "uq_payout_attempts_provider_ref",
            "provider",
            "provider_ref",
            unique=True,
            postgresql_where=text("provider_ref IS NOT NULL"),
        ),
        Index("ix_payout_attempts_open", "provider", "id", postgresql_where=text(OPEN_ATTEMPTS)),
    )

    id: Mapped[IdColumn]
    """Our reference at the provider, and the key of every request about it."""
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.id"))
    number: Mapped[int] = mapped_column(Integer)
    provider: Mapped[str]
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """HMAC-SHA256 of what is asked, by the vault's key. Sent again, it must be the same."""
    state: Mapped[str] = mapped_column(default=AttemptState.ASKING)
    lost: Mapped[bool] = mapped_column(default=False)
    """It was sent again after a try of which nobody knew: that one of them is refused proves nothing of the other."""
    refusal: Mapped[str | None]
    why: Mapped[str | None]
    provider_ref: Mapped[str | None]
    sends: Mapped[int] = mapped_column(Integer, default=1)
    resends: Mapped[int] = mapped_column(Integer, default=0)
    """How many of them while nobody knew of one before."""
    first_sent_at: Mapped[datetime]
    """Before the first call: from then the provider's windows count."""
    last_sent_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    asked_at: Mapped[datetime | None]
    """When the question was asked whose answer is the newest that we have."""
    extra_journal_id: Mapped[UUID | None]
    """Of what this one paid beside the payout, which another paid or nobody wanted any more."""

    @property
    def current(self) -> AttemptState:
        return AttemptState(self.state)

    @property
    def reference(self) -> str:
        return str(self.id)


class PayoutApproval(Base):
    """What one person said of one revision."""

    __tablename__ = "payout_approvals"
    __table_args__ = (UniqueConstraint("payout_id", "revision", "approver"),)

    id: Mapped[IdColumn]
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.id"))
    revision: Mapped[int] = mapped_column(Integer)
    approver: Mapped[str]
    decision: Mapped[str]
    seen_hash: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str | None]
    decided_at: Mapped[datetime]


class PayoutResolution(Base):
    """What two people say became of a payout that nobody knows about: one proposes, another confirms."""

    __tablename__ = "payout_resolutions"
    __table_args__ = (
        CheckConstraint("confirmed_by IS NULL OR confirmed_by <> proposed_by", name="two_people"),
        Index("uq_payout_resolutions_open", "payout_id", unique=True, postgresql_where=text("closed_at IS NULL")),
    )

    id: Mapped[IdColumn]
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.id"))
    outcome: Mapped[str]
    """`paid` or `failed`."""
    evidence: Mapped[dict[str, Any]] = mapped_column(JSONB)
    proposed_by: Mapped[str]
    proposed_at: Mapped[datetime]
    confirmed_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    """Confirmed, withdrawn, or overtaken by proof."""


class PayoutUsage(Base):
    """How much of a limit is used: a counter by day, so that a week is seven rows."""

    __tablename__ = "payout_usage"
    __table_args__ = (CheckConstraint("value_cents >= 0 AND count >= 0", name="least"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    """`tenant`, `account` or `destination`."""
    key: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    """In UTC."""
    value_cents: Mapped[int] = mapped_column(UnitsType)
    count: Mapped[int] = mapped_column(Integer)


class PayoutRule(Base):
    """A rule of the screening, as data: docs/payouts.md lists the kinds and their parameters."""

    __tablename__ = "payout_rules"
    __table_args__ = (Index("uq_payout_rules_name", text("coalesce(tenant, '')"), "name", unique=True),)

    id: Mapped[IdColumn]
    tenant: Mapped[str | None]
    """None: for all."""
    name: Mapped[str]
    kind: Mapped[str]
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    verdict: Mapped[str]
    score: Mapped[int] = mapped_column(Integer)
    enabled: Mapped[bool] = mapped_column(default=True)
    actor: Mapped[str]
    reason: Mapped[str]
    updated_at: Mapped[datetime]


class PayoutListing(Base):
    """A destination or an account that somebody put on a list."""

    __tablename__ = "payout_listings"
    __table_args__ = (
        CheckConstraint("list IN ('deny', 'allow')", name="list"),
        CheckConstraint("scope IN ('account', 'destination')", name="scope"),
        Index(
            "uq_payout_listings_live",
            text("coalesce(tenant, '')"),
            "scope",
            "key",
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str | None]
    """None: for all."""
    list: Mapped[str]
    scope: Mapped[str]
    key: Mapped[str]
    """The account's code, or the destination's fingerprint."""
    actor: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]
    removed_by: Mapped[str | None]


class PayoutProviderRow(Base):
    """What a provider can do and how it is: written by workers, read by whoever must choose."""

    __tablename__ = "payout_providers"

    name: Mapped[str] = mapped_column(primary_key=True)
    currencies: Mapped[dict[str, Any]] = mapped_column(JSONB)
    kinds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    hours: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    balances: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    """Currency -> {units, at}: what could be sent when it was asked."""
    failures: Mapped[int] = mapped_column(Integer, default=0)
    """In a row."""
    failed_at: Mapped[datetime | None]
    stopped_by: Mapped[str | None]
    """A person who said that nothing is sent there until somebody says otherwise."""
    stopped_at: Mapped[datetime | None]
    stopped_reason: Mapped[str | None]
    seen_at: Mapped[datetime]


class PayoutBatch(Base):
    """Payouts that were asked for together, under control totals that must fit."""

    __tablename__ = "payout_batches"
    __table_args__ = (Index("ix_payout_batches_tenant", "tenant", "id"),)

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    count: Mapped[int] = mapped_column(Integer)
    totals: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """Asset -> sum of units, as the app said and we counted."""
    refused: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, default=list)
    """Items that could not be made: number and problem."""
    maker: Mapped[str]
    correlation_id: Mapped[str | None]
    created_at: Mapped[datetime]
