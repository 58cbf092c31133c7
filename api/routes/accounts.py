"""The books, read: accounts, their balances now and then, entries and statements. Amounts are strings, unrounded."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from api.auth import needs
from api.booking import Moment
from api.paging import Cursor, Limit
from api.responses import json_response
from core import db
from core.errors import InvalidRequestError, NotFoundError
from domain.access.service import Principal, Scope
from ledger import asof, balances, chart
from ledger.asof import Clock
from ledger.balances import Account, Entry, Total
from ledger.freezes import PERSON
from ledger.statement import statement

router = APIRouter(prefix="/v1/accounts", tags=["accounts"])

Code = Annotated[str, Path(max_length=chart.CODE_LENGTH_MAX, examples=["user:42:available"])]
_ASSET = r"^[!-~]{1,200}$"
AssetId = Annotated[str | None, Query(pattern=_ASSET, description="Only this asset")]


class BalanceView(BaseModel):
    """One asset of an account. What is held, available and counted is known of now only: null as of another time."""

    asset: str
    balance: str = Field(description="Units on the account's normal side", examples=["1500000"])
    held: str | None = Field(description="What pending holds may still take out of it")
    available: str | None = Field(description="What can still leave it; null: no floor bounds it")
    floor: str | None = Field(description="The least that the balance less what is held may be")
    ceiling: str | None = Field(description="The most that the balance may be")
    state: str = Field(description="open, frozen (nothing leaves) or closed (nothing moves)", examples=["open"])
    frozen_by: list[str] = Field(
        description="The subjects that hold it frozen; `person`: somebody of the house does. Of a closed account: that"
        " will, when it is opened again",
        examples=[["deposit:0198c8f2-7f00-7000-8000-000000000000"]],
    )
    kind: str = Field(description="asset, liability, equity, income or expense")
    normal_side: str = Field(description="debit or credit: where the balance shows as a plus")
    entries: int | None = Field(description="How many entries the account has")
    metadata: dict[str, Any]


class AccountView(BaseModel):
    code: str
    as_of: datetime | None = Field(default=None, description="The moment of the balances; null: now")
    clock: Clock | None = Field(default=None, description="Whose moment: when it was booked, or when it happened")
    balances: list[BalanceView] = Field(description="One for each asset that was ever posted")


class ListedView(BalanceView):
    code: str


class TotalView(BaseModel):
    """The accounts of one kind in one asset under the prefix."""

    asset: str
    scale: int = Field(description="Decimal places of the asset")
    kind: str
    accounts: int = Field(description="How many there are")
    balance: str
    held: str


class AccountPage(BaseModel):
    accounts: list[ListedView]
    totals: list[TotalView] | None = Field(description="With a prefix, on the first page: all that is under it")
    next_cursor: str | None


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


class StatementView(BaseModel):
    """One page. Lines of the moment `since` are in it, those of the moment `until` in the next statement."""

    code: str
    asset: str
    normal_side: str
    since: datetime | None = Field(description="null: from the first entry on")
    until: datetime | None = Field(description="null: up to the last entry when the first page was read")
    opening: str = Field(description="The balance before the period")
    closing: str = Field(description="The balance after the period")
    entries: int = Field(description="How many lines the period has on all its pages")
    debits: str = Field(description="Of the lines up to the end of this page: of all, on the last one")
    credits: str
    lines: list[EntryView] = Field(description="Oldest first")
    next_cursor: str | None


def _known(code: str) -> None:
    try:
        chart.rule(code)
    except InvalidRequestError as error:
        raise NotFoundError(str(error)) from None


@router.get("", summary="List accounts by code and asset", responses={200: {"model": AccountPage}})
def list_accounts(
    caller: Annotated[Principal, needs(Scope.ACCOUNTS_READ)],
    prefix: Annotated[
        str | None,
        Query(
            pattern=rf"^[A-Za-z0-9:._-]{{1,{chart.CODE_LENGTH_MAX}}}$",
            description="Only codes that begin like this",
            examples=["user:42:"],
        ),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """With a prefix, the first page tells the totals of all that is under it: `user:` gives what is owed to all users.

    Totals cost more the more accounts there are under the prefix, so further pages don't repeat them.
    """
    with db.transaction() as session:
        page = balances.accounts(session, caller.tenant, prefix or "", cursor=cursor, limit=limit)
        wanted = prefix is not None and cursor is None
        totals = [_total(one) for one in balances.total(session, caller.tenant, prefix or "")] if wanted else None
    listed = [ListedView.model_construct(code=row.code, **_balance(row)) for row in page.rows]
    return json_response(AccountPage.model_construct(accounts=listed, totals=totals, next_cursor=page.cursor))


@router.get("/{code}", summary="Read an account's balances", responses={200: {"model": AccountView}})
def read_account(
    code: Code,
    caller: Annotated[Principal, needs(Scope.ACCOUNTS_READ)],
    asset: AssetId = None,
    as_of: Annotated[
        Moment | None,
        Query(description="The balances of this moment, such as 2030-01-31T12:00:00Z (an offset's + is written %2B)"),
    ] = None,
    clock: Annotated[Clock, Query(description="By which clock `as_of` is meant")] = Clock.BOOKED,
) -> Response:
    """An account to which nothing was posted yet has no balances; a code that no chart knows is 404.

    `booked` says what the books showed at the moment and never changes afterwards. `effective` says what had happened
    outside by then, as far as it is known today. Floor, ceiling, state and metadata are always those of now.
    """
    _known(code)
    with db.transaction() as session:
        found = [one for one in balances.account(session, caller.tenant, code) if asset in (None, one.asset)]
        then: dict[str, int] = {}
        if as_of is not None:
            for one in found:
                then[one.asset] = asof.balance_at(session, caller.tenant, code, one.asset, as_of, clock=clock)
    views = [BalanceView.model_construct(**_balance(one) | _as_of(then.get(one.asset))) for one in found]
    return json_response(
        AccountView.model_construct(code=code, as_of=as_of, clock=None if as_of is None else clock, balances=views)
    )


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
        page = balances.entries(session, caller.tenant, code, asset=asset, cursor=cursor, limit=limit)
    return json_response(EntryPage.model_construct(entries=[_entry(row) for row in page.rows], next_cursor=page.cursor))


@router.get("/{code}/statement", summary="Read a statement of an account", responses={200: {"model": StatementView}})
def read_statement(  # noqa: PLR0917  # FastAPI names them at the call
    code: Code,
    caller: Annotated[Principal, needs(Scope.ACCOUNTS_READ)],
    asset: Annotated[str, Query(pattern=_ASSET)],
    since: Annotated[Moment | None, Query(description="The first moment of the period, by the booked clock")] = None,
    until: Annotated[Moment | None, Query(description="The first moment after the period")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Opening balance, lines, closing balance, of what was booked in the period; by default of all there is.

    The first page fixes the period for all its pages, whatever is booked meanwhile: with a cursor, its own times count.
    """
    _known(code)
    with db.transaction() as session:
        page = statement(session, caller.tenant, code, asset, since=since, until=until, cursor=cursor, limit=limit)
    return json_response(
        StatementView.model_construct(
            code=page.code,
            asset=page.asset,
            normal_side=page.normal_side.value,
            since=page.since,
            until=page.until,
            opening=str(page.opening),
            closing=str(page.closing),
            entries=page.entries,
            debits=str(page.debits),
            credits=str(page.credits),
            lines=[_entry(row) for row in page.lines],
            next_cursor=page.cursor,
        )
    )


