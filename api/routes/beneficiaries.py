"""The destination book: where money of an account may be sent. What a destination is goes in, and never out again."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import openapi, waiting
from api.auth import needs
from api.body import JsonBytes
from api.booking import Booking, IdempotencyKey, once
from api.paging import Cursor, Limit, opened, seal
from api.responses import json_response
from api.routes.deposits import Word
from core import db
from core.errors import NotFoundError
from domain.access import idempotency
from domain.access.service import Principal, Scope
from domain.beneficiary import service as book
from domain.beneficiary.service import Beneficiary, BeneficiaryEvent, BeneficiaryState, NewBeneficiary
from providers.payout.base import Destination, Kind

router = APIRouter(prefix="/v1/beneficiaries", tags=["beneficiaries"])
banks = APIRouter(prefix="/v1/banks", tags=["beneficiaries"])

CREATED = 201
EXAMPLES: list[JsonValue] = [
    {
        "account": "user:42:available",
        "kind": "bank_ng",
        "bank_code": "058",
        "number": "0123456785",
        "holder": "Ada Obi",
        "label": "Mum",
    },
    {"account": "user:42:available", "kind": "upi", "number": "ada@okaxis", "holder": "Ada Obi"},
    {
        "account": "user:42:available",
        "kind": "chain",
        "chain": "eip155:1",
        "number": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    },
]
KindWord = Annotated[Kind, Field(strict=False)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\u0000]*$", max_length=300)]


class BeneficiaryRequest(BaseModel):
    """A destination, and whose book it goes into. None of `number`, `holder` and `tag` is ever told again."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    account: Word = Field(description="Whose book, such as user:42:available")
    kind: KindWord
    number: Line = Field(
        repr=False, description="Account number, UPI id, IBAN, Stripe's acct_..., or an address of the chain"
    )
    bank_code: Word | None = Field(default=None, description="bank_ng: of GET /v1/banks; bank_in: the IFSC")
    holder: Line | None = Field(
        default=None, repr=False, description="Whose account it is. bank_ng, bank_in, upi and iban need it"
    )
    chain: Word | None = Field(default=None, description="chain: CAIP-2 id, such as eip155:1")
    tag: Line | None = Field(default=None, repr=False, description="chain: a memo, where the recipient wants one")
    label: Line = Field(default="", description="What its owner calls it. Leave the number out: this stands in clear")


class BeneficiaryLinks(BaseModel):
    beneficiary: str
    jobs: str = Field(description="Such as the enquiry about its holder")


class BeneficiaryView(BaseModel):
    id: UUID
    state: BeneficiaryState = Field(description="`verified` can be paid")
    failure: str | None = Field(description="Why it was refused: such as no_such_account, holder_differs")
    account: str
    kind: Kind
    chain: str | None
    masked: str = Field(description="For people: enough to recognise it")
    bank_name: str | None
    holder_matches: bool | None = Field(description="Whether its bank names the holder that was given; null: not asked")
    label: str
    verified_at: datetime | None
    created_at: datetime
    updated_at: datetime
    links: BeneficiaryLinks


class BeneficiaryEventView(BaseModel):
    at: datetime
    event: str
    state_after: BeneficiaryState


class BeneficiaryDetail(BeneficiaryView):
    history: list[BeneficiaryEventView]


class BeneficiaryPage(BaseModel):
    beneficiaries: list[BeneficiaryView]
    next_cursor: str | None


class BankView(BaseModel):
    code: str
    name: str


class BankListView(BaseModel):
    kind: Kind
    banks: list[BankView] = Field(
        description="In the order of their names. Empty: codes follow a rule, or none is known"
    )
    read_at: datetime | None = Field(description="When providers were last asked; null: never")


# --- adding and removing ---------------------------------------------------------------------------------------------


def _add(
    caller: Principal, session: Session, _reference: str, asked: BeneficiaryRequest
) -> tuple[BeneficiaryView, bool]:
    new = NewBeneficiary(
        tenant=caller.tenant,
        account=asked.account,
        destination=Destination(
            kind=asked.kind, number=asked.number, bank_code=asked.bank_code, holder=asked.holder, tag=asked.tag
        ),
        chain=asked.chain,
        label=asked.label,
        actor=caller.actor,
    )
    row, _ = book.get_or_add(session, new)
    return _views(session, [row])[0], True


