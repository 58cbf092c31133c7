"""Deposits: payments to watch for, and what became of them."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Header
from fastapi.responses import Response
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from sqlalchemy.orm import Session

from api import ingest, openapi
from api.auth import needs
from api.body import JsonBytes, parsed_object
from api.ingest import Kind
from api.paging import Cursor, Limit, opened, seal
from api.problems import Problem
from api.responses import JSON
from config.assets import Disposal
from core import db
from core.errors import InvalidRequestError, NotFoundError
from core.money import UNITS_MAX
from domain.access.service import Principal, Scope
from domain.deposit import service as deposits
from domain.deposit.models import Deposit, DepositEvent
from domain.deposit.service import NewDeposit, Route, Value
from domain.deposit.states import DepositState, Reason, Wait

router = APIRouter(prefix="/v1/deposits", tags=["deposits"])

METADATA_BYTES_MAX = 4_096
METADATA_FIELDS_MAX = 50
_DIGITS = re.compile(r"[0-9]{1,38}")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")


def _units(value: object) -> int:
    """Whole units, as text or as a whole JSON number. 1.0 is refused too: whoever sends it counts in something else."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= UNITS_MAX:
        raise ValueError("units are a whole number above 0 of at most 38 digits, as a string of digits")
    return value


def _time(value: object) -> object:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("a time is written like 2030-01-31T12:00:00Z, with its offset")
    return value


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(metadata) > METADATA_FIELDS_MAX or len(json.dumps(metadata)) > METADATA_BYTES_MAX:
        raise ValueError(f"metadata has at most {METADATA_FIELDS_MAX} fields and {METADATA_BYTES_MAX} bytes")
    return metadata


Units = Annotated[
    int,
    BeforeValidator(_units),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": "^[0-9]{1,38}$"}, {"type": "integer", "minimum": 1}],
            "description": "Whole units, best as a string: many JSON readers round numbers above 2^53",
        }
    ),
]
Time = Annotated[datetime, BeforeValidator(_time), Field(strict=False)]
# PostgreSQL can't keep U+0000 in a text.
Text = Annotated[str, StringConstraints(pattern=r"^[^\u0000]*$")]
Word = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=200)]
RouteWord = Annotated[Route, Field(strict=False)]
Metadata = Annotated[
    dict[Annotated[Text, StringConstraints(min_length=1, max_length=100)], Text | int | bool | None],
    AfterValidator(_small),
]

EXAMPLES: list[JsonValue] = [
    {
        "asset": "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7",
        "units": "25000000",
        "account": "user:42:available",
        "metadata": {"order": "1001"},
    },
    {
        "asset": "eip155:1/slip44:60",
        "chain_tx": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "units": "1000000000000000000",
        "tolerance_bps": 50,
        "account": "user:42:available",
        "confirmations": 12,
    },
]


class ValueRequest(BaseModel):
    """What a payment must be worth, whatever it is paid in."""

    model_config = ConfigDict(strict=True, extra="forbid")

    currency: Word = Field(description="An asset of the registry, such as iso4217:USD")
    units: Units
    tolerance_bps: int | None = Field(default=None, ge=0, le=10_000, description="How far off it is still accepted")


class DepositRequest(BaseModel):
    """A payment to watch for.

    With `chain_tx` and `address`: that transaction. With `address` alone: whatever arrives there. With neither: on the
    account's own address, which is allotted if it has none yet and told in the answer. With the route `tag`: what
    arrives with the account's tag on a shared address; both are told in the answer.
    """

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    asset: Word = Field(description="CAIP-19 id")
    account: Word = Field(description="The account to credit, such as user:42:available")
    units: Units | None = Field(default=None, description="What is expected; without it any amount will do")
    value: ValueRequest | None = Field(
        default=None, description="Instead of `units`: what it must be worth at the time of its block"
    )
    chain: Word | None = Field(default=None, description="CAIP-2 id; may be left out, the asset says it")
    chain_tx: Word | None = Field(default=None, description="The transaction's hash; needs `address`")
    address: Word | None = Field(default=None, description="The recipient, one of the tenant's addresses")
    route: RouteWord = Field(
        default=Route.ADDRESS, description="How the payment finds its owner: by an address of his own, or by his tag"
    )
    payer: Word | None = Field(
        default=None, description="Only a transfer from this address counts; refused where the chain doesn't tell it"
    )
    tolerance_bps: int | None = Field(
        default=None, ge=0, le=10_000, description="How far off `units` is still accepted; default: the asset's"
    )
    underpaid: Disposal | None = Field(
        default=None, description="Credit what arrived, or suspend it; default: the asset's"
    )
    overpaid: Disposal | None = Field(default=None, description="The same for too much")
    late: Disposal | None = Field(default=None, description="The same for what comes after the deadline")
    confirmations: int | None = Field(default=None, ge=1, le=10_000, description="Instead of the asset's own rule")
    deadline: Time | None = Field(default=None, description="Not seen by then: expired")
    metadata: Metadata = Field(default_factory=dict, description="Yours; given back with the deposit")

    @model_validator(mode="after")
    def _is_expected_in_one_way(self) -> Self:
        if self.value is not None and (self.units is not None or self.tolerance_bps is not None):
            raise ValueError("a payment is expected in units or by its value, with its own tolerance: not both")
        return self


