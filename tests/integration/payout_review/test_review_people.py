"""Ways in which people could have paid twice, decided alone, or been left with a payout that nobody can end."""

from uuid import UUID

import pytest

from core import clock
from core.db import transaction
from core.errors import ConflictError
from domain.payout import by_hand, proceeding, queries, resolving, stopping
from domain.payout.by_hand import Evidence
from domain.payout.models import Payout
from domain.payout.states import PayoutState
from providers.payout.base import Refusal, RemittanceState, Standing
from tests.integration.payout.counter import Book, Entry
from tests.integration.payout_review.test_review_sending import ACME, told
from tests.integration.payout_sending.desk import FEE, RICH, SUSPENSE, TRANSIT, UNITS, USER, Desk

R = RemittanceState
S = PayoutState
ADA, ANN, BOB = "person:ada", "person:ann", "person:bob"


def step(payout_id: UUID, doing: str, actor: str) -> Payout:
    with transaction() as session:
        made: Payout = getattr(stopping, doing)(session, payout_id, actor=actor, reason="odd")
    return made


def record(payout_id: UUID) -> None:
    shown = Evidence(reference="FT26-1", paid_on=clock.now().date(), note="at the counter")
    with transaction() as session:
        seen = queries.get(session, payout_id)
        assert seen is not None
        by_hand.record(session, payout_id, shown, actor=ADA, seen_hash=seen.content_hash)


def test_what_a_provider_has_after_all_is_not_paid_by_hand_too_and_ends(desk: Desk) -> None:
    desk.provider.answers = [Refusal.PROVIDER]
    payout_id = desk.sent()
    with transaction() as session:
        by_hand.take(session, payout_id, actor=ANN, reason="it refused")
    desk.provider.make(desk.provider.asked[0])
    told(desk, payout_id, R.PENDING)
    assert (desk.state(payout_id), desk.breaks()) == (S.SUBMITTED, ["payout.sent_twice"])
    with pytest.raises(ConflictError, match="to be paid by a provider"):
        record(payout_id)
    told(desk, payout_id, R.PAID)
    assert (desk.state(payout_id), desk.balance(ACME), desk.balance(TRANSIT)) == (S.PAID, -UNITS, 0)
    assert desk.balance(SUSPENSE) == 0


def test_what_two_people_said_wrongly_of_it_does_not_stand_in_the_way_of_paying_it_by_hand(desk: Desk) -> None:
    desk.provider.answers = [Standing.UNKNOWN]
    payout_id = desk.sent()
    with transaction() as session:
        resolving.propose(session, payout_id, "failed", {"note": "they have none"}, actor=ANN)
    with transaction() as session:
        resolving.confirm(session, payout_id, "failed", actor=BOB)
    told(desk, payout_id, R.PENDING)
    told(desk, payout_id, R.FAILED, Refusal.PROVIDER)
    with transaction() as session:
        by_hand.take(session, payout_id, actor=ANN, reason="they can't")
    record(payout_id)
    with transaction() as session:
        by_hand.confirm(session, payout_id, actor=BOB, reason="seen")
    assert (desk.state(payout_id), desk.balance(USER), desk.balance(ACME)) == (S.PAID, RICH - UNITS - FEE, 0)


def test_nobody_thaws_his_own_payout_that_another_froze(desk: Desk) -> None:
    payout_id = desk.approved(maker=ADA)
    step(payout_id, "freeze", BOB)
    with pytest.raises(ConflictError, match="person:bob froze"):
        step(payout_id, "thaw", "person:Ada")
    assert step(payout_id, "thaw", ANN).current is S.HELD
    step(payout_id, "freeze", ADA)
    assert step(payout_id, "thaw", ADA).current is S.HELD  # his own word


def test_what_a_provider_has_after_all_goes_on_when_it_thaws_whatever_is_said_of_its_destination(desk: Desk) -> None:
    payout_id = desk.sent()
    told(desk, payout_id, R.FAILED)
    told(desk, payout_id, R.PENDING)
    shop = Book()
    shop.entries[desk.get(payout_id).beneficiary_id] = Entry(desk.get(payout_id).beneficiary_id, state="refused")
    step(payout_id, "thaw", ANN)
    with transaction() as session:
        proceeding.proceed(session, payout_id, shop.ports())
    desk.work()
    assert (desk.state(payout_id), desk.accepted(), desk.balance(TRANSIT)) == (S.SUBMITTED, 1, UNITS + FEE)
