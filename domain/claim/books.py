"""Writing what was decided, by Redis or in its place by PostgreSQL: claims, ends of packets, and their journals.

A decision that can't be booked, such as one for a closed account, is kept all the same, with the reason in `refused`:
its winner was answered. Its units stay in the packet's account until it can be booked; then the same is written again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import plain_array, text_array
from domain.claim import postings, queries
from domain.claim.models import Packet
from domain.claim.states import EVENTS, PACKET, PacketState, Reason
from ledger.batches import post_all

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Win:
    """A share that was won. Like an event, equal to itself only."""

    packet_id: UUID
    claimant: str
    place: int
    units: int
    at: datetime
    generation: int
    seq: int | None


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """A packet that was closed with shares left. What goes back is what no claim took."""

    packet_id: UUID
    why: Reason
    at: datetime


Decision = Win | End
Problems = dict[Decision, str]

_INSERT = text(
    """
    WITH written AS (
      INSERT INTO packet_claims (packet_id, claimant, place, units, claimed_at, generation, seq)
      SELECT * FROM unnest(cast(:packets AS uuid[]), cast(:claimants AS text[]), cast(:places AS int[]),
                           cast(:units AS numeric[]), cast(:times AS timestamptz[]), cast(:generations AS bigint[]),
                           cast(:seqs AS bigint[]))
      ON CONFLICT DO NOTHING RETURNING packet_id, claimant, place
    )
    SELECT count(*) AS total,
           CASE WHEN count(*) < :all THEN jsonb_agg(jsonb_build_array(packet_id, claimant, place)) END AS rows
    FROM written
    """
)
_REFUSE = text(
    """
    UPDATE packet_claims AS known SET refused = new.refused
    FROM unnest(cast(:packets AS uuid[]), cast(:claimants AS text[]), cast(:reasons AS text[]))
      AS new (packet_id, claimant, refused)
    WHERE known.packet_id = new.packet_id AND known.claimant = new.claimant
    """
)


def move(packet: Packet, event: str, *, reason: Reason | None = None, at: datetime) -> None:
    """The only way a packet's state changes. At its end, what no claim took is to go back."""
    packet.state = PACKET.then(packet.current, event)
    if packet.current is PacketState.OPEN:
        packet.opened_at = at
    elif packet.current is PacketState.CLOSED:
        was_open = packet.opened_at is not None
        packet.reason, packet.closed_at = reason, at
        packet.units_refunded = packet.units - packet.units_claimed if was_open else 0
    log.info("packet.moved", packet_id=str(packet.id), state=packet.state, reason=reason)


def write(session: Session, wins: Sequence[Win], ends: Sequence[End]) -> Problems:
    """Write decisions in the caller's transaction, and say which can't be booked or can't be so, and why.

    Idempotent: what is written already changes nothing, but for what was refused, which is tried again.
    """
    packets = queries.lock(session, {win.packet_id for win in wins} | {end.packet_id for end in ends})
    problems: Problems = {}
    owed = _record_wins(session, packets, wins, problems)
    returned = _record_ends(packets, ends, problems)
    session.flush()
    _book(session, packets, owed, returned, problems)
    return problems


def _record_wins(
    session: Session, packets: Mapping[UUID, Packet], wins: Sequence[Win], problems: Problems
) -> dict[Win, bool]:
    """Those that are to be booked: False if it is the first time."""
    shares = {packet.id: packet.shares for packet in packets.values()}
    possible = []
    for win in wins:
        drawn = shares.get(win.packet_id, ())
        if win.place <= len(drawn) and drawn[win.place - 1] == win.units:
            possible.append(win)
        else:
            problems[win] = f"packet {win.packet_id} has no share {win.place} of {win.units} units"
    are_open = {packet.id for packet in packets.values() if packet.current is PacketState.OPEN}
    fresh = _insert(session, [win for win in possible if win.packet_id in are_open])
    _count(packets, fresh)
    owed = dict.fromkeys(fresh, False)
    others = [win for win in possible if win not in owed]
    known = queries.claims_of(session, [(win.packet_id, win.claimant) for win in others]) if others else {}
    for win in others:
        claim = known.get((win.packet_id, win.claimant))
        if claim is None or claim.place != win.place:
            state = packets[win.packet_id].state
            has = "nothing" if claim is None else f"share {claim.place}"
            problems[win] = f"of packet {win.packet_id}, which is {state}, {win.claimant} has {has}, not {win.place}"
        elif claim.refused is not None:
            owed[win] = True
    return owed