class Links(BaseModel):
    deposit: str = Field(examples=["/v1/deposits/019aa3c0-0000-7000-8000-000000000001"])
    job: str | None = Field(default=None, description="The job that was asked for")
    jobs: str = Field(description="All jobs of this deposit")


class ValueView(BaseModel):
    currency: str
    units: str


class DepositView(BaseModel):
    """One payment that is watched for."""

    id: UUID
    state: DepositState
    reason: Reason | None = Field(description="Why it is not simply credited")
    chain: str
    asset: str
    account: str
    address: str = Field(description="Where to pay")
    tag: str | None = Field(description="What the payment must carry to be this account's; null: nothing")
    payment_uri: str | None = Field(
        description="For a QR code (BIP-21, EIP-681, Solana Pay); null where there is none, or nothing to be paid now"
    )
    chain_tx: str | None
    payer: str | None
    units: str | None = Field(description="What is expected; null: any amount")
    units_received: str | None
    value: ValueView | None = Field(description="What it must be worth; null: nothing was said of that")
    tolerance_bps: int
    accepts: list[Reason] = Field(description="The reasons for which it is credited all the same")
    confirmations: int | None = Field(description="What was asked for; null: the asset's own rule")
    confirmations_seen: int
    deadline: datetime
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    waits_for: Wait | None = Field(description="What keeps it from being booked, if anything but blocks does")
    final: bool = Field(description="Nothing can change it any more, not even a reorg")
    links: Links


class DepositAccepted(DepositView):
    """What `POST /v1/deposits` answers, also when it is asked again later: the first answer."""

    job_id: UUID


class HistoryView(BaseModel):
    at: datetime
    event: str
    state_before: DepositState | None
    state_after: DepositState
    detail: dict[str, Any]


class DepositDetail(DepositView):
    history: list[HistoryView]


class DepositPage(BaseModel):
    deposits: list[DepositView]
    next_cursor: str | None


# --- asking for deposits -----------------------------------------------------------------------------------------


def _prepare(tenant: str, asked: DepositRequest) -> NewDeposit:
    return NewDeposit(
        tenant=tenant,
        asset=asked.asset,
        account=asked.account,
        units_expected=asked.units,
        chain=asked.chain,
        chain_tx=asked.chain_tx,
        address=asked.address,
        route=asked.route,
        payer=asked.payer,
        value=None if asked.value is None else Value(asked.value.currency, asked.value.units),
        tolerance_bps=asked.tolerance_bps if asked.value is None else asked.value.tolerance_bps,
        underpaid=asked.underpaid,
        overpaid=asked.overpaid,
        late=asked.late,
        confirmations=asked.confirmations,
        deadline_at=asked.deadline,
        metadata=asked.metadata,
        correlation_id=ingest.correlation_id(),
    )


def _create(session: Session, new: Sequence[NewDeposit]) -> list[dict[str, Any] | InvalidRequestError]:
    return [
        made if isinstance(made, InvalidRequestError) else _view(made) | {"job_id": str(made.look_job_id)}
        for made in deposits.create_many(session, new)
    ]


DEPOSIT = Kind("deposit", Scope.DEPOSITS_WRITE, DepositRequest, _prepare, _create)


