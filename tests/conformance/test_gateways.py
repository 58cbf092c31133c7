"""What every gateway must do, over its double: real HTTP, the provider's wire format, what goes wrong on demand."""

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from core.errors import PermanentError, TransientError
from local.http_server import Answer, Asked
from providers.fiat import registry
from providers.fiat.base import (
    Gateway,
    LineKind,
    Made,
    Method,
    Notice,
    Order,
    OrderState,
    RefundRequest,
    RefundState,
    SettlementLine,
    Standing,
)
from tests.support import faulty
from tests.support.faulty import Fault, Forward
from tests.support.gateways import DOUBLES
from tests.support.gateways.base import PRIVATE, Double, Webhook, before_reply, then_hangs_up, then_says, then_stalls

SHORT = 0.6
"""Seconds that a gateway waits in tests of time."""


@pytest.fixture(params=DOUBLES, ids=lambda kind: kind.name)
def double(request: pytest.FixtureRequest) -> Iterator[Double]:
    with request.param() as double:
        yield double


@pytest.fixture
def gateway(double: Double) -> Gateway:
    return double.gateway(answer_timeout=10)


@pytest.fixture
def reference() -> str:
    return str(uuid4())


def then_garbles(asked: Asked, forward: Forward) -> Answer:
    """Does what it is asked, and a server in between answers 200 with its own page."""
    forward(asked)
    return faulty.html(asked, forward)


UNKNOWN: list[tuple[str, Fault]] = [
    ("500 after accepting", then_says(500)),
    ("503 after accepting", then_says(503)),
    ("408 after accepting", then_says(408)),
    ("409 after accepting", then_says(409)),
    ("hangs up after accepting", then_hangs_up),
    ("answers too late", then_stalls(2 * SHORT)),
    ("garbled after accepting", then_garbles),
    ("breaks off its answer", faulty.dies),
]
unknown = pytest.mark.parametrize("fault", [fault for _, fault in UNKNOWN], ids=[name for name, _ in UNKNOWN])
NOT_DONE: list[tuple[str, Fault]] = [
    ("500 before", faulty.saying(500)),
    ("hangs up before", faulty.hangs_up),
    ("redirects", faulty.saying(302)),
]
not_done = pytest.mark.parametrize("fault", [fault for _, fault in NOT_DONE], ids=[name for name, _ in NOT_DONE])


def accepted(made: Made) -> Order:
    assert made.standing is Standing.ACCEPTED, made
    assert made.order is not None
    return made.order


def created(double: Double, reference: str, gateway: Gateway | None = None) -> Order:
    return accepted((gateway or double.gateway()).create(double.order(reference)))


def paid(double: Double, gateway: Gateway, reference: str) -> Order:
    order = created(double, reference, gateway)
    double.pay(reference)
    return order


def find(gateway: Gateway, order: Order) -> Order:
    found = gateway.find(reference=order.reference, provider_ref=order.provider_ref, made_at=now())
    assert found is not None
    return found


def now() -> datetime:
    return datetime.now(UTC)


def asked_to_move(double: Double) -> int:
    return sum(double.moves(asked) for asked in double.traffic.asked)


# --- which there are --------------------------------------------------------------------------------------------------


def test_each_gateway_has_a_double() -> None:
    assert sorted(kind.name for kind in DOUBLES) == sorted(registry.GATEWAYS)


def test_it_says_what_it_can_do(double: Double, gateway: Gateway) -> None:
    assert gateway.name == double.name
    assert {double.currency, double.other_currency} <= set(gateway.abilities.currencies)
    assert all(0 < each.units_min <= each.units_max for each in gateway.abilities.currencies.values())
    assert gateway.abilities.methods


# --- orders -----------------------------------------------------------------------------------------------------------


def test_an_order_is_made_and_can_be_paid_somewhere(double: Double, gateway: Gateway, reference: str) -> None:
    order = created(double, reference, gateway)
    assert (order.reference, order.state) == (reference, OrderState.OPEN)
    assert (order.currency, order.units, order.paid_units) == (double.currency, double.units, 0)
    assert order.provider_ref
    assert order.page_url or order.instructions


def test_each_method_that_it_names_is_one_that_it_takes(double: Double, gateway: Gateway) -> None:
    for method in gateway.abilities.methods:
        accepted(gateway.create(double.order(str(uuid4()), method=method)))


