"""What every gateway must make of webhooks, and what must never be said. See test_gateways.py."""

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from core.errors import PermanentError
from providers.fiat.base import (
    Gateway,
    Notice,
)
from providers.webhooks.base import ForgedError
from providers.webhooks.registry import schemes
from tests.conformance.gateway_lab import (
    SHORT,
    UNKNOWN,
    accepted,
    created,
    find,
    now,
    paid,
    refund_of,
)
from tests.support import faulty
from tests.support.gateways.base import PRIVATE, Double, Webhook, before_reply

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


def test_webhooks_are_signed_as_the_provider_signs(double: Double, gateway: Gateway, reference: str) -> None:
    """By the scheme that the API checks them with, which vectors from outside hold."""
    scheme = schemes()[double.name]
    assert gateway.abilities.signs_webhooks == scheme.signs_body
    paid(double, gateway, reference)
    webhooks = double.take()
    assert webhooks
    for webhook in webhooks:
        headers = {name.lower(): value for name, value in webhook.headers.items()}
        headers[":path"] = urlsplit(double.order(reference).webhook_url or "").path
        assert scheme.check(webhook.body, headers, [b"another", double.webhook_secret], now()).secret == 1
        with pytest.raises(ForgedError):
            scheme.check(webhook.body, headers, [b"another"], now())
        if scheme.signs_body:
            with pytest.raises(ForgedError):
                scheme.check(webhook.body.replace(b"1", b"2"), headers, [double.webhook_secret], now())


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
