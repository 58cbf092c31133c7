"""Making packets: the sender's money is held at once, and in the packet's own account before anybody can claim."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from config.assets import registry
from core import clock, jobs
from core.errors import InvalidRequestError, InvariantError, NotFoundError
from core.ids import new_id
from core.jobs import NewJob
from core.money import UNITS_MAX
from domain.claim import books, postings, queries
from domain.claim.draw import SEED_BYTES
from domain.claim.hot import NAME, ms_of, time_of
from domain.claim.models import Packet
from domain.claim.states import EVENTS, PacketState, Reason, Shares
from ledger import chart, holds
from ledger.errors import AccountClosedError, AccountFrozenError, CeilingExceededError, HoldSettledError
from ledger.holds import HoldState, NewHold

OPEN = "claim_sync.open_packet"
COUNT_MAX = 10_000
ALLOWED_MAX = 10_000
LIFE_MAX = timedelta(days=30)
METADATA_BYTES_MAX = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPacket:
    """Money for others to claim, until it is all gone or its time is up. Units are in the asset's smallest unit."""

    tenant: str
    sender: str
    """The ledger account that pays and gets back what is left, such as `user:42:available`."""
    asset: str
    units: int
    count: int
    """How many shares it is split into; nobody gets two."""
    kind: Shares
    expires_at: datetime
    units_min: int = 1
    """The least that a share is to be."""
    group: str | None = None
    """Only who claims in this group may have a share."""
    allowed: tuple[str, ...] | None = None
    """Only these users may claim. None: everybody."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None


def create(session: Session, new: NewPacket) -> Packet:
    """Hold the sender's money, write the packet and the job that opens it.

    Raises InvalidRequestError, and what a hold raises (InsufficientFundsError, AccountFrozenError, AccountClosedError),
    with nothing written. `open_packet`, called once this is committed, spares people the wait for the job.
    """
    now = clock.now()
    expires_at = check(new, now)
    packet_id = new_id()
    subject = f"packet:{packet_id}"
    held = NewHold(
        tenant=new.tenant,
        reference=subject,
        source=new.sender,
        destination=chart.packet(str(packet_id)),
        asset=new.asset,
        units=new.units,
        subject=subject,
        correlation_id=new.correlation_id,
        metadata=new.metadata,
    )
    placed = holds.place(session, held)
    packet = Packet(
        id=packet_id,
        tenant=new.tenant,
        sender=new.sender,
        asset=new.asset,
        units=new.units,
        count=new.count,
        kind=new.kind,
        units_min=new.units_min,
        seed=secrets.token_bytes(SEED_BYTES),
        group_name=new.group,
        allow_list=new.allowed is not None,
        expires_at=expires_at,
        hold_id=placed.id,
        details=dict(new.metadata),
        correlation_id=new.correlation_id,
        state=PacketState.FUNDED,
        claims=0,
        units_claimed=0,
        created_at=now,
    )
    session.add(packet)
    session.flush()
    if new.allowed:
        queries.allow(session, packet_id, sorted(set(new.allowed)))
    open_it = NewJob(OPEN, {"packet_id": str(packet_id)}, tenant=new.tenant, subject=subject)
    jobs.submit(session, open_it)
    return packet


def check(new: NewPacket, now: datetime) -> datetime:
    """Refuse what can't be, whatever the books say. Returns when the packet expires, to the millisecond."""
    chart.owner_account(new.sender)
    if new.asset not in registry().assets:
        raise InvalidRequestError(f"the asset {new.asset[:200]!r} is unknown", field="asset")
    for name, number, most in (
        ("units", new.units, UNITS_MAX),
        ("count", new.count, COUNT_MAX),
        ("units_min", new.units_min, UNITS_MAX),
    ):
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
            raise InvalidRequestError(f"{name} is an integer from 1 to {most}", field=name)
    if new.units < new.count * new.units_min:
        raise InvalidRequestError(
            f"{new.units} units are too few for {new.count} shares of at least {new.units_min}", field="units"
        )
    if new.group is not None and not NAME.fullmatch(new.group):
        raise InvalidRequestError("group has 1 to 64 letters, digits, dots, dashes or underscores", field="group")
    _check_allowed(new.allowed)
    if len(json.dumps(dict(new.metadata)).encode()) > METADATA_BYTES_MAX:
        raise InvalidRequestError(f"metadata has at most {METADATA_BYTES_MAX} bytes", field="metadata")
    return _check_expiry(new.expires_at, now)


def _check_allowed(allowed: tuple[str, ...] | None) -> None:
    if allowed is None:
        return
    if not 1 <= len(allowed) <= ALLOWED_MAX:
        raise InvalidRequestError(f"a list of those allowed has 1 to {ALLOWED_MAX} users", field="allowed")
    if not all(map(NAME.fullmatch, allowed)):
        raise InvalidRequestError("a user has 1 to 64 letters, digits, dots, dashes or underscores", field="allowed")


def _check_expiry(expires_at: datetime, now: datetime) -> datetime:
    if expires_at.tzinfo is None:
        raise InvalidRequestError("expires_at needs a time zone", field="expires_at")
    if not now < expires_at <= now + LIFE_MAX:
        raise InvalidRequestError(f"expires_at is in the future, by at most {LIFE_MAX.days} days", field="expires_at")
    return time_of(ms_of(expires_at))


def open_packet(session: Session, packet_id: UUID) -> Packet:
    """Take the held money into the packet, which can be claimed from then on. Safe to run any number of times.

    Where the money can't be had, such as from an account that was frozen meanwhile, the packet is cancelled.
    Raises NotFoundError.
    """
    packet = queries.lock(session, [packet_id]).get(packet_id)
    if packet is None:
        raise NotFoundError(f"there is no packet {packet_id}", field="packet_id")
    now = queries.clock(session)
    if packet.current is not PacketState.FUNDED:
        return packet
    if now >= packet.expires_at:
        return _give_up(session, packet, Reason.EXPIRED, now)
    try:
        holds.capture(
            session,
            tenant=packet.tenant,
            hold_id=packet.hold_id,
            reference=postings.open_reference(packet),
            category="packet.open",
        )
    except (AccountFrozenError, AccountClosedError, CeilingExceededError, HoldSettledError):
        return _give_up(session, packet, Reason.CANCELLED, now)
    books.move(packet, "open", at=now)
    session.flush()
    return packet


def give_up(session: Session, packet_id: UUID, why: Reason) -> bool:
    """Let the money of a packet that was never opened go. False if it is past that."""
    packet = queries.lock(session, [packet_id])[packet_id]
    if packet.current is not PacketState.FUNDED:
        return False
    _give_up(session, packet, why, queries.clock(session))
    return True


def _give_up(session: Session, packet: Packet, why: Reason, now: datetime) -> Packet:
    found = holds.hold(session, packet.tenant, packet.hold_id).state
    if found is HoldState.POSTED:
        raise InvariantError(f"the hold of {packet.subject} was captured by somebody else")
    if found is HoldState.PENDING:
        holds.void(session, tenant=packet.tenant, hold_id=packet.hold_id)
    books.move(packet, EVENTS[why], reason=why, at=now)
    packet.forgotten_at = now  # Redis never heard of it
    session.flush()
    return packet