def test_a_method_that_it_does_not_name_is_refused(double: Double, gateway: Gateway, reference: str) -> None:
    for method in set(Method) - gateway.abilities.methods:
        made = gateway.create(double.order(reference, method=method))
        assert (made.standing, made.order) == (Standing.REJECTED, None)
        assert made.why


def test_the_same_reference_twice_is_one_order(double: Double, gateway: Gateway, reference: str) -> None:
    request = double.order(reference)
    first, second = accepted(gateway.create(request)), accepted(gateway.create(request))
    assert first.provider_ref == second.provider_ref


def test_what_it_knows_is_found_by_reference_alone(double: Double, gateway: Gateway, reference: str) -> None:
    order = created(double, reference, gateway)
    for _ in range(5):
        created(double, str(uuid4()), gateway)
    double.page_max = 2
    found = gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert found is not None
    assert (found.provider_ref, found.reference, found.units) == (order.provider_ref, reference, order.units)


def test_an_unknown_order_is_none(double: Double, gateway: Gateway, reference: str) -> None:
    created(double, str(uuid4()), gateway)
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None


@unknown
def test_an_order_of_unknown_outcome_is_said_to_be_and_found(double: Double, fault: Fault, reference: str) -> None:
    gateway = double.gateway(answer_timeout=SHORT)
    double.upset(fault)
    made = gateway.create(double.order(reference))
    assert (made.standing, made.order) == (Standing.UNKNOWN, None)
    assert made.why
    assert asked_to_move(double) == 1, "an unknown outcome is never tried again by itself"
    found = gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert found is not None
    assert (found.reference, found.units, found.state) == (reference, double.units, OrderState.OPEN)


@not_done
def test_an_order_that_may_have_been_made_and_was_not(
    double: Double, gateway: Gateway, fault: Fault, reference: str
) -> None:
    double.upset(fault)
    assert gateway.create(double.order(reference)).standing is Standing.UNKNOWN
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None
    created(double, reference, gateway)


def test_an_order_that_appears_late(double: Double, gateway: Gateway, reference: str) -> None:
    double.upset(then_hangs_up)
    assert gateway.create(double.order(reference)).standing is Standing.UNKNOWN
    double.hidden = 1
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is not None


def test_a_provider_that_asks_for_a_pause_has_done_nothing(double: Double, gateway: Gateway, reference: str) -> None:
    double.upset(faulty.saying(429, retry_after=3))
    assert gateway.create(double.order(reference)).standing is Standing.NOT_SENT
    created(double, reference, gateway)


def test_a_provider_that_is_away_has_done_nothing(double: Double, reference: str) -> None:
    gateway = double.gateway()
    order = created(double, reference, gateway)
    double.pay(reference)
    request = refund_of(double, order)
    double.__exit__()
    try:
        assert double.gateway().create(double.order(str(uuid4()))).standing is Standing.NOT_SENT
        if double.gateway().abilities.refunds:
            assert double.gateway().refund(request).standing is Standing.NOT_SENT
            with pytest.raises(TransientError):
                double.gateway().find_refund(request, refund_ref=None)
        with pytest.raises(TransientError):
            double.gateway().find(reference=reference, provider_ref=order.provider_ref, made_at=now())
    finally:
        double.__enter__()


@pytest.mark.parametrize("fault", [faulty.saying(500), faulty.saying(429), faulty.html, faulty.hangs_up, faulty.dies])
def test_reading_may_always_be_done_again(double: Double, gateway: Gateway, fault: Fault, reference: str) -> None:
    order = created(double, reference, gateway)
    before = find(gateway, order)
    double.upset(fault, times=1000, when=lambda _: True)
    for _ in range(2):
        with pytest.raises(TransientError):
            gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now())
    double.calm()
    assert find(gateway, order) == before
    told_once: dict[str, Any] = {"page_url": None, "instructions": {}}  # some say where to pay in the first answer only
    assert replace(before, **told_once) == replace(order, **told_once)


