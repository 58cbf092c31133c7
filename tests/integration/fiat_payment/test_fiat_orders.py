"""Orders: asked for once, looked up where nobody answered, and taken elsewhere only where that is proven safe."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from core import clock
from core.db import transaction
from core.errors import InvalidRequestError, OutcomeUnknownError, TransientError
from domain.fiat_payment import service
from domain.fiat_payment.ordering import begin
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import PaymentState
from providers.fiat.base import Method, OrderState, Standing
from tests.integration.fiat_payment.desk import Desk
from tests.integration.fiat_payment.scripted import USD

S = PaymentState
KEY = "ab" * 32


def test_an_order_is_asked_for_once_however_often_its_job_runs(desk: Desk) -> None:
    payment = desk.create(10_000, description="Order 1001", return_url="https://shop.example/paid")
    for _ in range(3):
        desk.order(payment)
    [request] = desk.gateway.created
    assert (request.reference, request.units, request.description) == (str(payment), 10_000, "Order 1001")
    assert desk.state(payment) is S.PENDING
    assert desk.payment(payment).page_url == f"https://pay.example/{payment}"
    assert desk.attempts(payment) == [("acme", "accepted")]


def test_what_nobody_answered_for_is_looked_up_and_found(two: Desk) -> None:
    two.gateway.answers = [Standing.UNKNOWN]
    payment = two.create(10_000)
    with pytest.raises(OutcomeUnknownError):
        two.order(payment)
    assert two.attempts(payment) == [("acme", "unknown")]
    two.order(payment)
    assert (two.state(payment), two.attempts(payment)) == (S.PENDING, [("acme", "accepted")])
    assert [len(gateway.created) for gateway in two.gateways.values()] == [1, 0]


def test_what_nobody_knows_is_asked_for_again_of_the_same_gateway_only_when_its_time_is_over(two: Desk) -> None:
    two.gateway.answers, two.gateway.makes_unknown = [Standing.UNKNOWN], False
    payment = two.create(10_000)
    for _ in range(3):
        with pytest.raises(OutcomeUnknownError):
            two.order(payment)
    assert two.gateway.created == []
    two.forward(settings().unknown_window)
    two.order(payment)
    assert two.attempts(payment) == [("acme", "lost"), ("acme", "accepted")]
    assert [len(gateway.created) for gateway in two.gateways.values()] == [1, 0]


def test_after_a_lost_order_nobody_else_is_asked_even_if_it_is_refused(two: Desk) -> None:
    two.gateway.answers, two.gateway.makes_unknown = [Standing.UNKNOWN, Standing.REJECTED], False
    payment = two.create(10_000)
    two.order_again(payment)
    two.forward(settings().unknown_window)
    two.order(payment)
    assert two.attempts(payment) == [("acme", "lost"), ("acme", "rejected")]
    assert (two.state(payment), two.payment(payment).failure) == (S.FAILED, "told_so")
    assert two.payment(payment).next_look_at is not None  # it may turn up, and money with it


@pytest.mark.parametrize(("standing", "kept"), [(Standing.REJECTED, "rejected"), (Standing.NOT_SENT, "not_sent")])
def test_only_a_proof_that_there_is_none_leads_to_another_gateway(two: Desk, standing: Standing, kept: str) -> None:
    two.gateway.answers = [standing]
    payment = two.create(10_000)
    two.order(payment)
    assert two.attempts(payment) == [("acme", kept), ("bravo", "accepted")]
    assert two.payment(payment).provider == "bravo"
    two.pay(payment)
    assert (two.available(), two.balance("gateway:bravo")) == (10_000, 10_000)


def test_a_gateway_that_was_named_is_the_only_one_asked(two: Desk) -> None:
    two.gateway.answers = [Standing.REJECTED]
    payment = two.create(10_000, provider="acme")
    two.order(payment)
    assert (two.state(payment), two.attempts(payment)) == (S.FAILED, [("acme", "rejected")])


def test_gateways_out_of_reach_are_tried_again_until_the_payment_ends(two: Desk) -> None:
    for gateway in two.gateways.values():
        gateway.answers = [Standing.NOT_SENT] * 2
    payment = two.create(10_000)
    for _ in range(2):
        with pytest.raises(TransientError, match="acme, bravo"):
            two.order(payment)
    assert len(two.attempts(payment)) == 4
    two.forward(timedelta(hours=2))
    two.order(payment)
    assert two.state(payment) is S.EXPIRED
    assert [gateway.created for gateway in two.gateways.values()] == [[], []]


def test_a_run_that_dies_between_the_intent_and_the_call_is_looked_up(desk: Desk) -> None:
    payment = desk.create(10_000)
    with transaction() as session:
        begin(session, payment, able=desk.gateways.keys())
    with pytest.raises(OutcomeUnknownError):
        desk.order(payment)
    assert desk.gateway.created == []
    desk.forward(settings().unknown_window)
    desk.order(payment)
    assert (desk.state(payment), len(desk.gateway.created)) == (S.PENDING, 1)


def test_a_refusal_after_the_webhook_is_not_believed(desk: Desk) -> None:
    payment = desk.create(10_000)
    desk.gateway.answers = [Standing.UNKNOWN]
    desk.gateway.before_answer = lambda _: desk.record(payment, desk.gateway.orders[str(payment)], source="webhook")
    desk.order(payment)
    assert (desk.state(payment), desk.attempts(payment)) == (S.PENDING, [("acme", "accepted")])


def test_the_automatic_choice_goes_by_currency_amount_method_health_and_priority(
    two: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domain.fiat_payment.gateways import choice

    def chosen(**asked: object) -> list[str]:
        with transaction() as session:
            return list(choice(session, **{"currency": USD, "units": 100, "method": Method.ANY} | asked))  # type: ignore[arg-type]

    assert chosen() == ["acme", "bravo"]
    assert chosen(units=99) == chosen(currency="iso4217:JPY") == chosen(method=Method.UPI) == []
    monkeypatch.setenv("FIAT_PRIORITIES", '{"bravo": 1}')
    settings.cache_clear()
    assert chosen() == ["bravo", "acme"]
    for _ in range(settings().down_after):
        two.gateways["bravo"].answers = [Standing.NOT_SENT]
        two.order(two.create(10_000))
    assert chosen() == ["acme", "bravo"]
    with transaction() as session:
        session.execute(text("UPDATE fiat_gateways SET failed_at = failed_at - interval '2 minutes'"))
    assert chosen() == ["bravo", "acme"]
    two.order(two.create(10_000))
    assert two.jobs("fiat_webhook.create_order")[0].subject is not None


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"currency": "iso4217:XTS"}, "currency"),
        ({"currency": "eip155:1/slip44:60"}, "currency"),
        ({"currency": "iso4217:JPY"}, "units"),
        ({"units": 99}, "units"),
        ({"provider": "nobody"}, "provider"),
        ({"provider": "acme", "method": Method.UPI}, "provider"),
        ({"credit_asset": "eip155:1/slip44:1"}, "credit_asset"),
        ({"return_url": "javascript:alert(1)"}, "return_url"),
        ({"return_url": "https://ann:secret@shop.example"}, "return_url"),
        ({"expires_in": timedelta(days=8)}, "expires_in"),
        ({"description": "x" * 201}, "description"),
        ({"payer_email": "ann@payer.example"}, "payer_email"),
    ],
)
def test_what_can_t_be_is_refused_with_nothing_written(desk: Desk, asked: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        desk.create(**{"units": 10_000, **asked})  # type: ignore[arg-type]
    assert refused.value.field == field
    with transaction() as session:
        assert service.page(session) == []
    assert desk.jobs("fiat_webhook.create_order") == []


def test_a_payer_s_address_reaches_the_gateway_and_is_kept_nowhere(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAT_PAYER_KEY", KEY)
    settings.cache_clear()
    payment = desk.create(10_000, payer_email="ann@payer.example")
    sealed = desk.payment(payment).payer_sealed
    assert sealed is not None
    assert b"ann" not in sealed
    desk.order(payment)
    assert [request.email for request in desk.gateway.created] == ["ann@payer.example"]
    assert desk.payment(payment).payer_sealed is None
    assert "ann@payer" not in repr(desk.gateway.created)
    with transaction() as session:
        tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        for table in tables:
            if table.startswith(("fiat_", "jobs", "breaks")):
                rows = session.execute(text(f"SELECT t::text FROM {table} t")).scalars().all()  # ours
                assert not [row for row in rows if "ann@payer" in row], table


def test_the_address_goes_also_where_there_is_no_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAT_PAYER_KEY", KEY)
    settings.cache_clear()
    desk.gateway.answers = [Standing.REJECTED]
    payment = desk.create(10_000, payer_email="ann@payer.example")
    desk.order(payment)
    assert (desk.state(payment), desk.payment(payment).payer_sealed) == (S.FAILED, None)


# --- polls -----------------------------------------------------------------------------------------------------------


def test_a_payment_whose_webhook_never_comes_is_found_paid_by_the_poll(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.gateway.pay(str(payment))
    with transaction() as session:
        assert not service.wanted(session, clock.now())
    desk.forward(timedelta(seconds=5))
    with transaction() as session:
        assert service.wanted(session, clock.now())
    service.poll()
    [job] = desk.jobs("fiat_webhook.look")
    assert job.args == {"payment_id": str(payment)}
    desk.look(payment)
    assert (desk.state(payment), desk.available()) == (S.CREDITED, 10_000)


def test_looks_come_quickly_at_first_then_slower_then_end(desk: Desk) -> None:
    payment = desk.ordered(10_000, expires_in=timedelta(hours=1))
    pauses = []
    for _ in range(400):
        due = desk.payment(payment).next_look_at
        if due is None:
            break
        wait = due - clock.now()
        pauses.append(round(wait.total_seconds()))
        desk.forward(wait + timedelta(milliseconds=1))
        service.poll()
    # A machine that stands still for some seconds between a poll and our look is no fault.
    wanted = [5, 10, 20, 40, 80, 160, 320, *[600] * (len(pauses) - 7)]
    assert all(want - 10 <= pause <= want for pause, want in zip(pauses, wanted, strict=True)), pauses
    assert timedelta(hours=24.9) < timedelta(seconds=sum(pauses)) < timedelta(hours=25.3)
    assert desk.state(payment) is S.EXPIRED
    assert len(desk.jobs("fiat_webhook.look")) == len(pauses)


def test_a_paid_one_is_looked_at_ever_more_seldom_for_the_time_of_chargebacks(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    days = []
    while (due := desk.payment(payment).next_look_at) is not None:
        days.append((due - desk.payment(payment).created_at).days)
        desk.forward(due - clock.now() + timedelta(milliseconds=1))
        service.poll()
    assert days == [1, 2, 4, 7, 14, 30, 60, 90, 120]
    assert desk.state(payment) is S.CREDITED


def test_a_provider_that_is_away_or_knows_nothing_changes_nothing(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.gateway.away = True
    desk.look(payment)
    desk.gateway.away = False
    del desk.gateway.orders[str(payment)]
    desk.look(payment)
    assert desk.state(payment) is S.PENDING


def test_one_that_ends_while_the_provider_says_open_is_expired_and_may_still_be_paid(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.forward(timedelta(hours=2))
    desk.look(payment)
    assert desk.state(payment) is S.EXPIRED
    assert desk.gateway.orders[str(payment)].state is OrderState.OPEN
    desk.pay(payment)
    assert desk.available() == 10_000