def _balance(account: Account) -> dict[str, Any]:
    """The fields of a BalanceView."""
    return {
        "asset": account.asset,
        "balance": str(account.balance),
        "held": str(account.held),
        "available": _text(account.available),
        "floor": _text(account.floor),
        "ceiling": _text(account.ceiling),
        "state": account.state,
        # Who of the house it is, is the house's own matter.
        "frozen_by": sorted({"person" if one.startswith(PERSON) else one for one in account.frozen_by}),
        "kind": account.kind.value,
        "normal_side": account.normal_side.value,
        "entries": account.version,
        "metadata": dict(account.metadata),
    }


def _as_of(balance: int | None) -> dict[str, Any]:
    """What another moment changes of a BalanceView."""
    return {} if balance is None else {"balance": str(balance), "held": None, "available": None, "entries": None}


def _total(total: Total) -> TotalView:
    return TotalView.model_construct(
        asset=total.asset,
        scale=total.scale,
        kind=total.kind.value,
        accounts=total.accounts,
        balance=str(total.balance),
        held=str(total.held),
    )


def _text(units: int | None) -> str | None:
    return None if units is None else str(units)


def _entry(row: Entry) -> EntryView:
    made: dict[str, Any] = {name: getattr(row, name) for name in EntryView.model_fields}
    return EntryView.model_construct(**made | {"units": str(row.units), "balance": str(row.balance)})