def _insert(session: Session, wins: Sequence[Win]) -> list[Win]:
    """Those that were not there, nor conflict with what was."""
    if not wins:
        return []
    found = session.execute(
        _INSERT,
        {
            "all": len(wins),
            "packets": plain_array([win.packet_id for win in wins]),
            "claimants": text_array([win.claimant for win in wins]),
            "places": plain_array([win.place for win in wins]),
            "units": plain_array([win.units for win in wins]),
            "times": plain_array([win.at for win in wins]),
            "generations": plain_array([win.generation for win in wins]),
            "seqs": plain_array([win.seq for win in wins]),
        },
    ).one()
    if found.total == len(wins):  # as always, but after a crash
        return list(wins)
    written = {(UUID(packet), claimant, place) for packet, claimant, place in found.rows or ()}
    fresh = []
    for win in wins:
        key = (win.packet_id, win.claimant, win.place)
        if key in written:
            written.remove(key)  # a repeat in the same batch is none of those that were written
            fresh.append(win)
    return fresh


def _count(packets: Mapping[UUID, Packet], wins: Iterable[Win]) -> None:
    by_packet: dict[UUID, list[Win]] = defaultdict(list)
    for win in wins:
        by_packet[win.packet_id].append(win)
    for packet_id, mine in by_packet.items():
        packet = packets[packet_id]
        packet.claims += len(mine)
        packet.units_claimed += sum(win.units for win in mine)
        if packet.claims == packet.count:
            move(packet, EVENTS[Reason.EMPTY], reason=Reason.EMPTY, at=mine[-1].at)


def _record_ends(packets: Mapping[UUID, Packet], ends: Sequence[End], problems: Problems) -> list[End]:
    """Those of which something goes back."""
    returned = []
    for end in ends:
        packet = packets.get(end.packet_id)
        if packet is None or packet.current is PacketState.FUNDED:
            problems[end] = f"packet {end.packet_id} is not open"
            continue
        if packet.current is PacketState.OPEN:
            move(packet, EVENTS[end.why], reason=end.why, at=end.at)
        elif packet.refund_refused is None:
            continue
        if packet.units_refunded:
            returned.append(end)
    return returned


def _book(
    session: Session,
    packets: Mapping[UUID, Packet],
    owed: Mapping[Win, bool],
    returned: Sequence[End],
    problems: Problems,
) -> None:
    """Post it all in one batch, and write down what is refused now and what no longer is."""
    decisions: list[Decision] = [*owed, *returned]
    if not decisions:
        return
    journals = {packet.id: postings.claims(packet) for packet in packets.values()}
    outcomes = post_all(
        session,
        [
            postings.refund(packets[each.packet_id])
            if isinstance(each, End)
            else journals[each.packet_id](each.claimant, each.place, each.units)
            for each in decisions
        ],
    )
    changed: dict[Win, str | None] = {}
    for decision, outcome in zip(decisions, outcomes, strict=True):
        why = None if outcome.error is None else str(outcome.error)
        if why is not None:
            problems[decision] = why
        if isinstance(decision, End):
            packets[decision.packet_id].refund_refused = why
        elif why is not None or owed[decision]:
            changed[decision] = why
    if changed:
        asked = {
            "packets": [win.packet_id for win in changed],
            "claimants": [win.claimant for win in changed],
            "reasons": list(changed.values()),
        }
        session.execute(_REFUSE, asked)
