"""What people and apps decide about payouts. Deciding the same twice is once, so nothing needs an idempotency key."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import WithJsonSchema as Schema
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import openapi, payout_views, problems
from api.auth import needs
from api.body import JsonBytes, parsed_object
from api.booking import Units
from api.payout_ports import PORTS
from api.payout_views import PayoutView
from api.problems import Problem
from api.responses import json_response
from api.routes.fiat_payments import Id
from core import db
from core.errors import NotFoundError
from domain.access.service import Principal, Scope
from domain.payout import service as payouts
from domain.payout.service import Edit, Payout

router = APIRouter(prefix="/v1/payouts", tags=["payouts"])
B = TypeVar("B", bound=BaseModel)
HASH_DIGITS = 64


def _hash(value: object) -> bytes:
    if not isinstance(value, str) or len(value) != HASH_DIGITS:
        raise ValueError("64 hexadecimal digits: the payout's content_hash as you saw it")
    return bytes.fromhex(value)  # says itself what is wrong


Seen = Annotated[
    bytes,
    BeforeValidator(_hash),
    Schema({"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "The payout's content_hash as you saw it"}),
]
Why = Annotated[str, StringConstraints(min_length=1, max_length=500), Field(description="For the record")]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ApprovalRequest(_Body):
    seen_hash: Seen
    reason: Why | None = None


class RejectionRequest(_Body):
    seen_hash: Seen
    reason: Why


class StopRequest(_Body):
    reason: Why


class EditRequest(_Body):
    """What is left out stays as it is."""

    seen_hash: Seen
    reason: Why
    units: Units | None = None
    narration: str | None = Field(default=None, description="Up to 100 printable ASCII characters")
    beneficiary_id: Id | None = Field(default=None, description="Another entry of the same account's book")


class ApprovalView(BaseModel):
    revision: int = Field(description="Of the payout: only what was said of the newest counts")
    approver: str
    decision: str = Field(description="approve or reject")
    seen_hash: str
    reason: str | None
    at: datetime


class ApprovalList(BaseModel):
    revision: int
    approvals_needed: int
    approvals_given: int = Field(description="Of the revision, as it is")
    approve_until: datetime | None
    approvals: list[ApprovalView] = Field(description="Oldest first")


def _checked(schema: type[B], body: bytes) -> B:
    try:
        return schema.model_validate(parsed_object(body))
    except ValidationError as error:
        raise problems.of_validation(error) from None


def _person(caller: Principal) -> str:
    """Whose key it is. The request can't say: whoever made the key did."""
    if caller.person is None:
        raise Problem("forbidden", "the API key is a service's: people approve, by a key made with --person")
    return caller.actor


def _answer(step: Callable[[Session], Payout]) -> Response:
    with db.transaction() as session:
        payout = step(session)
        session.flush()
        view = payout_views.view(payout)
    return json_response(view)


@router.post(
    "/{payout_id}/approve",
    summary="Approve a payout",
    responses={200: {"model": PayoutView}},
    openapi_extra=openapi.body_of(ApprovalRequest),
)
async def approve_payout(
    payout_id: UUID, body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_APPROVE)]
) -> Response:
    """By the person whose key it is: not who asked for it or edited it, and each once. The last one lets it go."""
    asked = _checked(ApprovalRequest, body)
    who = _person(caller)

    def step(session: Session) -> Payout:
        return payouts.approve(
            session, payout_id, approver=who, seen_hash=asked.seen_hash, reason=asked.reason, tenant=caller.tenant
        )

    return await run_in_threadpool(_answer, step)


@router.post(
    "/{payout_id}/reject",
    summary="Reject a payout",
    responses={200: {"model": PayoutView}},
    openapi_extra=openapi.body_of(RejectionRequest),
)
async def reject_payout(
    payout_id: UUID, body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_APPROVE)]
) -> Response:
    """One is enough. Its money is its owner's again."""
    asked = _checked(RejectionRequest, body)
    who = _person(caller)

    def step(session: Session) -> Payout:
        return payouts.reject(
            session, payout_id, approver=who, seen_hash=asked.seen_hash, reason=asked.reason, tenant=caller.tenant
        )

    return await run_in_threadpool(_answer, step)