def test_what_it_refuses_is_rejected_with_why(double: Double, gateway: Gateway, reference: str) -> None:
    made = gateway.create(double.order(reference, units=double.units_refused))
    assert (made.standing, made.order) == (Standing.REJECTED, None)
    assert made.why
    assert not [secret for secret in (*double.secrets, *PRIVATE) if secret in made.why]


def test_it_is_asked_for_the_currency_that_was_meant(double: Double, gateway: Gateway, reference: str) -> None:
    order = accepted(gateway.create(double.order(reference, currency=double.other_currency)))
    assert (order.currency, order.units) == (double.other_currency, double.units)


def test_another_key_is_refused(double: Double, gateway: Gateway, reference: str) -> None:
    """A revoked key is nothing that a retry mends."""
    order = created(double, reference, gateway)
    double.upset(faulty.saying(401), times=1000, when=lambda _: True)
    assert gateway.create(double.order(str(uuid4()))).standing is Standing.REJECTED
    with pytest.raises(PermanentError):
        gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now())


# --- what became of them ----------------------------------------------------------------------------------------------


def test_a_paid_order_says_exactly_what_came_in(double: Double, gateway: Gateway, reference: str) -> None:
    order = find(gateway, paid(double, gateway, reference))
    assert (order.state, order.currency) == (OrderState.PAID, double.currency)
    assert (order.units, order.paid_units) == (double.units, double.units)
    assert order.fee_units in {None, double.fee(double.units)}
    assert (order.refunded_units, order.disputed_units, order.charged_back_units) == (0, 0, 0)


@pytest.mark.parametrize("more", [-100, -1, 1, 4_000])
def test_another_amount_is_told_as_it_is(double: Double, gateway: Gateway, more: int, reference: str) -> None:
    made = created(double, reference, gateway)
    double.pay(reference, units=double.units + more)
    order = find(gateway, made)
    assert (order.state, order.paid_units) == (OrderState.PAID, double.units + more)
    assert order.units == (double.units if double.tells_asked else order.paid_units)


