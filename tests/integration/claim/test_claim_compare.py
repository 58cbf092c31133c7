"""Redis held against PostgreSQL, and what the timetable asks for."""

from typing import Any

import pytest
from sqlalchemy import text

from core import breaks
from core.db import transaction
from core.errors import PermanentError
from core.hot.errors import StoreAwayError
from core.hot.keys import SEQUENCE, key
from core.hot.store import StoreMode
from domain.claim import service
from domain.claim.hot import CLAIM, CLOSE, claim_item, close_item, read
from domain.claim.service import ClaimResult, Reason
from tasks import claim_sync
from tests.integration.claim.desk import Desk

R = ClaimResult


def test_what_agrees_is_no_break(desk: Desk) -> None:
    packet = desk.packet(units=1_000, count=10, allowed=("a", "b", "c"))
    desk.packet()  # Redis doesn't have this one
    desk.claim(packet, "a")
    assert service.compare() == 0  # PostgreSQL is behind
    desk.table.drain()
    assert service.compare() == 0
    applied(desk)
    desk.claim(packet, "b")
    desk.table.drain()
    applied(desk)
    assert service.compare() == 0
    desk.turn(StoreMode.POSTGRES)
    assert service.compare() == 0


def applied(desk: Desk) -> None:
    """Say how far the books have come, as the sync process does."""
    for shard in range(4):
        seq = int(str(desk.store.get(key(desk.table.generation, shard, SEQUENCE))))
        with transaction() as session:
            session.execute(
                text("UPDATE hot_shards SET applied_seq = :seq WHERE generation = :generation AND shard = :shard"),
                {"seq": seq, "generation": desk.table.generation, "shard": shard},
            )


def test_what_differs_is_a_break_and_stays_as_it_is(desk: Desk) -> None:
    packet = desk.packet(units=1_000, count=10)
    for user in ("a", "b"):
        desk.claim(packet, user)
    desk.table.drain()
    applied(desk)
    name, _ = desk.keys_of(packet)
    kept: dict[Any, Any] = dict(desk.store.hgetall(name))
    cases: list[tuple[dict[Any, Any], tuple[str, ...]]] = [
        ({"a": "1 999 1700000000000"}, ()),
        ({"=left": "9"}, ("a",)),
        ({"=left": "9"}, ()),
        ({"=left": "7", "c": "3 1 1700000000000"}, ()),
    ]
    for changes, gone in cases:
        desk.store.hset(name, mapping=changes)
        if gone:
            desk.store.hdel(name, *gone)
        assert service.compare() == 1, changes
        desk.store.delete(name)
        desk.store.hset(name, mapping=kept)
    with transaction() as session:
        [found] = breaks.page(session)
    assert (found.kind, found.subject, found.tenant, found.times) == ("claim.packet", packet.subject, desk.tenant, 4)
    assert (found.expected, found.found) == ("2 claims, all events applied", "3 claims")
    assert desk.store.hgetall(name) == kept
    assert service.compare() == 0


def test_the_tasks_do_what_the_timetable_asks(desk: Desk) -> None:
    made, packet = desk.create(), desk.packet()
    with transaction() as session:
        claim_sync.open_packet(session, made.id)
    assert desk.read(made).current == "open"
    desk.expire(packet)
    claim_sync.close_due()
    desk.table.drain()
    claim_sync.compare()
    claim_sync.close_due()
    assert desk.read(packet).forgotten_at is not None
    assert all(int(desk.store.ttl(key)) >= 29 for key in desk.keys_of(packet))


def test_a_store_that_is_away_is_waited_for(desk: Desk) -> None:
    packet = desk.packet()
    desk.expire(packet)
    for sequence in desk.store.scan_iter("tr:*:seq"):
        desk.store.delete(sequence)  # as after FLUSHALL
    claim_sync.close_due()
    assert desk.read(packet).current == "open"
    with pytest.raises(StoreAwayError):
        desk.claim(packet, "ann")
    with pytest.raises(PermanentError), transaction() as session:
        claim_sync.apply_parked(session, generation=1, shard=0, seq=1, event="other.kind x")


def test_a_claim_that_redis_has_just_closed_is_not_loaded_back(desk: Desk) -> None:
    packet = desk.packet(count=3)
    desk.claim(packet, "ann")
    desk.expire(packet)
    [reply] = desk.table.hand.decide(CLOSE, [close_item(desk.tenant, packet.id, Reason.EXPIRED)])
    assert reply.event is not None
    assert read(desk.table.hand.decide(CLAIM, [claim_item(desk.ask(packet, "bob"))])[0].answer) == service.Answer(
        R.EXPIRED
    )
    [again] = desk.table.hand.decide(CLOSE, [close_item(desk.tenant, packet.id, Reason.CANCELLED)])
    assert (again.answer, again.event) == ("D", None)
