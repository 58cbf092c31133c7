"""What the API tells of a payout: never more of its destination than its mask."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from domain.payout.service import Payout, PayoutEvent, PayoutState, Wait
from providers.payout.base import Kind


class PayoutLinks(BaseModel):
    payout: str
    events: str
    beneficiary: str
    jobs: str = Field(description="All jobs of this payout")
    journals: str = Field(description="What it did to the books")


class PayoutView(BaseModel):
    id: UUID
    state: PayoutState
    waits_for: Wait | None = Field(description="It is approved, and sent as soon as this is there")
    failure: str | None = Field(description="Why it was rejected or failed, in a code")
    account: str
    asset: str
    units: str = Field(description="What the account gives, without our fee")
    fee_units: str = Field(description="What we take on top, in the same asset")
    payout_asset: str
    payout_units: str = Field(description="What the destination gets")
    quote_id: UUID | None
    beneficiary_id: UUID
    destination_kind: Kind
    destination_masked: str
    narration: str
    purpose: str
    affiliate: bool
    by_hand: bool = Field(description="A person pays it outside; no provider is asked")
    provider: str | None = Field(description="Of the last attempt; before, what was asked for")
    provider_ref: str | None = Field(description="What the provider calls it")
    approvals_needed: int
    approve_until: datetime | None
    revision: int = Field(description="Raised by each edit")
    content_hash: str = Field(description="Of all that an approver must have seen: an approval names it")
    maker: str = Field(description="Who asked for it: never one of its approvers")
    batch_id: UUID | None
    batch_item: int | None
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    links: PayoutLinks


class FindingView(BaseModel):
    rule: str
    verdict: str
    score: int
    reason: str


class PayoutDetail(PayoutView):
    value_cents: str | None = Field(description="In hundredths of the limits' currency; null: there was no usable rate")
    score: int
    findings: list[FindingView] = Field(description="What the screening found, the gravest first")


class PayoutEventView(BaseModel):
    at: datetime
    event: str
    state_before: PayoutState | None
    state_after: PayoutState
    actor: str
    reason: str | None
    detail: dict[str, Any]


_COMPUTED = frozenset(
    {"state", "waits_for", "units", "fee_units", "payout_units", "provider", "destination_kind", "content_hash"}
    | {"metadata", "links"}
)


def _fields(payout: Payout) -> dict[str, Any]:
    same = {name: getattr(payout, name) for name in PayoutView.model_fields if name not in _COMPUTED}
    return same | {
        "state": payout.current,
        "waits_for": payout.waiting,
        "units": str(payout.units),
        "fee_units": str(payout.fee_units),
        "payout_units": str(payout.payout_units),
        "provider": payout.provider or payout.provider_wanted,
        "destination_kind": Kind(payout.destination_kind),
        "content_hash": payout.content_hash.hex(),
        "metadata": payout.details,
        "links": PayoutLinks(
            payout=f"/v1/payouts/{payout.id}",
            events=f"/v1/payouts/{payout.id}/events",
            beneficiary=f"/v1/beneficiaries/{payout.beneficiary_id}",
            jobs=f"/v1/jobs?subject={payout.subject}",
            journals=f"/v1/journals?subject={payout.subject}",
        ),
    }


def view(payout: Payout) -> PayoutView:
    return PayoutView(**_fields(payout))


def detail(payout: Payout) -> PayoutDetail:
    return PayoutDetail(
        **_fields(payout),
        value_cents=None if payout.value_cents is None else str(payout.value_cents),
        score=payout.score,
        findings=[FindingView(**found) for found in payout.findings],
    )


def event(row: PayoutEvent) -> PayoutEventView:
    return PayoutEventView(
        at=row.at,
        event=row.event,
        state_before=None if row.state_before is None else PayoutState(row.state_before),
        state_after=PayoutState(row.state_after),
        actor=row.actor,
        reason=row.reason,
        detail=row.detail,
    )