def test_another_currency_is_told_as_it_is(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.pay(reference, currency=double.other_currency)
    order = find(gateway, made)
    assert (order.state, order.currency, order.paid_units) == (OrderState.PAID, double.other_currency, double.units)


def test_an_order_expires_and_may_still_be_paid(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.expire(reference)
    assert (find(gateway, made).state, find(gateway, made).paid_units) == (OrderState.EXPIRED, 0)
    double.pay(reference)
    assert (find(gateway, made).state, find(gateway, made).paid_units) == (OrderState.PAID, double.units)


def test_an_attempt_that_failed_is_not_paid(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.fail(reference)
    order = find(gateway, made)
    assert order.state in {OrderState.FAILED, OrderState.OPEN}
    assert order.paid_units == 0


def test_a_status_that_was_never_seen_is_not_the_end(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.puzzle(reference)
    order = find(gateway, made)
    assert (order.state, order.paid_units) == (OrderState.OPEN, 0)


# --- refunds ----------------------------------------------------------------------------------------------------------


def refund_of(double: Double, order: Order, units: int | None = None) -> RefundRequest:
    return RefundRequest(
        reference=str(uuid4()),
        order_reference=order.reference,
        provider_ref=order.provider_ref,
        currency=order.currency,
        units=double.units if units is None else units,
        reason="asked for it",
    )


@pytest.fixture
def refunds(gateway: Gateway) -> None:
    if not gateway.abilities.refunds:
        pytest.skip("this provider's interface gives nothing back")


def test_who_gives_nothing_back_says_so(double: Double, gateway: Gateway, reference: str) -> None:
    if gateway.abilities.refunds:
        pytest.skip("this one does")
    request = refund_of(double, paid(double, gateway, reference))
    refused = gateway.refund(request)
    assert (refused.standing, refused.refund) == (Standing.REJECTED, None)
    assert refused.why
    assert gateway.find_refund(request, refund_ref=None) is None


@pytest.mark.usefixtures("refunds")
def test_a_refund_is_given_once(double: Double, gateway: Gateway, reference: str) -> None:
    order = paid(double, gateway, reference)
    request = refund_of(double, order)
    first, second = gateway.refund(request), gateway.refund(request)
    assert (first.standing, second.standing) == (Standing.ACCEPTED, Standing.ACCEPTED)
    assert first.refund is not None
    assert second.refund is not None
    assert first.refund.provider_ref == second.refund.provider_ref
    assert (first.refund.reference, first.refund.currency) == (request.reference, double.currency)
    assert first.refund.units == double.units
    double.finish_refunds()
    done = gateway.find_refund(request, refund_ref=first.refund.provider_ref)
    assert done is not None
    assert (done.state, done.units) == (RefundState.DONE, double.units)
    assert (find(gateway, order).state, find(gateway, order).refunded_units) == (OrderState.PAID, double.units)


@pytest.mark.usefixtures("refunds")
def test_parts_go_back_one_by_one(double: Double, gateway: Gateway, reference: str) -> None:
    if not double.partial_refunds:
        pytest.skip("this provider gives all back or nothing")
    order = paid(double, gateway, reference)
    for units in (1_000, 2_500):
        assert gateway.refund(refund_of(double, order, units)).standing is Standing.ACCEPTED
        double.finish_refunds()
    assert find(gateway, order).refunded_units == 3_500
    beyond = gateway.refund(refund_of(double, order, double.units - 3_499))
    assert (beyond.standing, beyond.refund) == (Standing.REJECTED, None)
    assert beyond.why
    assert find(gateway, order).refunded_units == 3_500


def test_what_was_not_paid_does_not_go_back(double: Double, gateway: Gateway, reference: str) -> None:
    request = refund_of(double, created(double, reference, gateway))
    assert gateway.refund(request).standing is Standing.REJECTED
    assert gateway.find_refund(request, refund_ref=None) is None


@pytest.mark.usefixtures("refunds")
@unknown
def test_a_refund_of_unknown_outcome_is_said_to_be_and_found(double: Double, fault: Fault, reference: str) -> None:
    gateway = double.gateway(answer_timeout=SHORT)
    order = paid(double, gateway, reference)
    before = asked_to_move(double)
    request = refund_of(double, order)
    double.upset(fault)
    given = gateway.refund(request)
    assert (given.standing, given.refund) == (Standing.UNKNOWN, None)
    assert asked_to_move(double) == before + 1
    found = gateway.find_refund(request, refund_ref=None)
    assert found is not None
    assert (found.reference, found.units) == (request.reference, double.units)
    double.finish_refunds()
    assert find(gateway, order).refunded_units == double.units


@pytest.mark.usefixtures("refunds")
def test_an_unknown_refund_is_none(double: Double, gateway: Gateway, reference: str) -> None:
    order = paid(double, gateway, reference)
    assert gateway.find_refund(refund_of(double, order), refund_ref=None) is None


@pytest.mark.usefixtures("refunds")
def test_a_refund_that_fails_leaves_the_money_here(double: Double, gateway: Gateway, reference: str) -> None:
    if not double.refunds_fail:
        pytest.skip("this provider's refunds don't fail later")
    order = paid(double, gateway, reference)
    request = refund_of(double, order)
    gateway.refund(request)
    double.fail_refunds()
    found = gateway.find_refund(request, refund_ref=None)
    assert found is not None
    assert found.state is RefundState.FAILED
    assert find(gateway, order).refunded_units == 0


@pytest.mark.usefixtures("refunds")
def test_a_refund_in_the_dashboard_is_seen(double: Double, gateway: Gateway, reference: str) -> None:
    order = paid(double, gateway, reference)
    double.refund_outside(reference)
    double.finish_refunds()
    assert (find(gateway, order).state, find(gateway, order).refunded_units) == (OrderState.PAID, double.units)


# --- disputes ---------------------------------------------------------------------------------------------------------


def taken(order: Order) -> tuple[int, int]:
    return order.disputed_units, order.charged_back_units


def test_a_chargeback_is_told_and_so_is_one_that_was_won(double: Double, gateway: Gateway, reference: str) -> None:
    if not double.charges_back:
        pytest.skip("this provider's interface tells of no disputes")
    order = paid(double, gateway, reference)
    double.dispute(reference)
    assert taken(find(gateway, order)) == (double.units, 0)
    double.charge_back(reference)
    assert taken(find(gateway, order)) == (0, double.units)
    assert find(gateway, order).state is OrderState.PAID
    double.win_dispute(reference)
    assert taken(find(gateway, order)) == (0, 0)
    assert find(gateway, order).paid_units == double.units


# --- webhooks ---------------------------------------------------------------------------------------------------------


def noticed(gateway: Gateway, webhooks: Sequence[Webhook]) -> list[Notice]:
    return [notice for each in webhooks for notice in gateway.notices(each.body, each.headers)]


def test_webhooks_tell_of_what_find_says(double: Double, gateway: Gateway, reference: str) -> None:
    """After each step: at least one, each about this order, and the orders that they hold are those that are found."""
    made = created(double, reference, gateway)
    steps: list[Callable[[str], Any]] = [double.pay]
    if gateway.abilities.refunds:
        steps += [double.refund_outside, lambda _: double.finish_refunds()]
    if double.charges_back:
        steps += [double.dispute, double.charge_back, double.win_dispute]
    double.take()
    for step in steps:
        step(reference)
        notices = noticed(gateway, double.take())
        assert notices, step
        for notice in notices:
            assert reference == notice.reference or notice.provider_ref == made.provider_ref
            assert notice.kind
            assert notice.order is None or notice.order == find(gateway, made)


@pytest.mark.parametrize("end", ["fail", "expire"])
def test_webhooks_tell_of_ends(double: Double, gateway: Gateway, end: str, reference: str) -> None:
    made = created(double, reference, gateway)
    double.take()
    getattr(double, end)(reference)
    for notice in noticed(gateway, double.take()):
        assert reference == notice.reference or notice.provider_ref == made.provider_ref
        assert notice.order is None or notice.order == find(gateway, made)


def test_a_webhook_never_tells_of_other_money_than_came(double: Double, gateway: Gateway, reference: str) -> None:
    created(double, reference, gateway)
    double.pay(reference, units=double.units - 7)
    for notice in noticed(gateway, double.take()):
        assert notice.order is None or notice.order.paid_units in {0, double.units - 7}


def test_a_webhook_may_come_before_the_reply(double: Double, gateway: Gateway, reference: str) -> None:
    early: list[Notice] = []

    def pays() -> None:
        double.pay(reference)
        early.extend(noticed(double.gateway(), double.take()))

    double.upset(before_reply(pays))
    accepted(gateway.create(double.order(reference)))
    assert [notice for notice in early if notice.reference == reference]
    found = gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert found is not None
    assert found.paid_units == double.units


def test_webhooks_are_signed_as_they_are_sent(double: Double, gateway: Gateway, reference: str) -> None:
    paid(double, gateway, reference)
    webhooks = double.take()
    assert webhooks
    for webhook in webhooks:
        assert {name for name in webhook.headers if name != "Content-Type"} or not gateway.abilities.signs_webhooks


JUNK = [
    b"", b"null", b"[]", b"{}", b"17", b'"text"', b"\xff\xfe\x00", b"{", b"[" * 5_000, b'{"type": 1}',
    b'{"type": "charge.refunded", "data": []}', b'{"event": "payment.captured", "payload": {"payment": 3}}',
    b"a=b&c=d", b'{"data": {"object": {}}}', b'{"amount": NaN}',
]  # fmt: skip


@pytest.mark.parametrize("body", JUNK)
def test_junk_is_refused_for_good_or_about_nothing(double: Double, gateway: Gateway, body: bytes) -> None:
    told: Sequence[Notice] = ()
    with suppress(PermanentError):
        told = gateway.notices(body, double.signed(body))
    assert list(told) == []


def test_no_change_of_a_body_breaks_more_than_that_webhook(double: Double, gateway: Gateway, reference: str) -> None:
    """Each value of real ones becomes each kind of other thing: it is read, or refused for good."""
    paid(double, gateway, reference)
    if gateway.abilities.refunds:
        double.refund_outside(reference)
    tried = refused = 0
    for webhook in double.take():
        for changed in changes(json_of(webhook)):
            tried += 1
            try:
                for notice in gateway.notices(changed, webhook.headers):
                    assert notice.reference or notice.provider_ref
            except PermanentError:
                refused += 1
    assert tried > 50
    assert refused < tried


def json_of(webhook: Webhook) -> Any:
    return json.loads(webhook.body)


def changes(value: Any) -> Iterator[bytes]:
    for path in paths(value):
        others: list[Any] = [None, [], {}, "", -1, True, "1e999", 10**30, {"id": []}]
        for other in others:
            yield json.dumps(replaced(value, path, other)).encode()


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from paths(each, (*path, name))


def replaced(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], other)
    return copy


# --- settlements ------------------------------------------------------------------------------------------------------


def net(lines: Sequence[SettlementLine]) -> int:
    return sum(line.units - line.fee_units for line in lines)


def test_a_settlement_is_told_whole_however_many_pages(double: Double, gateway: Gateway) -> None:
    if not gateway.abilities.settlements:
        pytest.skip("this provider's interface tells of no settlements")
    references = [str(uuid4()) for _ in range(5)]
    for each in references:
        paid(double, gateway, each)
    double.refund_outside(references[0], 1_000 if double.partial_refunds else None)
    double.finish_refunds()
    if double.charges_back:
        double.charge_back(references[1])
    settlement = double.settle()
    double.page_max = 2
    lines = list(gateway.settlements(now() - timedelta(days=1), now() + timedelta(days=1)))
    assert len({line.id for line in lines}) == len(lines)
    assert {line.settlement for line in lines} == {settlement}
    payments = [line for line in lines if line.kind is LineKind.PAYMENT]
    assert sorted(str(line.reference) for line in payments) == sorted(references)
    assert {(line.units, line.fee_units) for line in payments} == {(double.units, double.fee(double.units))}
    assert {line.currency for line in lines} == {double.currency}
    refunds = [line for line in lines if line.kind is LineKind.REFUND]
    assert [line.reference for line in refunds] == [references[0]]
    assert [line.units for line in refunds] == [-1_000 if double.partial_refunds else -double.units]
    backs = [line for line in lines if line.kind is LineKind.CHARGEBACK]
    assert [(line.reference, line.units) for line in backs] == [(references[1], -double.units)] * double.charges_back
    if settlement in double.paid_out:
        assert net(lines) == double.paid_out[settlement]


def test_a_settlement_of_another_time_is_not_told(double: Double, gateway: Gateway, reference: str) -> None:
    if not gateway.abilities.settlements:
        pytest.skip("this provider's interface tells of no settlements")
    paid(double, gateway, reference)
    double.settle()
    assert list(gateway.settlements(now() - timedelta(days=9), now() - timedelta(days=5))) == []


def test_a_settlement_that_can_not_be_read_whole_is_none(double: Double, gateway: Gateway) -> None:
    """Half of the lines would make the other half look like money that never came."""
    if not gateway.abilities.settlements:
        pytest.skip("this provider's interface tells of no settlements")
    for _ in range(3):
        paid(double, gateway, str(uuid4()))
    double.settle()
    double.upset(faulty.saying(503), when=lambda _: True)
    with pytest.raises(TransientError):
        list(gateway.settlements(now() - timedelta(days=1), now() + timedelta(days=1)))


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_secret_and_nothing_of_payers_is_said(
    double: Double, reference: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """In what it returns, logs at any level, prints, or raises, tracebacks included, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    gateway = double.gateway(answer_timeout=SHORT)
    said: list[str] = [repr(gateway), repr(double.order(reference))]

    def record(ask: Callable[[], Any]) -> None:
        try:
            said.append(repr(ask()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not tell
            said.extend([repr(error), str(error), "".join(traceback.format_exception(error))])

    order = paid(double, gateway, reference)
    for fault in [None, *(each for _, each in UNKNOWN), faulty.saying(400), faulty.saying(429), faulty.saying(401)]:
        if fault is not None:
            double.upset(fault, times=1000, when=lambda _: True)
        record(lambda: gateway.create(double.order(str(uuid4()))))
        record(lambda: gateway.create(double.order(str(uuid4()), units=double.units_refused)))
        record(lambda: gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now()))
        record(lambda: gateway.refund(refund_of(double, order, 100)))
        record(lambda: gateway.find_refund(refund_of(double, order), refund_ref=None))
        double.calm()
    for webhook in double.take():
        for body in (webhook.body, webhook.body[:-9]):
            record(partial(gateway.notices, body, webhook.headers))
    told = "\n".join([*said, caplog.text, *capfd.readouterr()])
    assert len(said) > 50
    assert [secret for secret in (*double.secrets, *PRIVATE) if secret in told] == []
