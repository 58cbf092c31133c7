"""The books, read: balances of an account and its entries. Amounts are strings, so that no reader rounds them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from api.auth import needs
from api.paging import Cursor, Limit
from api.responses import json_response
from core import db
from core.errors import InvalidRequestError, NotFoundError
from domain.access.service import Principal, Scope
from ledger import balances, chart
from ledger.balances import Account, Entry

router = APIRouter(prefix="/v1/accounts", tags=["accounts"])

Code = Annotated[str, Path(max_length=chart.CODE_LENGTH_MAX, examples=["user:42:available"])]
AssetId = Annotated[str | None, Query(pattern=r"^[!-~]{1,200}$", description="Only this asset")]


class BalanceView(BaseModel):
    asset: str
    balance: str = Field(description="Units on the account's normal side", examples=["1500000"])
    kind: str
    normal_side: str
    entries: int = Field(description="How many entries the account has")


class AccountView(BaseModel):
    code: str
    balances: list[BalanceView] = Field(description="One for each asset that was ever posted")


class EntryView(BaseModel):
    number: int = Field(description="Its journal's place in the books")
    position: int = Field(description="Its place in the journal")
    journal_id: UUID
    reference: str
    category: str
    subject: str | None
    asset: str
    units: str = Field(description="The change; negative if the account has less by it")
    balance: str = Field(description="The account's balance after it")
    version: int = Field(description="Counts the entries of this account and asset from 1")
    effective_at: datetime
    booked_at: datetime


class EntryPage(BaseModel):
    entries: list[EntryView]
    next_cursor: str | None


def _known(code: str) -> None:
    try:
        chart.rule(code)
    except InvalidRequestError as error:
        raise NotFoundError(str(error)) from None


@router.get("/{code}", summary="Read an account's balances", responses={200: {"model": AccountView}})
def read_account(
    code: Code, caller: Annotated[Principal, needs(Scope.ACCOUNTS_READ)], asset: AssetId = None
) -> Response:
    """An account to which nothing was posted yet has no balances; a code that no chart knows is 404."""
    _known(code)
    with db.transaction() as session:
        found = balances.account(session, caller.tenant, code)
    kept = [_balance(one) for one in found if asset in (None, one.asset)]
    return json_response(AccountView.model_construct(code=code, balances=kept))


@router.get("/{code}/entries", summary="List an account's entries, newest first", responses={200: {"model": EntryPage}})
def list_entries(
    code: Code,
    caller: Annotated[Principal, needs(Scope.ACCOUNTS_READ)],
    asset: AssetId = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Pages stay put while money moves: what is booked after the first page was read appears on no later one."""
    _known(code)
    with db.transaction() as session:
        try:
            page = balances.entries(session, caller.tenant, code, asset=asset, cursor=cursor, limit=limit)
        except RecursionError:  # a cursor made up of brackets
            raise InvalidRequestError("this cursor was not made by this listing", field="cursor") from None
    return json_response(EntryPage.model_construct(entries=[_entry(row) for row in page.rows], next_cursor=page.cursor))


def _balance(account: Account) -> BalanceView:
    return BalanceView.model_construct(
        asset=account.asset,
        balance=str(account.balance),
        kind=account.kind.value,
        normal_side=account.normal_side.value,
        entries=account.version,
    )


def _entry(row: Entry) -> EntryView:
    made: dict[str, Any] = {name: getattr(row, name) for name in EntryView.model_fields}
    return EntryView.model_construct(**made | {"units": str(row.units), "balance": str(row.balance)})
