"""Every SELECT and lock of packets."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Uuid, any_, func, literal, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from domain.claim.models import Packet, PacketAllowed, PacketClaim
from domain.claim.states import PacketState

Pair = tuple[UUID, str]
"""A packet and a claimant."""


def _any_of(ids: Iterable[UUID]) -> Any:
    return any_(literal(list(ids), ARRAY(Uuid)))


def get(session: Session, packet_id: UUID, *, tenant: str | None = None) -> Packet | None:
    found = session.get(Packet, packet_id)
    return found if found is not None and tenant in (None, found.tenant) else None


def many(session: Session, ids: Collection[UUID]) -> dict[UUID, Packet]:
    rows = session.scalars(select(Packet).where(Packet.id == _any_of(ids)))
    return {row.id: row for row in rows}


def lock(session: Session, ids: Collection[UUID]) -> dict[UUID, Packet]:
    """In the order of their ids, as whoever locks several does; as they are once they are locked."""
    query = select(Packet).where(Packet.id == _any_of(ids)).order_by(Packet.id).with_for_update()
    return {row.id: row for row in session.scalars(query.execution_options(populate_existing=True))}


def page(
    session: Session, *, tenant: str | None, state: PacketState | None, before: UUID | None, limit: int
) -> Sequence[Packet]:
    query = select(Packet).order_by(Packet.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(Packet.tenant == tenant)
    if state is not None:
        query = query.where(Packet.state == state)
    if before is not None:
        query = query.where(Packet.id < before)
    return session.scalars(query).all()


# --- claims ------------------------------------------------------------------------------------------------------

_CLAIMS_OF = text(
    """
    SELECT known.* FROM unnest(cast(:packets AS uuid[]), cast(:claimants AS text[])) AS asked (packet_id, claimant)
    JOIN packet_claims AS known ON known.packet_id = asked.packet_id AND known.claimant = asked.claimant
    """
)
_ALLOWED_OF = text(
    """
    SELECT known.* FROM unnest(cast(:packets AS uuid[]), cast(:claimants AS text[])) AS asked (packet_id, claimant)
    JOIN packet_allowed AS known ON known.packet_id = asked.packet_id AND known.claimant = asked.claimant
    """
)
_FREE = text(
    """
    SELECT place FROM generate_series(1, :count) AS place
    WHERE NOT EXISTS (SELECT FROM packet_claims AS taken
                      WHERE taken.packet_id = :packet_id AND taken.place = place.place)
    ORDER BY place LIMIT :limit
    """
)


def claims_of(session: Session, pairs: Collection[Pair]) -> dict[Pair, PacketClaim]:
    asked = {"packets": [packet for packet, _ in pairs], "claimants": [claimant for _, claimant in pairs]}
    query = select(PacketClaim).from_statement(_CLAIMS_OF).execution_options(populate_existing=True)
    return {(row.packet_id, row.claimant): row for row in session.scalars(query, asked)}


def allowed_of(session: Session, pairs: Collection[Pair]) -> set[Pair]:
    """Those of the pairs that stand on the packet's list."""
    asked = {"packets": [packet for packet, _ in pairs], "claimants": [claimant for _, claimant in pairs]}
    return {(row.packet_id, row.claimant) for row in session.execute(_ALLOWED_OF, asked)}


def free_places(session: Session, packet: Packet, limit: int) -> Sequence[int]:
    """The first places that nobody has won, in order."""
    last = session.scalar(select(func.max(PacketClaim.place)).where(PacketClaim.packet_id == packet.id)) or 0
    if last == packet.claims:  # none was left out, as nearly always
        return range(last + 1, min(last + limit, packet.count) + 1)
    return session.scalars(_FREE, {"packet_id": packet.id, "count": packet.count, "limit": limit}).all()


