"""Ending packets: those whose time is up, those that their sender takes back; and letting Redis forget them.

Nobody is promised anything before it is in the books, so it is decided by hand: what Redis loses is decided again.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from core import db
from core.errors import ConflictError, InvariantError, NotFoundError
from core.hot import client, store
from core.hot.errors import StoreAwayError
from core.hot.hand import Hand
from core.hot.script import Item
from core.hot.store import StoreMode
from domain.claim import create, fallback, queries
from domain.claim.hot import CLOSE, FORGET, LOAD, close_item, forget_item, ticket_of
from domain.claim.loading import Key, look, portions
from domain.claim.models import Packet
from domain.claim.states import PacketState, Reason

log = structlog.stdlib.get_logger(__name__)

GRACE = timedelta(seconds=1)
"""Redis' clock may be behind the database's: what is not over there yet is asked for again."""
LIMIT, PAGES = 500, 20


def close_due() -> int:
    """Close packets whose time is up, as many as one run takes. Returns how many were asked for.

    Raises StoreAwayError between two generations, UndecidedError if Redis does not answer: ask again later.
    """
    asked = 0
    for packets in _due(PacketState.FUNDED):
        asked += len(packets)
        for packet in packets:
            try:
                with db.transaction() as session:
                    create.give_up(session, packet.id, Reason.EXPIRED)
            except InvariantError:
                log.exception("packet.stuck", packet_id=str(packet.id))  # the others must not wait for it
    for packets in _due(PacketState.OPEN):
        asked += len(packets)
        _close([(packet.tenant, packet.id) for packet in packets], Reason.EXPIRED)
    return asked


def _due(state: PacketState) -> Iterator[Sequence[Packet]]:
    """In pages: those that were decided about stay due until the books know."""
    page: Sequence[Packet] = ()
    for _ in range(PAGES):
        with db.transaction() as session:
            last = page[-1] if page else None
            page = queries.due(session, state=state, past=GRACE, after=last, limit=LIMIT)
        if page:
            yield page
        if len(page) < LIMIT:
            return


def cancel(tenant: str, packet_id: UUID) -> None:
    """Take a packet back: what was won stays won, the rest returns to the sender once it is in the books.

    Raises NotFoundError, ConflictError if it is over, and as `close_due`. Cancelling twice is once.
    """
    with db.transaction() as session:
        packet = queries.get(session, packet_id, tenant=tenant)
        if packet is None:
            raise NotFoundError(f"there is no packet {packet_id}", field="packet_id")
        ended, is_open = packet.ended, packet.current is PacketState.OPEN
        if packet.current is PacketState.FUNDED:
            is_open = not create.give_up(session, packet_id, Reason.CANCELLED)
    if ended is not None and ended is not Reason.CANCELLED:
        raise ConflictError(f"the packet {packet_id} is over: {ended}")
    if is_open:
        _close([(tenant, packet_id)], Reason.CANCELLED)


def forget_closed() -> int:
    """Let Redis forget what is over and in the books, as many as one round takes. Returns how many."""
    with db.transaction() as session:
        generation = store.current(session)
        over = [(one.tenant, one.id) for one in queries.unforgotten(session, LIMIT)]
    if over and generation.mode is StoreMode.REDIS:
        _hand(generation).decide(FORGET, [forget_item(*key) for key in over])
    with db.transaction() as session:
        queries.mark_forgotten(session, [packet_id for _, packet_id in over])
    return len(over)


def _hand(generation: store.Generation) -> Hand:
    if not generation.is_decided_by_redis:
        raise StoreAwayError("the hot store is turning")
    return Hand(client.client(), generation.number)


def _close(packets: Sequence[Key], why: Reason) -> None:
    if not packets:
        return
    with db.transaction() as session:
        generation = store.current(session)
    if generation.mode is StoreMode.POSTGRES:
        with db.transaction() as session:
            fallback.close(session, [packet_id for _, packet_id in packets], why)
        return
    hand = _hand(generation)
    missed = _ask(hand, packets, why)
    if missed:
        with db.transaction() as session:
            found = look(session, missed)
        for part in portions([item for item in found.values() if isinstance(item, Item)]):
            hand.decide(LOAD, part)
        _ask(hand, list(missed), why)


def _ask(hand: Hand, packets: Sequence[Key], why: Reason) -> dict[Key, str]:
    """The tickets of those that Redis doesn't have."""
    replies = hand.decide(CLOSE, [close_item(*key, why) for key in packets])
    return {key: miss for key, reply in zip(packets, replies, strict=True) if (miss := ticket_of(reply.answer))}