@router.post(
    "",
    status_code=CREATED,
    summary="Add a destination",
    responses={CREATED: {"model": BeneficiaryView, "description": "In the book; found there, if it was before"}},
    openapi_extra=openapi.body_of(BeneficiaryRequest),
)
async def add_beneficiary(
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.BENEFICIARIES_WRITE)],
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[
        str | None,
        Header(description=f"`wait=10` (RFC 7240): answer when it is verified, at most {waiting.WAIT_MAX} s later"),
    ] = None,
) -> Response:
    """The same destination in the same book is one entry, whatever key it comes under.

    With `Prefer: wait=N` the answer is the entry as it is once its holder is known or refused, or after N seconds.
    """
    booking = Booking(
        "beneficiary",
        Scope.BENEFICIARIES_WRITE,
        BeneficiaryRequest,
        partial(_add, caller),
        status=CREATED,
        location="/v1/beneficiaries",
        request_hash=idempotency.keyed_request_hash,
    )
    response = await run_in_threadpool(once, caller, booking, idempotency_key, body)
    return await waiting.preferred(
        response,
        prefer,
        read=partial(_read, caller.tenant),
        is_over=lambda view: view.state is not BeneficiaryState.PENDING,
        view=lambda view: view,
    )


def _read(tenant: str, beneficiary_id: UUID) -> BeneficiaryView:
    with db.transaction() as session:
        return _views(session, [_found(session, tenant, beneficiary_id)])[0]


@router.delete("/{beneficiary_id}", summary="Remove a destination", responses={200: {"model": BeneficiaryView}})
def remove_beneficiary(
    beneficiary_id: UUID, caller: Annotated[Principal, needs(Scope.BENEFICIARIES_WRITE)]
) -> Response:
    """What it was is deleted; payouts to it have their own copy and go on. Removing twice is once."""
    with db.transaction() as session:
        row = book.remove(session, beneficiary_id, tenant=caller.tenant, actor=caller.actor)
        [view] = _views(session, [row])
    return json_response(view)


# --- reading ---------------------------------------------------------------------------------------------------------


@router.get("", summary="List destinations, newest first", responses={200: {"model": BeneficiaryPage}})
def list_beneficiaries(
    caller: Annotated[Principal, needs(Scope.BENEFICIARIES_READ)],
    account: Annotated[str | None, Query(pattern=r"^[!-~]{1,200}$", examples=["user:42:available"])] = None,
    state: Annotated[BeneficiaryState | None, Query(description="Without: all but those removed")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    before = opened("beneficiaries", cursor)
    with db.transaction() as session:
        rows = book.page(session, tenant=caller.tenant, account=account, state=state, before=before, limit=limit + 1)
        views = _views(session, rows[:limit])
    more = seal("beneficiaries", rows[limit - 1].id) if len(rows) > limit else None
    return json_response(BeneficiaryPage(beneficiaries=views, next_cursor=more))


@router.get(
    "/{beneficiary_id}", summary="Read a destination and its history", responses={200: {"model": BeneficiaryDetail}}
)
def read_beneficiary(beneficiary_id: UUID, caller: Annotated[Principal, needs(Scope.BENEFICIARIES_READ)]) -> Response:
    with db.transaction() as session:
        row = _found(session, caller.tenant, beneficiary_id)
        [view] = _views(session, [row])
        history = [_event(event) for event in book.history(session, beneficiary_id)]
    return json_response(BeneficiaryDetail(**view.model_dump(), history=history))


@banks.get("", summary="Banks that money can be sent to", responses={200: {"model": BankListView}})
def list_banks(caller: Annotated[Principal, needs(Scope.BENEFICIARIES_READ)], kind: Kind) -> Response:  # noqa: ARG001
    """As providers told them last; asked for daily."""
    with db.transaction() as session:
        found = book.banks(session, kind)
    listed = [BankView(code=code, name=name) for code, name in found.names.items()]
    return json_response(BankListView(kind=kind, banks=listed, read_at=found.read_at))


def _found(session: Session, tenant: str, beneficiary_id: UUID) -> Beneficiary:
    found = book.get(session, beneficiary_id, tenant=tenant)
    if found is None:
        raise NotFoundError(f"there is no beneficiary {beneficiary_id}")
    return found


_COMPUTED = {"kind", "state", "bank_name", "links"}


def _views(session: Session, rows: Sequence[Beneficiary]) -> list[BeneficiaryView]:
    names = {kind: book.banks(session, Kind(kind)).names for kind in {row.kind for row in rows if row.bank is not None}}
    return [
        BeneficiaryView(
            **{name: getattr(row, name) for name in BeneficiaryView.model_fields if name not in _COMPUTED},
            kind=Kind(row.kind),
            state=row.current,
            bank_name=names[row.kind].get(row.bank) if row.bank is not None else None,
            links=BeneficiaryLinks(beneficiary=f"/v1/beneficiaries/{row.id}", jobs=f"/v1/jobs?subject={row.subject}"),
        )
        for row in rows
    ]


def _event(event: BeneficiaryEvent) -> BeneficiaryEventView:
    return BeneficiaryEventView(at=event.at, event=event.event, state_after=BeneficiaryState(event.state_after))
