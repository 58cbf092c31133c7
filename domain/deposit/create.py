"""Taking deposits in: checked one by one, written together. The number of statements doesn't grow with the batch."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from chains import formats
from config.assets import Disposal, registry
from core import clock, jobs
from core.errors import InvalidRequestError
from core.ids import new_id
from core.jobs import NewJob
from domain.deposit import addresses, policies
from domain.deposit.addresses import Route
from domain.deposit.destinations import Destination, resolve
from domain.deposit.models import Deposit
from domain.deposit.pace import first_poll
from domain.deposit.policies import Terms, Value
from domain.deposit.settings import deposit as settings
from domain.deposit.states import DEPOSIT, Mode

LOOK = "tx_monitor.look"
METADATA_BYTES_MAX = 8_192
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_WORD = re.compile(r"[!-~]{1,200}")

parse_address = lru_cache(maxsize=16_384)(formats.parse_address)  # a checksum is a keccak in Python


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeposit:
    """A payment to watch for.

    With `chain_tx`: that transaction, which must pay to the shared address `address`. Without: whatever arrives on
    `address`, which becomes the account's own; or, if there is none, on the account's own address. With the route
    `tag`: whatever arrives with the account's tag on a shared address.
    """

    tenant: str
    asset: str
    account: str
    """The ledger account to credit, such as `user:42:available`."""
    chain: str | None = None
    """May be left out: the asset says it."""
    chain_tx: str | None = None
    address: str | None = None
    route: Route = Route.ADDRESS
    payer: str | None = None
    """If given, only a transfer from this address counts."""
    units_expected: int | None = None
    """In the asset's smallest unit. None: any amount from the asset's `units_min` up."""
    value: Value | None = None
    """Instead of `units_expected`: what it must be worth at the time of its block."""
    tolerance_bps: int | None = None
    """By how many hundredths of a percent of what is expected a payment may be off, either way. None: the asset's."""
    underpaid: Disposal | None = None
    overpaid: Disposal | None = None
    late: Disposal | None = None
    """Whether what doesn't fit is credited all the same, or kept in suspense for a person. None: as the asset says."""
    confirmations: int | None = None
    deadline_at: datetime | None = None
    """Default: DEPOSIT_DEADLINE from now."""
    metadata: dict[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None


@dataclass(slots=True)
class _Checked:
    """A request that can be carried out as far as can be said without the database."""

    new: NewDeposit
    chain: str
    to: Destination
    chain_tx: str | None
    payer: str | None
    terms: Terms
    deadline_at: datetime
    metadata: str


def create(session: Session, new: NewDeposit) -> Deposit:
    """Write one deposit and the job of its first look. Raises InvalidRequestError, with nothing written."""
    made = create_many(session, [new])[0]
    if isinstance(made, InvalidRequestError):
        raise made
    return made


def create_many(session: Session, news: Sequence[NewDeposit]) -> list[Deposit | InvalidRequestError]:
    """Write those that can be carried out, each with its history and the job of its first look; in order, why not.

    The deposits returned belong to no session: what they say is what was written.
    """
    now = clock.now()
    results: list[_Checked | InvalidRequestError] = [_check_or_refuse(new, now) for new in news]
    _resolve(session, results)
    made: list[Deposit | InvalidRequestError] = []
    rows: list[Deposit] = []
    metadata: list[str] = []
    for result in results:
        if isinstance(result, InvalidRequestError):
            made.append(result)
            continue
        row = _row(result, now)
        made.append(row)
        rows.append(row)
        metadata.append(result.metadata)
    if rows:
        _write(session, rows, metadata)
    return made


# --- checking ----------------------------------------------------------------------------------------------------


def _check_or_refuse(new: NewDeposit, now: datetime) -> _Checked | InvalidRequestError:
    try:
        return _check(new, now)
    except InvalidRequestError as error:
        return error


def _check(new: NewDeposit, now: datetime) -> _Checked:
    known = registry()
    asset = known.assets.get(new.asset)
    if asset is None:
        raise InvalidRequestError(f"the asset {new.asset[:200]!r} is not known", field="asset")
    if asset.chain is None:
        raise InvalidRequestError(f"{asset.id} is on no chain: it can't be watched for", field="asset")
    chain = known.chains[asset.chain]
    if new.chain not in (None, chain.id):
        raise InvalidRequestError(f"the asset {asset.id} is not on the chain {new.chain!r}", field="chain")
    addresses.check_chain(chain.id)
    addresses.check_account(new.account)
    addresses.check_route(chain.id, new.route)
    policies.check_expected(asset, new.units_expected, new.value, new.confirmations)
    if new.chain_tx is not None and new.address is None:
        raise InvalidRequestError("a transaction is watched for on an address: give it too", field="address")
    if new.chain_tx is not None and new.route is Route.TAG:
        raise InvalidRequestError("a transaction that is named by its hash needs no tag", field="route")
    if new.correlation_id is not None and not _WORD.fullmatch(new.correlation_id):
        raise InvalidRequestError("a correlation id has 1 to 200 visible ASCII characters", field="correlation_id")
    return _Checked(
        new=new,
        chain=chain.id,
        to=Destination(
            tenant=new.tenant,
            chain=chain.id,
            account=new.account,
            route=new.route,
            by_hash=new.chain_tx is not None,
            address=None if new.address is None else parse_address(chain.id, new.address),
        ),
        chain_tx=None if new.chain_tx is None else formats.parse_chain_tx(chain.id, new.chain_tx),
        payer=None if new.payer is None else _payer(chain.id, new.payer),
        terms=policies.terms(
            asset, tolerance_bps=new.tolerance_bps, underpaid=new.underpaid, overpaid=new.overpaid, late=new.late
        ),
        deadline_at=_deadline(new.deadline_at, now),
        metadata=_kept_metadata(new.metadata),
    )


def _payer(chain: str, address: str) -> str:
    if not formats.tells_payer(chain):
        raise InvalidRequestError(f"{chain} does not tell who paid", field="payer")
    try:
        return parse_address(chain, address)
    except InvalidRequestError as error:
        raise InvalidRequestError(str(error), field="payer") from None


def _deadline(asked: datetime | None, now: datetime) -> datetime:
    chosen = settings()
    if asked is None:
        return now + chosen.deadline
    if asked.tzinfo is None:
        raise InvalidRequestError("the deadline needs a time zone", field="deadline")
    if not now < asked <= now + chosen.deadline_max:
        raise InvalidRequestError(
            f"the deadline is in the future, at most {chosen.deadline_max.days} days from now", field="deadline"
        )
    return asked.astimezone(UTC)


def _kept_metadata(metadata: dict[str, Any]) -> str:
    if not metadata:
        return "{}"
    try:
        kept = json.dumps(metadata, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequestError("the metadata is not JSON", field="metadata") from None
    if len(kept) > METADATA_BYTES_MAX:
        raise InvalidRequestError(f"the metadata has more than {METADATA_BYTES_MAX} bytes", field="metadata")
    if "\\u" in kept and not _is_keepable(metadata, kept):
        raise InvalidRequestError("the metadata has a character that can't be kept", field="metadata")
    return kept


def _is_keepable(metadata: dict[str, Any], kept: str) -> bool:
    """PostgreSQL keeps neither U+0000 nor half a surrogate pair, and one of them would fail a whole batch."""
    try:
        json.dumps(metadata, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return _NUL.search(kept) is None


def _resolve(session: Session, results: list[_Checked | InvalidRequestError]) -> None:
    """Find where each is to be paid; a request for which there is no such place becomes why."""
    places = [place for place, item in enumerate(results) if isinstance(item, _Checked)]
    destinations = [item.to for item in results if isinstance(item, _Checked)]
    for index, refusal in resolve(session, destinations).items():
        results[places[index]] = refusal


# --- writing -----------------------------------------------------------------------------------------------------


def _row(checked: _Checked, now: datetime) -> Deposit:
    new = checked.new
    mode = Mode.ADDRESS if checked.chain_tx is None else Mode.TX
    return Deposit(
        id=new_id(),
        tenant=new.tenant,
        chain=checked.chain,
        asset=new.asset,
        account=new.account,
        mode=mode,
        address=checked.to.address,
        tag=checked.to.tag,
        chain_tx=checked.chain_tx,
        payer=checked.payer,
        units_expected=new.units_expected,
        value_currency=None if new.value is None else new.value.currency,
        value_units=None if new.value is None else new.value.units,
        tolerance_bps=checked.terms.tolerance_bps,
        accepts=checked.terms.accepts,
        confirmations=new.confirmations,
        deadline_at=checked.deadline_at,
        details=new.metadata,
        correlation_id=new.correlation_id,
        look_job_id=new_id(),
        state=DEPOSIT.initial,
        incarnation=0,
        confirmations_seen=0,
        units_recovered=0,
        units_short=0,
        next_poll_at=first_poll(checked.chain, mode, now=now, deadline_at=checked.deadline_at),
        created_at=now,
        updated_at=now,
    )


# One statement for the deposits and the first line of their history. Arrays, so that it is parsed once.
_INSERT = text(
    """
    WITH made AS (
      INSERT INTO deposits (id, tenant, chain, asset, account, mode, address, tag, chain_tx, payer, units_expected,
                            value_currency, value_units, tolerance_bps, accepts, confirmations, deadline_at, metadata,
                            correlation_id, look_job_id, state, next_poll_at, created_at, updated_at)
      SELECT id, tenant, chain, asset, account, mode, address, tag, chain_tx, payer, units_expected,
             value_currency, value_units, tolerance_bps, string_to_array(accepts, ','), confirmations, deadline_at,
             metadata, correlation_id, look_job_id, :state, next_poll_at, :now, :now
      FROM unnest(cast(:ids AS uuid[]), cast(:tenants AS text[]), cast(:chains AS text[]), cast(:assets AS text[]),
                  cast(:accounts AS text[]), cast(:modes AS text[]), cast(:addresses AS text[]),
                  cast(:tags AS text[]), cast(:chain_txs AS text[]), cast(:payers AS text[]), cast(:units AS numeric[]),
                  cast(:currencies AS text[]), cast(:values AS numeric[]), cast(:tolerances AS int[]),
                  cast(:accepted AS text[]), cast(:confirmations AS int[]), cast(:deadlines AS timestamptz[]),
                  cast(:metadata AS jsonb[]), cast(:correlation_ids AS text[]), cast(:look_job_ids AS uuid[]),
                  cast(:polls AS timestamptz[]))
        AS new (id, tenant, chain, asset, account, mode, address, tag, chain_tx, payer, units_expected,
                value_currency, value_units, tolerance_bps, accepts, confirmations, deadline_at, metadata,
                correlation_id, look_job_id, next_poll_at)
      RETURNING id
    )
    INSERT INTO deposit_events (deposit_id, at, event, state_after, detail)
    SELECT id, :now, 'created', :state, '{}'::jsonb FROM made
    """
)


def _write(session: Session, rows: Sequence[Deposit], metadata: Sequence[str]) -> None:
    session.execute(
        _INSERT,
        {
            "ids": [row.id for row in rows],
            "tenants": [row.tenant for row in rows],
            "chains": [row.chain for row in rows],
            "assets": [row.asset for row in rows],
            "accounts": [row.account for row in rows],
            "modes": [row.mode for row in rows],
            "addresses": [row.address for row in rows],
            "tags": [row.tag for row in rows],
            "chain_txs": [row.chain_tx for row in rows],
            "payers": [row.payer for row in rows],
            "units": [None if row.units_expected is None else str(row.units_expected) for row in rows],
            "currencies": [row.value_currency for row in rows],
            "values": [None if row.value_units is None else str(row.value_units) for row in rows],
            "tolerances": [row.tolerance_bps for row in rows],
            "accepted": [",".join(row.accepts) for row in rows],  # arrays of unequal length are no array
            "confirmations": [row.confirmations for row in rows],
            "deadlines": [row.deadline_at for row in rows],
            "metadata": list(metadata),
            "correlation_ids": [row.correlation_id for row in rows],
            "look_job_ids": [row.look_job_id for row in rows],
            "polls": [row.next_poll_at for row in rows],
            "state": DEPOSIT.initial,
            "now": rows[0].created_at,
        },
    )
    jobs.submit_many(session, [_look(row) for row in rows])


def _look(row: Deposit) -> NewJob:
    return NewJob(
        LOOK,
        {"deposit_id": str(row.id)},
        tenant=row.tenant,
        subject=row.subject,
        correlation_id=row.correlation_id,
        id=row.look_job_id or new_id(),
    )
