"""Every SELECT and lock of deposits."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Row,
    Text,
    any_,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from domain.deposit.models import Deposit, DepositAddress, DepositEvent, DepositTransfer
from domain.deposit.scan_models import ChainBlock, ChainCursor
from domain.deposit.states import OPEN, DepositState, Mode
from ledger import freezes

_ADDRESSES = text(
    """
    SELECT known.chain, known.address, known.tenant, known.kind, known.tagged, known.owner_account
    FROM unnest(cast(:chains AS text[]), cast(:addresses AS text[])) AS asked (chain, address)
    JOIN deposit_addresses AS known ON known.chain = asked.chain AND known.address = asked.address
    """
)


def _any_of(given: Collection[str]) -> ColumnElement[Any]:
    """One parameter however many there are: a statement holds no more than 65,535, and a block may pay more often."""
    return any_(literal(list(given), ARRAY(Text)))


def addresses(session: Session, keys: Collection[tuple[str, str]]) -> Sequence[Row[Any]]:
    """What is known of these addresses, each named by (chain, address)."""
    if not keys:
        return []
    asked = {"chains": [chain for chain, _ in keys], "addresses": [address for _, address in keys]}
    return session.execute(_ADDRESSES, asked).all()


def scanned_addresses(session: Session, chain: str) -> Sequence[str]:
    """Every address of the chain that was ever allotted, and tagged ones: money can arrive there for ever."""
    return session.scalars(
        select(DepositAddress.address)
        .where(DepositAddress.chain == chain, DepositAddress.watched_at.is_not(None))
        .order_by(DepositAddress.address)
    ).all()


def first_allotment(session: Session, chain: str) -> datetime | None:
    """Since when there is something to scan for."""
    return session.scalar(select(func.min(DepositAddress.watched_at)).where(DepositAddress.chain == chain))


def owners(session: Session, chain: str, given: Collection[str]) -> dict[str, DepositAddress]:
    rows = session.scalars(
        select(DepositAddress).where(DepositAddress.chain == chain, DepositAddress.address == _any_of(given))
    )
    return {row.address: row for row in rows}


def registered(session: Session, given: Collection[str]) -> set[str]:
    """Those of the addresses that are registered, on whatever chain."""
    return set(session.scalars(select(DepositAddress.address).where(DepositAddress.address == _any_of(given))))


def lock_addresses(session: Session, given: Collection[str]) -> None:
    """Lock these addresses on every chain where they are registered, always in the same order."""
    session.execute(
        select(DepositAddress.address)
        .where(DepositAddress.address == _any_of(given))
        .order_by(DepositAddress.address, DepositAddress.chain)
        .with_for_update()
    )


_ONE_REGISTERS = text("SELECT pg_advisory_xact_lock(hashtext('deposit_addresses registering'))")


def lock_registering(session: Session) -> None:
    """One at a time registers addresses or adds a key, so that each sees what the other did on another chain."""
    session.execute(_ONE_REGISTERS)


_TAG_OWNERS = text(
    """
    SELECT known.address, known.tag, known.owner_account
    FROM unnest(cast(:addresses AS text[]), cast(:tags AS text[])) AS asked (address, tag)
    JOIN deposit_tags AS known ON known.chain = :chain AND known.address = asked.address AND known.tag = asked.tag
    """
)


def tag_owners(session: Session, chain: str, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Whose these tags are, each named by (address, tag). Those that are nobody's are missing."""
    if not keys:
        return {}
    asked = {"chain": chain, "addresses": [address for address, _ in keys], "tags": [tag for _, tag in keys]}
    return {(row.address, row.tag): row.owner_account for row in session.execute(_TAG_OWNERS, asked)}


# --- deposits ----------------------------------------------------------------------------------------------------


def get(session: Session, deposit_id: UUID, *, tenant: str | None = None) -> Deposit | None:
    deposit = session.get(Deposit, deposit_id)
    return deposit if deposit is not None and tenant in (None, deposit.tenant) else None


def history(session: Session, deposit_id: UUID) -> Sequence[DepositEvent]:
    return session.scalars(
        select(DepositEvent).where(DepositEvent.deposit_id == deposit_id).order_by(DepositEvent.id)
    ).all()


def has_event(session: Session, deposit_id: UUID, event: str, *, since: datetime) -> bool:
    found = select(DepositEvent.id).where(
        DepositEvent.deposit_id == deposit_id, DepositEvent.event == event, DepositEvent.at >= since
    )
    return session.scalar(found.limit(1)) is not None


