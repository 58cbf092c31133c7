"""When a deposit is looked at again: what waits long must not crowd out what can be settled."""

from datetime import timedelta

import pytest

from domain.deposit.pace import next_poll
from tests.unit.deposit_facts import NOW, deposit

BLOCK = timedelta(seconds=12)


def test_a_transaction_that_does_not_appear_is_looked_for_more_and_more_seldom() -> None:
    for age, pause in ((1, 12 / 60), (10, 30 / 60), (20, 1), (600, 1)):
        now = NOW + timedelta(minutes=age)
        assert next_poll(deposit(), now=now) == now + timedelta(minutes=pause)


@pytest.mark.parametrize("state", ["expired", "replaced"])
def test_what_has_expired_is_looked_for_once_an_hour_at_most(state: str) -> None:
    for age, pause in ((1, 0.05), (10, 0.5), (20, 1), (100, 1)):
        now = NOW + timedelta(hours=age)
        assert next_poll(deposit(state=state), now=now) == now + timedelta(hours=pause)


def test_a_deposit_that_the_scan_keeps_from_expiring_is_looked_at_more_and_more_seldom() -> None:
    waiting = deposit(mode="address", chain_tx=None)
    assert next_poll(waiting, now=NOW) == waiting.deadline_at
    for overdue, pause in ((0, 12), (5, 12), (30, 30), (3_600, 60)):
        now = waiting.deadline_at + timedelta(seconds=overdue)
        assert next_poll(waiting, now=now) == now + timedelta(seconds=pause)


def test_what_lies_in_a_block_is_looked_at_with_every_block() -> None:
    assert next_poll(deposit(state="pending"), now=NOW) == NOW + BLOCK
    assert next_poll(deposit(state="credited"), now=NOW) == NOW + 4 * BLOCK
    assert next_poll(deposit(state="credited", final_at=NOW), now=NOW) is None


def test_the_deadline_of_a_transaction_is_looked_at_closely() -> None:
    waiting = deposit()
    ends = waiting.deadline_at
    looks = [ends - timedelta(minutes=5)]
    while looks[-1] < ends + timedelta(minutes=2):
        following = next_poll(waiting, now=looks[-1])
        assert following is not None and following > looks[-1]
        looks.append(following)
    assert ends - BLOCK in looks and ends + BLOCK in looks
    assert len([at for at in looks if ends - BLOCK <= at <= ends + BLOCK]) == 2


def test_a_deposit_with_little_time_is_looked_at_each_block() -> None:
    waiting = deposit(deadline_at=NOW + 1.5 * BLOCK)
    assert next_poll(waiting, now=NOW) == NOW + 0.5 * BLOCK
    assert next_poll(waiting, now=NOW + BLOCK) == NOW + 2 * BLOCK
