"""Packets that Redis doesn't have: read from PostgreSQL, to be loaded or, if they are over, to be answered for."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.orm import Session

from core.hot.script import Item
from domain.claim import queries
from domain.claim.hot import (
    ENDED,
    Answer,
    ClaimResult,
    joined,
    keys_of_packet,
    ms_of,
    shard_of_packet,
)
from domain.claim.models import Packet
from domain.claim.states import PacketState, Reason

Key = tuple[str, UUID]
"""A tenant and a packet."""
WEIGHT_MAX = 200_000
"""Winners of packets that are over which one process remembers: some 100 MB at most."""
LOAD_ROWS_MAX = 20_000
"""Shares, winners and names that one call of Redis takes: about ten milliseconds."""


@dataclass(frozen=True, slots=True)
class Over:
    """A packet that is closed, or none at all. What it answers never changes once it is closed."""

    result: ClaimResult
    won: Mapping[str, tuple[int, int, datetime]]

    def answer(self, claimant: str) -> Answer:
        first = self.won.get(claimant)
        return Answer(self.result) if first is None else Answer(ClaimResult.ALREADY, *first)


UNKNOWN = Over(ClaimResult.UNKNOWN, {})


class Remembered:
    """The packets over that were asked for last, so that latecomers needn't ask PostgreSQL each. For all threads."""

    def __init__(self, weight_max: int = WEIGHT_MAX) -> None:
        self._weight_max = weight_max
        self._weight = 0
        self._kept: OrderedDict[Key, Over] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Over | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Key, over: Over) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = over
            self._weight += 1 + len(over.won)
            while self._weight > self._weight_max:
                _, dropped = self._kept.popitem(last=False)
                self._weight -= 1 + len(dropped.won)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._weight = 0


remembered = Remembered()


def look(session: Session, missed: Mapping[Key, str]) -> dict[Key, Item | Over]:
    """What PostgreSQL knows of packets that Redis missed, each with the ticket of the miss: an item for LOAD, or Over.

    Call it after the miss, in a transaction that began after it: that is what makes loading safe. What of it changes
    meanwhile is harmless, as it changes because Redis has the packet again, and then nothing is loaded.
    """
    found: dict[Key, Item | Over] = {}
    for key in missed:
        known = remembered.get(key)
        if known is not None:
            found[key] = known
    rest = missed.keys() - found.keys()
    packets = queries.many(session, {packet_id for _, packet_id in rest})
    mine = {key: packet for key in rest if (packet := packets.get(key[1])) is not None and packet.tenant == key[0]}
    ids = {packet.id for packet in mine.values() if packet.current is not PacketState.FUNDED}
    won = queries.winners(session, ids)
    listed = queries.allow_lists(
        session, {each.id for each in mine.values() if each.allow_list and each.reason is None}
    )
    for key in rest:
        packet = mine.get(key)
        if packet is None or packet.current is PacketState.FUNDED:
            found[key] = UNKNOWN
        elif packet.ended is not None:
            over = _over(packet.ended, won.get(packet.id, []))
            remembered.keep(key, over)
            found[key] = over
        else:
            found[key] = _item(packet, won.get(packet.id, []), listed.get(packet.id, []), missed[key])
    return found


def _over(why: Reason, won: Sequence[Row[Any]]) -> Over:
    return Over(ENDED[why], {row.claimant: (row.place, row.units, row.claimed_at) for row in won})


def _item(packet: Packet, won: Sequence[Row[Any]], listed: Sequence[str], ticket: str) -> Item:
    taken = {row.place for row in won}
    left = [(place, units) for place, units in enumerate(packet.shares, 1) if place not in taken]
    winners = [(row.claimant, row.place, row.units, ms_of(row.claimed_at)) for row in won]
    return Item(
        shard_of_packet(packet.id),
        keys_of_packet(packet.tenant, packet.id),
        (
            ticket,
            str(ms_of(packet.expires_at)),
            packet.group_name or "",
            "1" if packet.allow_list else "",
            joined(left),
            joined(winners),
            ",".join(listed),
        ),
    )


def portions(items: Sequence[Item]) -> Iterator[list[Item]]:
    """As many as one call may take at a time: while a script runs, Redis does nothing else."""
    part: list[Item] = []
    rows = 0
    for item in items:
        size = 1 + sum(words.count(",") for words in item.args)
        if part and rows + size > LOAD_ROWS_MAX:
            yield part
            part, rows = [], 0
        part.append(item)
        rows += size
    if part:
        yield part