@router.post(
    "",
    status_code=202,
    summary="Watch for a payment",
    responses={202: {"model": DepositAccepted, "description": "Durably accepted"}},
    openapi_extra=openapi.body_of(DepositRequest),
)
def create_deposit(
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.DEPOSITS_WRITE)],
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Names this request for ever: again gets the first answer",
        ),
    ] = None,
) -> Response:
    """Accepted means written: the deposit, the job of its first look and this answer are one transaction."""
    if idempotency_key is None:
        raise Problem("idempotency-key-missing", "give a header Idempotency-Key, a new one for each new request")
    ask = ingest.checked(caller, DEPOSIT, idempotency_key, parsed_object(body))
    [outcome] = ingest.carry_out(caller, [ask])
    if isinstance(outcome, Problem):
        raise outcome
    headers = {"Location": outcome.answer.body["links"]["deposit"]}
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(ingest.as_json(outcome.answer.body), outcome.answer.status, headers, media_type=JSON)


def _view(deposit: Deposit) -> dict[str, Any]:
    """As JSON says it. Built by hand: a batch makes a thousand of them."""
    links = {"deposit": f"/v1/deposits/{deposit.id}", "jobs": f"/v1/jobs?subject={deposit.subject}"}
    if deposit.look_job_id is not None:
        links["job"] = f"/v1/jobs/{deposit.look_job_id}"
    return {
        "id": str(deposit.id),
        "state": deposit.state,
        "reason": deposit.reason,
        "chain": deposit.chain,
        "asset": deposit.asset,
        "account": deposit.account,
        "address": deposit.address,
        "tag": deposit.tag,
        "payment_uri": deposits.payment_uri(deposit),
        "chain_tx": deposit.chain_tx,
        "payer": deposit.payer,
        "units": _text(deposit.units_expected),
        "units_received": _text(deposit.units_received),
        "value": None
        if deposit.value_units is None
        else {"currency": deposit.value_currency, "units": str(deposit.value_units)},
        "tolerance_bps": deposit.tolerance_bps,
        "accepts": deposit.accepts,
        "confirmations": deposit.confirmations,
        "confirmations_seen": deposit.confirmations_seen,
        "deadline": deposit.deadline_at.isoformat(),
        "metadata": deposit.details,
        "created_at": deposit.created_at.isoformat(),
        "updated_at": deposit.updated_at.isoformat(),
        "waits_for": deposit.waits_for,
        "final": deposit.final_at is not None,
        "links": links,
    }


def _text(units: int | None) -> str | None:
    return None if units is None else str(units)


# --- reading them ------------------------------------------------------------------------------------------------


@router.get("", summary="List deposits, newest first", responses={200: {"model": DepositPage}})
def list_deposits(
    caller: Annotated[Principal, needs(Scope.DEPOSITS_READ)],
    state: DepositState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Pages stay put while deposits are added: what is newer than the first page appears on no later one."""
    before = opened("deposits", cursor)
    with db.transaction() as session:
        rows = deposits.page(session, tenant=caller.tenant, state=state, before=before, limit=limit + 1)
    more = seal("deposits", rows[limit - 1].id) if len(rows) > limit else None
    return Response(
        ingest.as_json({"deposits": [_view(row) for row in rows[:limit]], "next_cursor": more}), media_type=JSON
    )


@router.get("/{deposit_id}", summary="Read a deposit and its history", responses={200: {"model": DepositDetail}})
def read_deposit(deposit_id: UUID, caller: Annotated[Principal, needs(Scope.DEPOSITS_READ)]) -> Response:
    with db.transaction() as session:
        deposit = deposits.get(session, deposit_id, tenant=caller.tenant)
        events = deposits.history(session, deposit_id) if deposit is not None else ()
    if deposit is None:
        raise NotFoundError(f"there is no deposit {deposit_id}")
    return Response(ingest.as_json(_view(deposit) | {"history": [_event(event) for event in events]}), media_type=JSON)


def _event(event: DepositEvent) -> dict[str, Any]:
    return {
        "at": event.at.isoformat(),
        "event": event.event,
        "state_before": event.state_before,
        "state_after": event.state_after,
        "detail": event.detail,
    }


def count_by_state() -> Mapping[str, int]:
    """For metrics."""
    with db.transaction() as session:
        return deposits.count_by_state(session)
