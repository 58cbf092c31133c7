"""What is left over when something goes wrong behind a payout that was taken."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text, update

from api import payout_metrics
from core import breaks, clock
from core.db import transaction
from core.errors import TallyrailError
from core.jobs import Job
from domain.beneficiary import service as book
from domain.payout import looking, service
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


def test_refusals_are_counted_by_why(desk: Desk) -> None:
    desk.fund(50_000)
    there = desk.destination()
    asked: list[tuple[str, dict[str, Any]]] = [
        ("funds", {"units": 50_001, "beneficiary_id": there}),
        ("limit", {"units": 9_000, "beneficiary_id": there}),
        ("request", {"units": 0, "beneficiary_id": there}),
        ("request", {"narration": "\n", "beneficiary_id": there}),
        ("conflict", {"beneficiary_id": there}),
    ]
    desk.set(PAYOUT_LIMIT_EACH="8000000")
    for reason, given in asked:
        if reason == "limit":
            desk.set(PAYOUT_LIMIT_EACH="8999")
        if reason == "conflict":
            with transaction() as session:
                book.refuse(session, there, actor="person:ada", reason="closed")
        before = service.refusals()
        with pytest.raises(TallyrailError):
            desk.ask(**given)
        assert service.refusals() == {**before, reason: before[reason] + 1}
    with transaction() as session:
        told = {each.name: each for each in payout_metrics.families(session)}
    samples = {each.labels["reason"]: each.value for each in told["tallyrail_payout_refusals"].samples}
    assert samples == service.refusals()
    assert told["tallyrail_payout_break_oldest_seconds"].samples[0].value == 0


def test_the_oldest_break_about_payouts_is_a_figure(desk: Desk) -> None:
    with transaction() as session:
        for kind in ("payout.balance", "fiat.fee"):
            breaks.note(session, breaks.Difference(kind=kind, subject="x", expected="1", found="2"))
        session.execute(text("UPDATE breaks SET opened_at = now() - interval '1 hour' WHERE kind = 'payout.balance'"))
        session.execute(text("UPDATE breaks SET opened_at = now() - interval '9 hours' WHERE kind = 'fiat.fee'"))
    with transaction() as session:
        told = {each.name: each for each in payout_metrics.families(session)}
    assert told["tallyrail_payout_break_oldest_seconds"].samples[0].value == pytest.approx(3_600, abs=60)
