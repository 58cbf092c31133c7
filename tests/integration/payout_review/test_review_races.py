"""Sending against people, with real threads and real sessions: one of them wins, and money and provider agree."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any
from uuid import UUID

from core import db
from core.db import transaction
from core.errors import ConflictError, TallyrailError
from domain.payout import service, submitting
from domain.payout.states import PayoutState
from domain.payout.submitting import Ask
from tests.integration.payout_sending.desk import FEE, RICH, TRANSIT, UNITS, USER, Desk

S = PayoutState
ROUNDS = 20
STEP_S = 0.001


def staggered(pool: ThreadPoolExecutor, first: Callable[[], Any], second: Callable[[], Any], by: float) -> list[Any]:
    """Both at once, but for so many seconds that the second comes later (below zero: the first)."""
    barrier = Barrier(2)

    def run(step: Callable[[], Any], late: float) -> Any:
        barrier.wait(10)
        time.sleep(max(late, 0))
        try:
            return step()
        except TallyrailError as error:
            return error

    both = [pool.submit(run, first, -by), pool.submit(run, second, by)]
    return [each.result(30) for each in both]


def begin(desk: Desk, payout_id: UUID) -> Ask | None:
    with transaction() as session:
        return submitting.begin(session, payout_id, able=desk.providers.keys())


def cancel(payout_id: UUID) -> None:
    with transaction() as session:
        service.cancel(session, payout_id, actor="key:app", reason="the user changed his mind")


def test_either_its_sending_begins_or_it_is_cancelled_and_never_both(desk: Desk) -> None:
    desk.give(RICH * 3)
    ends: Counter[PayoutState] = Counter()
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            payout_id = desk.approved()
            before, late = desk.balance(USER), (number // 2) * STEP_S * (-1) ** number
            ask, refused = staggered(pool, partial(begin, desk, payout_id), partial(cancel, payout_id), late)
            state = desk.state(payout_id)
            ends[state] += 1
            if state is S.CANCELLED:
                assert (ask, refused, desk.attempts(payout_id), desk.balance(USER)) == (None, None, [], before)
                continue
            assert isinstance(ask, Ask) and isinstance(refused, ConflictError)
            assert (state, len(desk.attempts(payout_id)), desk.balance(USER)) == (S.SUBMITTING, 1, before - UNITS - FEE)
            submitting.ask_for(ask, desk.provider)
            assert desk.state(payout_id) is S.SUBMITTED
    db.dispose()
    assert set(ends) <= {S.SUBMITTING, S.CANCELLED}
    sent = ends[S.SUBMITTING]
    assert (desk.accepted(), desk.balance(TRANSIT)) == (sent, sent * (UNITS + FEE))
    assert desk.balance(USER) == 4 * RICH - sent * (UNITS + FEE)
