"""Claims and ends decided by PostgreSQL, while the hot store is away: the same answers, and booked at once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core import jobs
from core.hot import store
from core.hot.events import PARKED
from core.jobs import NewJob
from domain.claim import books, queries
from domain.claim.books import End, Win
from domain.claim.hot import ENDED, Answer, Ask, ClaimResult, ms_of, shard_of_packet, time_of
from domain.claim.models import Packet
from domain.claim.states import PacketState, Reason
from domain.claim.sync import event_text


def claim_many(session: Session, asks: Sequence[Ask]) -> list[Answer]:
    """An answer to each, in order, decided and booked in the caller's transaction. The asks must be `checked`.

    To be called first in its transaction. Raises StoreAwayError if it is not PostgreSQL that decides: ask Redis again.
    """
    generation = store.decide_here(session).number
    desk = _Desk(session, asks, generation)
    answers = [desk.decide(ask) for ask in asks]
    _write(session, desk.wins, [], generation)
    return answers


def close(session: Session, ids: Sequence[UUID], why: Reason) -> None:
    """Close those that are open and, if they are to expire, past their time. As `claim_many`."""
    generation = store.decide_here(session).number
    packets = queries.lock(session, ids)
    now = _now(session)
    ends = [
        End(packet.id, why, now)
        for packet in packets.values()
        if packet.current is PacketState.OPEN and (why is not Reason.EXPIRED or packet.expires_at <= now)
    ]
    _write(session, [], ends, generation)


def _now(session: Session) -> datetime:
    """In whole milliseconds, as Redis has it."""
    return time_of(ms_of(queries.clock(session)))


def _write(session: Session, wins: Sequence[Win], ends: Sequence[End], generation: int) -> None:
    """What can't be booked waits for a person as an event does that the sync process could not apply."""
    for decision, why in books.write(session, wins, ends).items():
        event = {
            "generation": generation,
            "shard": shard_of_packet(decision.packet_id),
            "seq": 0,
            "event": event_text(decision),
            "why": why,
        }
        jobs.submit(session, NewJob(PARKED, event, subject=f"packet:{decision.packet_id}"))


class _Desk:
    """What claim.lua knows of each packet, and the same decisions in the same order."""

    def __init__(self, session: Session, asks: Sequence[Ask], generation: int) -> None:
        self._session = session
        self._generation = generation
        self._packets = queries.lock(session, {ask.packet_id for ask in asks})
        self._now = _now(session)  # once they are locked: no claim is decided before one that it has waited for
        pairs = {(ask.packet_id, ask.claimant) for ask in asks if ask.packet_id in self._packets}
        self._won = {
            pair: (claim.place, claim.units, claim.claimed_at)
            for pair, claim in queries.claims_of(session, pairs).items()
        }
        self._allowed = queries.allowed_of(session, pairs)
        self._left = {packet.id: packet.count - packet.claims for packet in self._packets.values()}
        self._asked: dict[UUID, int] = defaultdict(int)
        for ask in asks:
            self._asked[ask.packet_id] += 1
        self._places: dict[UUID, Iterator[int]] = {}
        self.wins: list[Win] = []

    def decide(self, ask: Ask) -> Answer:
        packet = self._packets.get(ask.packet_id)
        if packet is None or packet.tenant != ask.tenant or packet.current is PacketState.FUNDED:
            return Answer(ClaimResult.UNKNOWN)
        first = self._won.get((packet.id, ask.claimant))
        if first is not None:
            return Answer(ClaimResult.ALREADY, *first)
        refusal = self._refusal(packet, ask)
        return self._win(packet, ask.claimant) if refusal is None else Answer(refusal)

    def _refusal(self, packet: Packet, ask: Ask) -> ClaimResult | None:
        if packet.ended is not None:
            return ENDED[packet.ended]
        if self._left[packet.id] == 0:
            return ClaimResult.EMPTY
        if self._now >= packet.expires_at:
            return ClaimResult.EXPIRED
        return None if self._may(packet, ask) else ClaimResult.NOT_ELIGIBLE

    def _may(self, packet: Packet, ask: Ask) -> bool:
        if packet.group_name is not None and ask.group != packet.group_name:
            return False
        return not packet.allow_list or (packet.id, ask.claimant) in self._allowed

    def _win(self, packet: Packet, claimant: str) -> Answer:
        if packet.id not in self._places:
            self._places[packet.id] = iter(queries.free_places(self._session, packet, self._asked[packet.id]))
        place = next(self._places[packet.id])
        units = packet.shares[place - 1]
        self.wins.append(Win(packet.id, claimant, place, units, self._now, self._generation, None))
        self._won[packet.id, claimant] = place, units, self._now
        self._left[packet.id] -= 1
        return Answer(ClaimResult.WON, place, units, self._now)