@router.post(
    "/{payout_id}/cancel",
    summary="Cancel a payout",
    responses={200: {"model": PayoutView}},
    openapi_extra=openapi.body_of(StopRequest),
)
async def cancel_payout(
    payout_id: UUID, body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_WRITE)]
) -> Response:
    """Until its sending has begun; from then on 409. Its money is its owner's again."""
    asked = _checked(StopRequest, body)

    def step(session: Session) -> Payout:
        return payouts.cancel(session, payout_id, actor=caller.actor, reason=asked.reason, tenant=caller.tenant)

    return await run_in_threadpool(_answer, step)


@router.post(
    "/{payout_id}/freeze",
    summary="Freeze a payout",
    responses={200: {"model": PayoutView}},
    openapi_extra=openapi.body_of(StopRequest),
)
async def freeze_payout(
    payout_id: UUID, body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_APPROVE)]
) -> Response:
    """Nothing goes on until somebody thaws it; its money stays bound. Until its sending has begun."""
    asked = _checked(StopRequest, body)
    who = _person(caller)

    def step(session: Session) -> Payout:
        return payouts.freeze(session, payout_id, actor=who, reason=asked.reason, tenant=caller.tenant)

    return await run_in_threadpool(_answer, step)


@router.post(
    "/{payout_id}/thaw",
    summary="Thaw a payout",
    responses={200: {"model": PayoutView}},
    openapi_extra=openapi.body_of(StopRequest),
)
async def thaw_payout(
    payout_id: UUID, body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_APPROVE)]
) -> Response:
    """It goes on from the screening, as another revision."""
    asked = _checked(StopRequest, body)
    who = _person(caller)

    def step(session: Session) -> Payout:
        return payouts.thaw(session, payout_id, actor=who, reason=asked.reason, tenant=caller.tenant)

    return await run_in_threadpool(_answer, step)


@router.patch(
    "/{payout_id}",
    summary="Edit a payout",
    responses={200: {"model": PayoutView}},
    openapi_extra=openapi.body_of(EditRequest),
)
async def edit_payout(
    payout_id: UUID, body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_WRITE)]
) -> Response:
    """While it waits for approval, or is approved and was never sent. Approvals are void, and it is screened again.

    Refused, all stays as it was. The same edit again is 409: `seen_hash` is no longer what it says.
    """
    asked = _checked(EditRequest, body)
    change = Edit(
        units=asked.units,
        narration=asked.narration,
        beneficiary_id=asked.beneficiary_id,
    )

    def step(session: Session) -> Payout:
        return payouts.edit(
            session,
            payout_id,
            change,
            PORTS,
            editor=caller.actor,
            seen_hash=asked.seen_hash,
            reason=asked.reason,
            tenant=caller.tenant,
        )

    return await run_in_threadpool(_answer, step)


@router.get("/{payout_id}/approvals", summary="What people said of a payout", responses={200: {"model": ApprovalList}})
def list_approvals(payout_id: UUID, caller: Annotated[Principal, needs(Scope.PAYOUTS_READ)]) -> Response:
    with db.transaction() as session:
        payout = payouts.get(session, payout_id, tenant=caller.tenant)
        if payout is None:
            raise NotFoundError(f"there is no payout {payout_id}")
        said = payouts.approvals(session, payout_id)
        told = ApprovalList(
            revision=payout.revision,
            approvals_needed=payout.approvals_needed,
            approvals_given=payouts.given(session, payout),
            approve_until=payout.approve_until,
            approvals=[
                ApprovalView(
                    revision=each.revision,
                    approver=each.approver,
                    decision=each.decision,
                    seen_hash=each.seen_hash.hex(),
                    reason=each.reason,
                    at=each.decided_at,
                )
                for each in said
            ],
        )
    return json_response(told)
