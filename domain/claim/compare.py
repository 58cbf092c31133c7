"""Open packets in Redis held against those in PostgreSQL. What differs is put on the list of breaks, and left as it is.

Redis decides first and PostgreSQL follows, so between two readings of PostgreSQL, the second of which has applied all
that Redis had decided, Redis' number of claims must lie; and where the numbers are equal, so must be the claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Row
from sqlalchemy.orm import Session

from core import breaks, db
from core.breaks import Difference
from core.hot import client, store
from core.hot.keys import SEQUENCE, key
from core.hot.models import HotShard
from domain.claim import queries
from domain.claim.hot import keys_of_packet, ms_of, shard_of_packet
from domain.claim.models import Packet

KIND = "claim.packet"
PAGE = 100


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A packet in Redis at one moment."""

    left: int
    won: Mapping[str, str]
    """Claimant -> 'place units ms'."""
    seq: int
    """Of its shard, no earlier than that: an event of the packet that is in the snapshot has no later number."""


def compare() -> int:
    """Compare all packets that are open, and say how many differ. Nothing is done where Redis doesn't decide.

    Raises RedisError if Redis does not answer.
    """
    found, after = 0, None
    while True:
        with db.transaction() as session:
            generation = store.current(session)
            page = queries.open_after(session, after, PAGE)
            won = queries.winners(session, [packet.id for packet in page])
        if not (page and generation.is_decided_by_redis):
            return found
        there = {packet.id: _snapshot(generation.number, packet) for packet in page}
        with db.transaction() as session:
            if store.current(session) != generation:
                return found  # what was read is of a generation that is over
            for packet in page:
                snapshot = there[packet.id]
                wrong = None if snapshot is None else _difference(session, generation, packet, won[packet.id], snapshot)
                if wrong is not None:
                    breaks.note(session, wrong)
                    found += 1
        after = page[-1].id


def _snapshot(generation: int, packet: Packet) -> Snapshot | None:
    """None if Redis doesn't have it: then it loads it when it is asked."""
    shard = shard_of_packet(packet.id)
    name, _ = keys_of_packet(packet.tenant, packet.id)
    # The number last: once PostgreSQL is past it, all that the packet shows has been applied.
    fields = cast("dict[str, str]", client.client().hgetall(key(generation, shard, name)))
    seq = cast("str | None", client.client().get(key(generation, shard, SEQUENCE)))
    if "=left" not in fields or seq is None:
        return None
    won = {name: value for name, value in fields.items() if name[0] not in "=~"}
    return Snapshot(int(fields["=left"]), won, int(seq))


def _difference(
    session: Session, generation: store.Generation, packet: Packet, before: Sequence[Row[Any]], there: Snapshot
) -> Difference | None:
    count = len(there.won)
    if count + there.left != packet.count:
        return _note(packet, f"{packet.count} shares", f"{count} won and {there.left} left")
    if count < len(before):
        return _note(packet, f"at least {len(before)} claims", f"{count} claims")
    if count == len(before):
        return _unlike(packet, before, there)
    shard = session.get(HotShard, (generation.number, shard_of_packet(packet.id)), populate_existing=True)
    if shard is None or shard.applied_seq < there.seq:
        return None  # PostgreSQL is behind: the next comparison tells
    after = queries.winners(session, [packet.id])[packet.id]
    if len(after) < count:
        return _note(packet, f"{len(after)} claims, all events applied", f"{count} claims")
    return _unlike(packet, after, there) if len(after) == count else None


def _unlike(packet: Packet, here: Sequence[Row[Any]], there: Snapshot) -> Difference | None:
    kept = {row.claimant: _claim(row.place, row.units, row.claimed_at) for row in here}
    for claimant in sorted(kept.keys() | there.won.keys()):
        one, other = kept.get(claimant), there.won.get(claimant)
        if one != other:
            return _note(packet, f"{claimant}: {one}", f"{claimant}: {other}")
    return None


def _claim(place: int, units: int, at: datetime) -> str:
    return f"{place} {units} {ms_of(at)}"


def _note(packet: Packet, expected: str, found: str) -> Difference:
    return Difference(
        kind=KIND,
        subject=packet.subject,
        expected=expected,
        found=found,
        tenant=packet.tenant,
        asset=packet.asset,
    )
