"""Putting a packet into Redis: only as it is, whole, and not over what is there."""

import re
from collections.abc import Mapping
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from core import clock
from core.hot.script import Item
from core.ids import new_id
from domain.claim import claiming, loading
from domain.claim.hot import LOAD, TICKET_MAX
from domain.claim.service import ClaimResult
from tests.integration.claim.desk import Desk

R = ClaimResult


def load(desk: Desk, item: Item) -> str:
    return desk.table.hand.decide(LOAD, [item])[0].answer


def test_what_is_there_is_not_loaded_over(desk: Desk) -> None:
    packet = desk.packet()
    item = desk.loads(packet)
    assert load(desk, item) == "L"
    desk.claim(packet, "ann")
    assert load(desk, item) == "P"
    assert desk.claim(packet, "ann").result is R.ALREADY


def test_what_was_read_for_another_generation_is_not_loaded(desk: Desk) -> None:
    packet = desk.packet(count=2)
    item = desk.loads(packet)
    desk.claim(packet, "ann")
    desk.turn()
    assert load(desk, item) == "O"
    assert desk.keys_of(packet) == []
    assert desk.claim(packet, "bob").place == 2


@pytest.mark.parametrize(("older_ms", "answer"), [(9_000, "L"), (10_001, "O"), (-60_000, "O")])
def test_what_was_read_long_ago_is_not_loaded(desk: Desk, older_ms: int, answer: str) -> None:
    packet = desk.packet()
    item = desk.loads(packet)
    generation, _, ms = item.args[0].partition(".")
    assert load(desk, Item(item.shard, item.keys, (f"{generation}.{int(ms) - older_ms}", *item.args[1:]))) == answer


def test_a_ticket_lives_as_long_in_the_script_as_it_is_said() -> None:
    [written] = re.findall(r"TICKET_MS = (\d+)", LOAD.body)
    assert timedelta(milliseconds=int(written)) == TICKET_MAX


def test_a_large_packet_is_loaded_whole(desk: Desk) -> None:
    users = tuple(f"user-{number}" for number in range(10_000))
    packet = desk.packet(units=10**9, count=10_000, allowed=users)
    assert desk.claim(packet, "user-9999").place == 1
    assert desk.claim(packet, "user-10000").result is R.NOT_ELIGIBLE
    name, shares = desk.keys_of(packet)
    assert desk.store.llen(shares) == 9_999
    assert desk.store.hget(name, "=left") == "9999"
    desk.turn()
    assert desk.claim(packet, "user-9999").result is R.ALREADY
    assert desk.claim(packet, "user-1").place == 2


def test_large_packets_are_loaded_a_few_at_a_time() -> None:
    items = [Item(0, ("p", "s"), ("1.1", "1", "", "", ",".join("1 1" for _ in range(rows)), "", "")) for rows in
             (9_000, 9_000, 9_000, 50_000, 1, 1)]  # fmt: skip
    assert [len(part) for part in loading.portions(items)] == [2, 1, 1, 2]
    assert list(loading.portions([])) == []


def test_who_comes_after_the_end_does_not_trouble_postgresql_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    packet = desk.packet(count=1)
    desk.claim(packet, "ann")
    desk.turn()
    looks: list[int] = []

    def counted(session: Session, missed: Mapping[loading.Key, str]) -> dict[loading.Key, Item | loading.Over]:
        looks.append(len(missed))
        return loading.look(session, missed)

    monkeypatch.setattr(claiming, "look", counted)
    assert [desk.claim(packet, user).result for user in ("ann", "bob", "cid")] == [R.ALREADY, R.EMPTY, R.EMPTY]
    assert len(looks) == 1


def test_only_so_much_is_remembered() -> None:
    kept = loading.Remembered(weight_max=10)
    when = clock.now()
    packets = [("t", new_id()) for _ in range(3)]
    for key in packets:
        kept.keep(key, loading.Over(R.EMPTY, {f"u{number}": (1, 1, when) for number in range(3)}))
        kept.get(packets[0])
    assert [kept.get(key) is not None for key in packets] == [True, False, True]
