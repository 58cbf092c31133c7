"""What is left over when something goes wrong behind a payout that was taken."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import update

from core import clock
from core.db import transaction
from core.jobs import Job
from domain.beneficiary import service as book
from domain.payout import looking
from domain.payout.states import PayoutState
from tasks import beneficiaries, payout_screening
from tests.integration.payout_asking.desk import SHOP, Desk


def test_an_approved_one_whose_job_is_dead_is_sent_by_the_poll(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.set(PAYOUT_FIRST_BY_HAND="0")
    desk.fund(5_000)
    there = desk.destination()
    desk.trust(there)
    made = desk.ask(beneficiary_id=there)
    assert made.current is PayoutState.APPROVED
    with transaction() as session:
        session.execute(update(Job).where(Job.task == "payout.submit").values(status="dead"))
        assert looking.dispatch(session) == 0
    now = clock.now() + timedelta(minutes=11)
    monkeypatch.setattr(clock, "now", lambda: now)
    with transaction() as session:
        assert looking.dispatch(session) == 1
    assert [job.status for job in desk.jobs("payout.submit")] == ["dead", "queued"]


def test_what_a_provider_refuses_for_its_destination_is_refused_in_the_book_with_all_that_waits_for_it(
    desk: Desk,
) -> None:
    desk.fund(5_000)
    there = desk.destination()
    made = desk.ask(beneficiary_id=there)
    assert made.current is PayoutState.AWAITING_APPROVAL
    for _ in range(2):
        with transaction() as session:
            beneficiaries.refuse_beneficiary(session, there, "stripe", "account_closed")
    with transaction() as session:
        entry = book.get(session, there, tenant=SHOP)
        assert entry is not None
        assert (entry.state, entry.failure) == ("refused", "refused_by_provider")
    (job,) = desk.jobs("payout.follow_beneficiary")
    payout_screening.follow_beneficiary(UUID(job.args["beneficiary_id"]))
    assert (desk.read(made).current, desk.read(made).failure) == (PayoutState.REJECTED, "destination_refused")