def winners(session: Session, ids: Collection[UUID]) -> dict[UUID, list[Row[Any]]]:
    """Claimant, place, units and time of every claim on each of the packets, by place."""
    columns = (
        PacketClaim.packet_id,
        PacketClaim.claimant,
        PacketClaim.place,
        PacketClaim.units,
        PacketClaim.claimed_at,
    )
    found: dict[UUID, list[Row[Any]]] = defaultdict(list)
    query = select(*columns).where(PacketClaim.packet_id == _any_of(ids))
    rows: Iterable[Any] = session.execute(query.order_by(PacketClaim.packet_id, PacketClaim.place)).all()
    for row in rows:
        found[row.packet_id].append(row)
    return found


def allow_lists(session: Session, ids: Collection[UUID]) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = defaultdict(list)
    query = select(PacketAllowed.packet_id, PacketAllowed.claimant).where(PacketAllowed.packet_id == _any_of(ids))
    for row in session.execute(query):
        found[row.packet_id].append(row.claimant)
    return found


def ranking(session: Session, packet_id: UUID, limit: int) -> Sequence[PacketClaim]:
    query = select(PacketClaim).where(PacketClaim.packet_id == packet_id)
    return session.scalars(query.order_by(PacketClaim.units.desc(), PacketClaim.place).limit(limit)).all()


def claims_page(session: Session, packet_id: UUID, *, after: int, limit: int) -> Sequence[PacketClaim]:
    query = select(PacketClaim).where(PacketClaim.packet_id == packet_id, PacketClaim.place > after)
    return session.scalars(query.order_by(PacketClaim.place).limit(limit)).all()


# --- what is to be done ------------------------------------------------------------------------------------------


def due(session: Session, *, state: PacketState, past: timedelta, after: Packet | None, limit: int) -> Sequence[Packet]:
    """Those whose time ended this long ago by the database's clock, the oldest first."""
    query = select(Packet).where(Packet.state == state, Packet.expires_at <= func.now() - past)
    if after is not None:
        query = query.where(tuple_(Packet.expires_at, Packet.id) > (after.expires_at, after.id))
    return session.scalars(query.order_by(Packet.expires_at, Packet.id).limit(limit)).all()


def unforgotten(session: Session, limit: int) -> Sequence[Packet]:
    """Closed ones that Redis may still have."""
    query = select(Packet).where(Packet.state == "closed", Packet.forgotten_at.is_(None))
    return session.scalars(query.order_by(Packet.id).limit(limit)).all()


def mark_forgotten(session: Session, ids: Collection[UUID]) -> None:
    session.execute(
        update(Packet).where(Packet.id == _any_of(ids)).values(forgotten_at=func.now()),
        execution_options={"synchronize_session": False},
    )


_WORK = text(
    """
    SELECT EXISTS (SELECT FROM packets WHERE state <> 'closed' AND expires_at <= :now - interval '1 second')
        OR EXISTS (SELECT FROM packets WHERE state = 'closed' AND forgotten_at IS NULL)
    """
)


def has_work(session: Session, now: datetime) -> bool:
    """Whether a packet is to be closed or forgotten."""
    return bool(session.execute(_WORK, {"now": now}).scalar_one())


def open_after(session: Session, after: UUID | None, limit: int) -> Sequence[Packet]:
    query = select(Packet).where(Packet.state == "open").order_by(Packet.id).limit(limit)
    return session.scalars(query if after is None else query.where(Packet.id > after)).all()


def clock(session: Session) -> datetime:
    """The database's, now and not when the transaction began."""
    found: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return found


# --- writing -----------------------------------------------------------------------------------------------------

_ALLOW = text(
    """
    INSERT INTO packet_allowed (packet_id, claimant)
    SELECT :packet_id, claimant FROM unnest(cast(:claimants AS text[])) AS claimant
    """
)


def allow(session: Session, packet_id: UUID, claimants: Sequence[str]) -> None:
    session.execute(_ALLOW, {"packet_id": packet_id, "claimants": list(claimants)})