def page(
    session: Session,
    *,
    tenant: str | None,
    state: DepositState | None,
    before: UUID | None,
    limit: int,
    owed: bool = False,
    waiting: bool = False,
) -> Sequence[Deposit]:
    """Newest first. `owed`: whose undoing left a debt or a frozen account; `waiting`: held up for want of something."""
    query = select(Deposit).order_by(Deposit.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(Deposit.tenant == tenant)
    if state is not None:
        query = query.where(Deposit.state == state)
    if owed:
        holders = freezes.holders(session, Deposit.SUBJECT)
        frozen = [UUID(holder.removeprefix(Deposit.SUBJECT)) for holder in holders]
        query = query.where((Deposit.units_short > 0) | Deposit.id.in_(frozen))
    if waiting:
        query = query.where(Deposit.waits_for.is_not(None))
    if before is not None:
        query = query.where(Deposit.id < before)
    return session.scalars(query).all()


def count_live(session: Session) -> dict[str, int]:
    """Those that are not final, and all that are suspended. Reads two partial indices, never the history."""
    rows = session.execute(
        select(Deposit.state, func.count()).where(Deposit.final_at.is_(None)).group_by(Deposit.state)
    )
    counts = {row[0]: row[1] for row in rows}
    kept = session.scalar(
        select(func.count()).where(
            # In the statement's text, so that the partial index is found by whatever plan.
            Deposit.state == literal_column("'suspended'"),
            Deposit.final_at.is_not(None),
        )
    )
    if kept:
        counts[DepositState.SUSPENDED.value] = counts.get(DepositState.SUSPENDED.value, 0) + kept
    return counts


def unsettled(session: Session, tenant: str, account: str, asset: str) -> int:
    """Units that the account was credited with by deposits that may still be undone."""
    return int(
        session.scalar(
            select(func.coalesce(func.sum(Deposit.units_received), 0)).where(
                # In the statement's text, so that the partial index is found by whatever plan.
                Deposit.state == literal_column("'credited'"),
                Deposit.final_at.is_(None),
                Deposit.tenant == tenant,
                Deposit.account == account,
                Deposit.asset == asset,
            )
        )
        or 0
    )


def count_waiting(session: Session) -> list[tuple[str, str, int, datetime]]:
    """(chain, what for, how many, since when the oldest) of the deposits that are deep enough and held up."""
    rows = session.execute(
        select(Deposit.chain, Deposit.waits_for, func.count(), func.min(Deposit.waits_since))
        .where(Deposit.waits_for.is_not(None))
        .group_by(Deposit.chain, Deposit.waits_for)
        .order_by(Deposit.chain, Deposit.waits_for)
    )
    return [(row[0], row[1] or "", row[2], since) for row in rows if (since := row[3]) is not None]


def lock(session: Session, deposit_id: UUID) -> Deposit | None:
    return session.scalars(
        select(Deposit).where(Deposit.id == deposit_id).with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()


def claim_due(session: Session, chain: str, *, now: datetime, until: datetime, limit: int) -> Sequence[Deposit]:
    """Take the oldest due deposits until `until`. Those that another poll holds are skipped, not waited for."""
    due = (
        select(Deposit.id)
        .where(Deposit.chain == chain, Deposit.next_poll_at <= now)
        .order_by(Deposit.next_poll_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte()  # as a plain subquery the planner may run it more than once, and take more than the limit
    )
    return session.scalars(
        update(Deposit).where(Deposit.id.in_(select(due.c.id))).values(next_poll_at=until).returning(Deposit),
        execution_options={"populate_existing": True},
    ).all()


def give_back(session: Session, ids: Collection[UUID], *, until: datetime, at: datetime) -> None:
    """Make claimed deposits due at `at`, unless they have been worked on since."""
    put_off(session, dict.fromkeys(ids, at), until=until)


# Locked in the order of their ids, as by a scan: of two who want the same rows one waits, and neither for ever.
_PUT_OFF = text(
    """
    WITH due AS (
      SELECT deposits.id, given.at
      FROM unnest(cast(:ids AS uuid[]), cast(:at AS timestamptz[])) AS given (id, at)
      JOIN deposits ON deposits.id = given.id
      WHERE deposits.next_poll_at = :until
      ORDER BY deposits.id FOR UPDATE OF deposits
    )
    UPDATE deposits SET next_poll_at = due.at FROM due WHERE deposits.id = due.id
    """
)


def put_off(session: Session, times: Mapping[UUID, datetime | None], *, until: datetime) -> None:
    """Make claimed deposits due at these times, unless they have been worked on since."""
    if times:
        session.execute(_PUT_OFF, {"ids": list(times), "at": list(times.values()), "until": until})


def lock_waiting(
    session: Session, chain: str, given: Collection[str], tagged: Collection[tuple[str, str]] = ()
) -> Sequence[Deposit]:
    """The deposits on these addresses, and those of these (address, tag), for which a transfer may still arrive,
    oldest first. On a tagged address only those of the tag are locked: it may have any number of them.
    """
    addresses = [*given, *(address for address, _ in tagged)]
    tags = ["" for _ in given] + [tag for _, tag in tagged]
    asked = select(
        func.unnest(literal(addresses, ARRAY(Text)), literal(tags, ARRAY(Text)))
        .table_valued("address", "tag")
        .render_derived()
    )
    return session.scalars(
        select(Deposit)
        .where(
            Deposit.chain == chain,
            tuple_(Deposit.address, literal_column("coalesce(deposits.tag, '')")).in_(asked),
            Deposit.mode != Mode.TX,
            Deposit.final_at.is_(None),
            Deposit.state.in_(OPEN),
        )
        .order_by(Deposit.id)
        .with_for_update(),
        execution_options={"populate_existing": True},
    ).all()


_NOTE_ON_ADDRESSES = text(
    """
    INSERT INTO deposit_events (deposit_id, at, event, state_before, state_after, detail)
    SELECT deposits.id, :now, :event, deposits.state, deposits.state, told.detail
    FROM unnest(cast(:addresses AS text[]), cast(:tags AS text[]), cast(:details AS jsonb[]))
      AS told (address, tag, detail)
    JOIN deposits ON deposits.chain = :chain AND deposits.address = told.address
                 AND coalesce(deposits.tag, '') = told.tag
    WHERE deposits.mode <> 'tx' AND deposits.final_at IS NULL AND deposits.state = ANY(:open)
      AND NOT EXISTS (SELECT FROM deposit_events AS noted WHERE noted.deposit_id = deposits.id AND noted.event = :event)
    """
)


def note_on_addresses(
    session: Session,
    chain: str,
    event: str,
    details: Mapping[tuple[str, str | None], Mapping[str, Any]],
    *,
    now: datetime,
) -> None:
    """A line in the history of every deposit that waits on one of these (address, tag), once for ever. Locks none."""
    session.execute(
        _NOTE_ON_ADDRESSES,
        {
            "chain": chain,
            "event": event,
            "addresses": [address for address, _ in details],
            "tags": [tag or "" for _, tag in details],
            "details": [json.dumps(detail) for detail in details.values()],
            "open": sorted(OPEN),
            "now": now,
        },
    )


# --- transfers ---------------------------------------------------------------------------------------------------


def claimed_by_others(session: Session, deposit: Deposit, chain_tx: str) -> frozenset[int]:
    """The indices of the transaction's transfers that belong to other deposits."""
    return frozenset(
        session.scalars(
            select(DepositTransfer.index).where(
                DepositTransfer.chain == deposit.chain,
                DepositTransfer.chain_tx == chain_tx,
                DepositTransfer.orphaned_at.is_(None),
                DepositTransfer.deposit_id != deposit.id,
            )
        )
    )


_CLAIMED = text(
    """
    SELECT known.chain_tx, known.index
    FROM unnest(cast(:txs AS text[]), cast(:indices AS bigint[])) AS asked (chain_tx, index)
    JOIN deposit_transfers AS known ON known.chain = :chain AND known.chain_tx = asked.chain_tx
                                   AND known.index = asked.index AND known.orphaned_at IS NULL
    """
)


def claimed(session: Session, chain: str, keys: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the transfers (chain_tx, index) that belong to a deposit already."""
    if not keys:
        return set()
    asked = {"chain": chain, "txs": [chain_tx for chain_tx, _ in keys], "indices": [index for _, index in keys]}
    return {(row[0], row[1]) for row in session.execute(_CLAIMED, asked)}


def deposits_in_blocks(session: Session, chain: str, hashes: Collection[str]) -> list[tuple[UUID, str]]:
    """(deposit, block hash) of every living transfer in these blocks."""
    rows = session.execute(
        select(DepositTransfer.deposit_id, DepositTransfer.block_hash)
        .where(
            DepositTransfer.chain == chain,
            DepositTransfer.orphaned_at.is_(None),
            DepositTransfer.block_hash.in_(hashes),
        )
        .order_by(DepositTransfer.deposit_id)
    )
    return [(row[0], row[1]) for row in rows]


def orphan(session: Session, deposit_id: UUID, *, now: datetime) -> None:
    """The deposit's transfer is no longer on the chain."""
    session.execute(
        update(DepositTransfer)
        .where(DepositTransfer.deposit_id == deposit_id, DepositTransfer.orphaned_at.is_(None))
        .values(orphaned_at=now)
    )


# --- the scan ----------------------------------------------------------------------------------------------------


def cursor(session: Session, chain: str, *, locked: bool = False) -> ChainCursor | None:
    query = select(ChainCursor).where(ChainCursor.chain == chain)
    return session.scalars(
        query.with_for_update() if locked else query, execution_options={"populate_existing": True}
    ).one_or_none()


def stored_blocks(session: Session, chain: str) -> Sequence[ChainBlock]:
    """Newest first."""
    return session.scalars(select(ChainBlock).where(ChainBlock.chain == chain).order_by(ChainBlock.number.desc())).all()


def stored_hash(session: Session, chain: str, number: int) -> str | None:
    return session.scalar(select(ChainBlock.hash).where(ChainBlock.chain == chain, ChainBlock.number == number))


def failing_chains(session: Session, *, longer_than: timedelta, now: datetime) -> Sequence[ChainCursor]:
    """Chains whose nodes have not answered for this long, and those whose scan is stopped."""
    return session.scalars(
        select(ChainCursor)
        .where((ChainCursor.status == "stopped") | (ChainCursor.failing_since < now - longer_than))
        .order_by(ChainCursor.chain)
    ).all()
