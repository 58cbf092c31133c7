"""Looks that find nothing new are made together, and never instead of one that would."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import update

from chains.base import ChainTx
from core import clock
from core.db import transaction
from domain.deposit import quiet, service
from domain.deposit.models import Deposit
from tests.integration.deposit.desk import ETHER, Desk

pytest_plugins = ["tests.support.evm_fixtures"]


def make_due() -> None:
    with transaction() as session:
        session.execute(update(Deposit).where(Deposit.next_poll_at.is_not(None)).values(next_poll_at=clock.now()))


def test_deposits_that_are_not_deep_enough_are_put_off_together(desk: Desk) -> None:
    deposits = [desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=9) for _ in range(3)]
    desk.poll()
    desk.dev.mine(2)
    make_due()
    before = clock.now()
    assert quiet.put_off_resting(desk.reader, now=clock.now()) == 3
    for deposit in map(desk.get, deposits):
        assert deposit.next_poll_at is not None and deposit.next_poll_at > before
        assert deposit.confirmations_seen >= 3 and deposit.state == "pending"


def test_one_that_is_deep_enough_is_left_for_its_verdict(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=3)
    desk.poll()
    desk.dev.mine(2)
    make_due()
    assert quiet.put_off_resting(desk.reader, now=clock.now()) == 0
    assert desk.poll(deposit).state == "credited"


def test_one_whose_block_is_gone_is_left_to_be_undone(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=9)
    desk.poll()
    desk.dev.reorg(1)
    make_due()
    assert quiet.put_off_resting(desk.reader, now=clock.now()) == 0
    assert desk.poll(deposit).state == "watching"


def test_a_credited_one_is_put_off_until_no_reorg_reaches_it(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.dev.mine(1)
    with transaction() as session:
        session.execute(update(Deposit).values(next_poll_at=clock.now()))
    assert desk.poll(deposit).state == "credited"
    head = desk.reader.head()
    assert head.finalized is None or desk.get(deposit).block_number is not None
    desk.dev.mine(20)
    make_due()
    assert quiet.put_off_resting(desk.reader, now=clock.now()) == 0
    assert desk.poll(deposit).final_at is not None


def test_unknown_transactions_are_put_off_together_and_a_known_one_is_not(desk: Desk) -> None:
    unseen = [desk.by_hash(f"0x{number:064x}") for number in range(1, 4)]
    known = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    make_due()
    assert quiet.put_off_unseen(desk.reader, now=clock.now()) == 3
    assert all((desk.get(deposit).next_poll_at or clock.now()) > clock.now() for deposit in unseen)
    assert desk.get(known).next_poll_at is not None and (desk.get(known).next_poll_at or clock.now()) <= clock.now()


def test_one_near_its_deadline_is_looked_at_by_itself(desk: Desk) -> None:
    deposit = desk.by_hash("0x" + "0c" * 32, deadline_at=clock.now() + quiet.AHEAD_MAX)
    make_due()
    assert quiet.put_off_unseen(desk.reader, now=clock.now()) == 0
    assert desk.get(deposit).state == "watching"


def test_transactions_with_news_are_not_kept_waiting_by_a_backlog_of_unknown_ones(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "UNSEEN_AT_ONCE", 4)
    known = [desk.by_hash(desk.dev.send(desk.shared, ETHER)) for _ in range(3)]
    unseen = [desk.by_hash(f"0x{number:064x}") for number in range(1, 9)]
    with transaction() as session:
        for deposits, minutes in ((known, 9), (unseen, 1)):
            due = update(Deposit).where(Deposit.id.in_([each.id for each in deposits]))
            session.execute(due.values(next_poll_at=clock.now() - timedelta(minutes=minutes)))
    asked: list[int] = []
    real = desk.reader.chain_txs

    def counted(ids: Sequence[str]) -> Mapping[str, ChainTx]:
        asked.append(len(ids))
        return real(ids)

    monkeypatch.setattr(desk.reader, "chain_txs", counted)
    service.poll(desk.reader)
    assert asked == [4, 10]  # the one unknown one among the first four is put off, and then all others are looked at
    assert "watching" not in {desk.get(each).state for each in known}


def test_a_node_that_is_behind_another_counts_no_blocks_below_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = desk.reader.head()
    desk.dev.mine(2)
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=9)
    desk.poll()
    make_due()
    monkeypatch.setattr(desk.reader, "head", lambda: before)
    assert quiet.put_off_resting(desk.reader, now=clock.now()) == 1
    assert desk.get(deposit).confirmations_seen == 0
