"""What is done with a webhook that was kept: whom it is about, whether it is believed, and who learns of it."""

from datetime import timedelta
from uuid import UUID

import pytest

from core import db, jobs
from core.errors import PermanentError, TransientError
from core.ids import new_id
from core.jobs import JobStatus
from domain.fiat_payment.service import Source
from domain.webhook import service
from domain.webhook.settings import webhook
from domain.webhook.states import ReceiptState
from providers.fiat import registry
from providers.fiat.base import Order, OrderState
from tasks import fiat_webhook
from tasks.base import TASKS, run_jobs
from tests.integration.webhook.desk import Gateway, Payment, Payments, age, kept, notice, order, receipt
from tests.support.jobs import job


@pytest.fixture(autouse=True)
def _limits(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_REFETCH_UNITS", '{"iso4217:EUR": 10000}')
    webhook.cache_clear()
    monkeypatch.setattr(fiat_webhook, "webhook", webhook)


def follow(receipt_id: UUID, gateway: Gateway, payments: Payments) -> None:
    fiat_webhook.follow(receipt_id, payments, lambda _: gateway)  # type: ignore[arg-type, return-value]


def test_a_signed_order_of_a_small_amount_is_recorded_without_asking() -> None:
    payment = Payment()
    gateway, payments = Gateway([notice(payment.id, order=order(payment.id))]), Payments([payment])
    one = kept(b"body")
    follow(one, gateway, payments)
    [(about, told, asked_at, source)] = payments.recorded
    assert (about, told, source) == (payment.id, order(payment.id), Source.WEBHOOK)
    row = receipt(one)
    assert asked_at == row.received_at, "what it says is no newer than when it came"
    assert (row.current, gateway.finds, gateway.bodies) == (ReceiptState.HANDLED, [], [b"body"])
    follow(one, gateway, payments)
    assert len(payments.recorded) == 1


DOUBTFUL = {
    "no order": (None, "pending"),
    "large": ({"paid_units": 10_000}, "pending"),
    "of a currency without a limit": ({"currency": "iso4217:NGN", "paid_units": 1}, "pending"),
    "refunded": ({"refunded_units": 1}, "pending"),
    "disputed": ({"disputed_units": 1}, "pending"),
    "charged back": ({"charged_back_units": 1}, "pending"),
    "of a payment that was credited": ({}, "credited"),
    "of a payment that is disputed": ({}, "disputed"),
    "of a payment that failed": ({}, "failed"),
}


@pytest.mark.parametrize(("changed", "state"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_is_doubtful_is_asked_of_the_provider(changed: dict[str, object] | None, state: str) -> None:
    payment = Payment(state=state)
    said: Order | None = None if changed is None else order(payment.id, **changed)
    true = order(payment.id, paid_units=77)
    gateway = Gateway([notice(payment.id, order=said)], known={str(payment.id): true})
    payments = Payments([payment])
    one = kept()
    follow(one, gateway, payments)
    [(_, told, asked_at, source)] = payments.recorded
    assert told == true and source == Source.FIND and gateway.finds == [str(payment.id)]
    assert asked_at > receipt(one).received_at


def test_a_body_that_is_not_signed_is_never_believed() -> None:
    payment = Payment()
    gateway = Gateway([notice(payment.id, order=order(payment.id))])
    gateway.known[str(payment.id)] = order(payment.id, paid_units=0, state=OrderState.OPEN)
    payments = Payments([payment])
    follow(kept(provider="flutterwave"), gateway, payments)
    assert [told.paid_units for _, told, _, _ in payments.recorded] == [0]


def test_below_the_limit_and_at_it() -> None:
    for units, asked in ((9_999, 0), (10_000, 1)):
        payment = Payment()
        said = order(payment.id, paid_units=units)
        gateway = Gateway([notice(payment.id, order=said)], known={str(payment.id): said})
        follow(kept(f"{units}".encode()), gateway, Payments([payment]))
        assert len(gateway.finds) == asked


def test_an_order_that_the_provider_does_not_know_is_asked_for_again() -> None:
    payment = Payment(state="credited")
    gateway, payments = Gateway([notice(payment.id)]), Payments([payment])
    one = kept()
    with pytest.raises(TransientError, match="doesn't know"):
        follow(one, gateway, payments)
    assert payments.recorded == [] and receipt(one).current is ReceiptState.RECEIVED


def test_another_order_than_the_payment_s_is_never_recorded() -> None:
    payment = Payment()
    for gateway in (
        Gateway([notice(None, order=order(new_id()))]),
        Gateway([notice(payment.id)], known={str(payment.id): order(new_id())}),
    ):
        payments = Payments([payment])
        one = kept(repr(gateway.said).encode())
        with pytest.raises(PermanentError, match="another order"):
            follow(one, gateway, payments)
        assert payments.recorded == [] and receipt(one).current is ReceiptState.RECEIVED


def test_what_is_about_nothing_of_ours_is_ignored() -> None:
    one = kept()
    follow(one, Gateway([]), Payments())
    assert (receipt(one).current, receipt(one).note) == (ReceiptState.IGNORED, "it is about nothing of ours")


# --- unknown references ----------------------------------------------------------------------------------------------


def test_an_unknown_reference_waits_with_growing_pauses_and_is_handled_when_it_is_known() -> None:
    payment = Payment()
    gateway, payments = Gateway([notice(payment.id, order=order(payment.id))]), Payments()
    one = kept()
    pauses = []
    for hours in (0, 1, 1, 10):
        age(one, hours)
        with pytest.raises(TransientError, match=str(payment.id)) as raised:
            follow(one, gateway, payments)
        assert receipt(one).current is ReceiptState.WAITING
        pauses.append(raised.value.retry_after or timedelta(0))
    assert pauses[0] == timedelta(seconds=5) and pauses[3] == timedelta(hours=1)
    assert timedelta(minutes=30) <= pauses[1] < timedelta(minutes=31) and pauses[2] == timedelta(hours=1)
    payments.rows.append(payment)
    follow(one, gateway, payments)
    assert receipt(one).current is ReceiptState.HANDLED and len(payments.recorded) == 1


def test_after_its_time_it_is_given_up_and_a_replay_gives_it_another() -> None:
    gateway, payments = Gateway([notice(new_id())]), Payments()
    one = kept()
    for hours, error in ((0, TransientError), (23, TransientError), (2, PermanentError), (0, PermanentError)):
        age(one, hours)
        with pytest.raises(error, match="unknown: paid reference"):
            follow(one, gateway, payments)
    with db.transaction() as session:
        service.replay(session, one, actor="ada")
    with pytest.raises(TransientError):
        follow(one, gateway, payments)


def test_of_several_those_that_are_known_are_recorded_at_once() -> None:
    here, later = Payment(provider_ref="pi_1"), Payment(provider_ref="pi_2")
    said = [
        notice(None, provider_ref="pi_1", order=order(here.id)),
        notice(None, provider_ref="pi_2", order=order(later.id, provider_ref="pi_2")),
    ]
    gateway, payments = Gateway(said), Payments([here])
    one = kept()
    with pytest.raises(TransientError):
        follow(one, gateway, payments)
    assert [about for about, *_ in payments.recorded] == [here.id]
    payments.rows.append(later)
    follow(one, gateway, payments)
    assert [about for about, *_ in payments.recorded][1:] == [here.id, later.id]
    assert receipt(one).current is ReceiptState.HANDLED


# --- as a job --------------------------------------------------------------------------------------------------------


def run(receipt_id: UUID) -> UUID:
    with db.transaction() as session:
        [found] = jobs.page(session, subject=service.subject(receipt_id))
        found.run_at = found.created_at
        session.add(found)
    run_jobs(TASKS["fiat_webhook.handle"], [found.id])
    return found.id


def _use(monkeypatch: pytest.MonkeyPatch, gateway: Gateway, payments: Payments) -> None:
    monkeypatch.setattr(fiat_webhook, "payments", payments)
    monkeypatch.setattr(registry, "get", lambda _: gateway)


def test_the_job_tries_again_and_is_a_dead_letter_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, payments = Gateway([notice(new_id())]), Payments()
    _use(monkeypatch, gateway, payments)
    one = kept()
    done = job(run(one))
    assert (done.current, done.last_error and done.last_error["kind"]) == (JobStatus.QUEUED, "transient")
    assert timedelta(seconds=4) < done.run_at - receipt(one).received_at < timedelta(seconds=20)
    age(one, 25)
    done = job(run(one))
    assert (done.current, done.last_error and done.last_error["kind"]) == (JobStatus.DEAD, "permanent")
    assert receipt(one).current is ReceiptState.WAITING, "it is still to be seen that it waits for somebody"


def test_a_job_without_a_gateway_waits_for_its_credentials() -> None:
    """In a deploy the API may have them before the worker does."""
    registry.reload()
    done = job(run(kept()))
    assert (done.current, done.last_error and done.last_error["kind"]) == (JobStatus.QUEUED, "transient")


def test_bodies_are_removed_by_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [kept(f"{n}".encode()) for n in range(5)]
    with db.transaction() as session:
        for one in ids:
            service.settle(session, one, "handle")
    for one in ids:
        age(one, 24 * 40)
    monkeypatch.setattr(fiat_webhook, "REMOVE_LIMIT", 3)
    with db.transaction() as session:
        fiat_webhook.remove_old_receipts(session)
    assert sum(receipt(one).body is None for one in ids) == 3
    with db.transaction() as session:
        assert len(jobs.page(session, task="fiat_webhook.remove_old_receipts")) == 1
