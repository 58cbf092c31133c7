"""Webhooks of payout providers: each leads to a look; what is about payments and payouts goes to whom it is about."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from core.db import transaction
from core.errors import PermanentError, TransientError
from core.jobs import Job
from domain.payout.states import PayoutState
from domain.webhook.states import ReceiptState
from providers.payout.base import Notice, RemittanceState
from tasks import fiat_webhook, payout_webhook
from tasks.payout_webhook import Spoken
from tests.integration.payout_sending.desk import Desk
from tests.integration.payout_sending.scripted import ScriptedProvider
from tests.integration.webhook.desk import Gateway, Payment, Payments, kept, notice, order, receipt


def no_gateway(_: str) -> Gateway:
    raise PermanentError("there is no such gateway")


def away(_: str) -> Gateway:
    raise TransientError("no credentials")


def says(
    *notices: Notice, provider: str | None = "acme", missing: TransientError | None = None
) -> payout_webhook.Notices:
    def spoken(_: str, __: bytes, ___: Mapping[str, str]) -> Spoken:
        return Spoken(provider, notices, missing)

    return spoken


def about(reference: str | None, provider_ref: str | None = None) -> Notice:
    return Notice(reference=reference, provider_ref=provider_ref, kind="transfer.completed")


def follow(
    receipt_id: UUID, gateway_of: object, payouts_of: payout_webhook.Notices, payments: Payments | None = None
) -> None:
    known = payments or Payments([])
    fiat_webhook.follow(receipt_id, known, gateway_of, payouts_of)  # type: ignore[arg-type]


def looks() -> Sequence[dict[str, str]]:
    with transaction() as session:
        return list(session.scalars(select(Job.args).where(Job.task == "payout.look", Job.status == "queued")))


def test_a_notice_leads_to_a_look_and_the_look_to_the_books(desk: Desk) -> None:
    payout_id = desk.sent()
    attempt = desk.attempts(payout_id)[0]
    desk.provider.tell(attempt.reference, RemittanceState.PAID)
    one = kept(provider="acme")
    follow(one, no_gateway, says(about(attempt.reference)))
    assert looks() == [{"payout_id": str(payout_id), "attempt_id": str(attempt.id)}]
    assert receipt(one).current is ReceiptState.HANDLED
    assert desk.state(payout_id) is PayoutState.SUBMITTED  # not believed by itself
    desk.work()
    assert desk.state(payout_id) is PayoutState.PAID


def test_by_their_name_alone_too(desk: Desk) -> None:
    payout_id = desk.sent()
    follow(kept(provider="acme"), no_gateway, says(about(None, desk.told(payout_id).provider_ref)))
    assert len(looks()) == 1


@pytest.mark.parametrize("reference", ["01890a5d-ac96-774b-bcce-b302099a8057", "none of ours"])
def test_about_what_nobody_knows_yet_it_waits(desk: Desk, reference: str) -> None:
    one = kept(provider="acme")
    with pytest.raises(TransientError, match="unknown"):
        follow(one, no_gateway, says(about(reference)))
    assert receipt(one).current is ReceiptState.WAITING
    assert looks() == []


def test_of_a_name_that_is_both_each_hears_of_its_own(books: pytest.MonkeyPatch) -> None:
    desk = Desk.of(books, ScriptedProvider("stripe"))
    payout_id = desk.sent()
    payment = Payment()
    gateway, payments = Gateway([notice(payment.id)], {str(payment.id): order(payment.id)}), Payments([payment])
    one = kept(provider="stripe")
    follow(one, lambda _: gateway, says(about(desk.reference(payout_id))), payments)
    assert (len(payments.recorded), len(looks())) == (1, 1)
    other = kept(b"other", provider="stripe")
    follow(other, lambda _: Gateway([]), says())
    assert receipt(other).current is ReceiptState.IGNORED


def test_where_only_payouts_are_sent_there_nobody_waits_for_a_gateway(desk: Desk) -> None:
    payout_id = desk.sent()
    one = kept(provider="acme")
    follow(one, away, says(about(desk.reference(payout_id))))
    assert receipt(one).current is ReceiptState.HANDLED
    with pytest.raises(TransientError, match="no credentials"):  # it may be about a payment
        follow(kept(b"other", provider="acme"), away, says())


def test_one_that_only_a_payout_provider_could_explain_waits_for_its_credentials(desk: Desk) -> None:
    one = kept(provider="acme")
    with pytest.raises(TransientError, match="not here"):
        follow(one, lambda _: Gateway([]), says(missing=TransientError("not here")))
    assert receipt(one).current is ReceiptState.RECEIVED


def test_a_look_that_is_asked_for_while_its_call_is_under_way_takes_nothing_for_lost(desk: Desk) -> None:
    payout_id = desk.approved()
    seen: list[PayoutState] = []

    def told(_: object) -> None:
        desk.look(payout_id)  # the poll's: too early
        seen.append(desk.state(payout_id))
        desk.look(payout_id, desk.attempts(payout_id)[0].id)
        seen.append(desk.state(payout_id))

    desk.provider.before_answer = told
    desk.submit(payout_id)
    assert seen == [PayoutState.SUBMITTING, PayoutState.SUBMITTED]
    assert desk.events(payout_id)[-2:] == ["submit", "accept"]
    assert desk.clock.passed == timedelta(0)
