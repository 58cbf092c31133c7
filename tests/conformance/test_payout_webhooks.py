"""What every payout provider must make of webhooks, and what must never be said. See test_payout_providers.py."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from core.errors import PermanentError, TransientError
from providers.payout.base import PayoutProvider, Standing
from providers.webhooks.base import ForgedError
from providers.webhooks.registry import schemes
from tests.conformance.gateway_lab import SHORT, UNKNOWN
from tests.conformance.payout_lab import find, now, sent
from tests.conformance.test_gateway_webhooks import JUNK, changes, json_of
from tests.support import faulty
from tests.support.gateways import DOUBLES as GATEWAYS
from tests.support.payouts import DOUBLES
from tests.support.payouts.base import Double, refusing


@pytest.fixture(params=DOUBLES, ids=[kind.name for kind in DOUBLES])
def double(request: pytest.FixtureRequest) -> Iterator[Double]:
    with request.param() as double:
        yield double


@pytest.fixture
def provider(double: Double) -> PayoutProvider:
    return double.provider()


@pytest.fixture
def reference() -> str:
    return str(uuid4())


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_webhooks_name_the_payout_and_are_no_proof(double: Double, provider: PayoutProvider, reference: str) -> None:
    """They come late, twice and in any order: what they say of the money is never taken, it is asked for."""
    made = sent(double, provider, reference)
    double.pay(reference)
    double.give_back(reference)
    webhooks = double.take()
    assert webhooks
    for webhook in webhooks:
        (notice,) = provider.notices(webhook.body, webhook.headers)
        assert (notice.reference, notice.remittance) == (reference, None)
        assert notice.provider_ref in {None, made.provider_ref}
        assert notice.kind
    double.deaf = True
    sent(double, provider, str(uuid4()))
    assert double.take() == []


def test_webhooks_are_signed_as_the_provider_signs(double: Double, provider: PayoutProvider, reference: str) -> None:
    scheme = schemes()[double.name]
    assert provider.abilities.signs_webhooks == scheme.signs_body
    sent(double, provider, reference)
    double.pay(reference)
    double.give_back(reference)
    for webhook in double.take():
        headers = {name.lower(): value for name, value in webhook.headers.items()}
        assert scheme.check(webhook.body, headers, [b"another", double.webhook_secret], now()).secret == 1
        with pytest.raises(ForgedError):
            scheme.check(webhook.body, headers, [b"another"], now())


@pytest.mark.parametrize("body", JUNK)
def test_junk_is_refused_for_good_or_about_nothing(double: Double, provider: PayoutProvider, body: bytes) -> None:
    told: Any = ()
    with suppress(PermanentError):
        told = provider.notices(body, double.signed(body))
    assert list(told) == []


def test_no_change_of_a_body_breaks_more_than_that_webhook(
    double: Double, provider: PayoutProvider, reference: str
) -> None:
    sent(double, provider, reference)
    double.pay(reference)
    double.give_back(reference)
    tried = refused = 0
    for webhook in double.take():
        for changed in changes(json_of(webhook)):
            tried += 1
            try:
                for notice in provider.notices(changed, webhook.headers):
                    assert notice.reference or notice.provider_ref
            except PermanentError:
                refused += 1
    assert tried > 50
    assert refused < tried


def test_gateways_and_payouts_share_a_url_and_no_event(double: Double, reference: str) -> None:
    """Where both are of one name, a webhook is read by both adapters, and is about something for one of them."""
    for kind in GATEWAYS:
        if kind.name != double.name:
            continue
        with kind() as gateway:
            made = gateway.gateway().create(gateway.order(reference))
            assert made.standing is Standing.ACCEPTED
            gateway.pay(reference)
            sent(double, double.provider(), reference)
            double.pay(reference)
            double.give_back(reference)
            charges, payouts = gateway.take(), double.take()
            assert charges
            assert payouts
            assert [double.provider().notices(each.body, each.headers) for each in charges] == [()] * len(charges)
            assert [list(gateway.gateway().notices(each.body, each.headers)) for each in payouts] == [[]] * len(payouts)


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_secret_and_nothing_of_beneficiaries_is_said(
    double: Double, reference: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """In what it returns, logs at any level, prints, or raises, tracebacks included, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    provider = double.provider(answer_timeout=SHORT)
    said: list[str] = [repr(provider), repr(double.request(reference))]

    def record(ask: Callable[[], Any]) -> None:
        try:
            said.append(repr(ask()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not tell
            said.extend([repr(error), str(error), "".join(traceback.format_exception(error))])

    ref = sent(double, provider, reference).provider_ref
    double.pay(reference)
    double.give_back(reference)
    everything = {"message": " ".join(double.private), "error": {"description": " ".join(double.private)}}
    slow = "answers too late"  # says no more than those that hang up
    faults = [
        None,
        *(each for name, each in UNKNOWN if name != slow),
        refusing(400, everything),
        faulty.saying(429),
        faulty.saying(401),
    ]
    for fault in faults:
        if fault is not None:
            double.upset(fault, times=1000, when=lambda _: True)
        record(lambda: provider.send(double.request(str(uuid4()))))
        record(lambda: provider.send(double.request(str(uuid4()), units=double.units_max + 100)))
        record(lambda: find(provider, reference))
        record(lambda: find(provider, reference, ref))
        record(lambda: list(provider.statement(now() - timedelta(hours=1), now())))
        with suppress(PermanentError, TransientError):
            provider.holder(double.destinations[0])
        double.calm()
    double.closed.update(each.number for each in double.destinations)
    for destination in double.destinations:
        record(partial(provider.send, double.request(str(uuid4()), destination=destination)))
    for webhook in double.take():
        for body in (webhook.body, webhook.body[:-9]):
            record(partial(provider.notices, body, webhook.headers))
    told = "\n".join([*said, caplog.text, *capfd.readouterr()])
    assert len(said) > 50
    assert [secret for secret in (*double.secrets, *double.private) if secret in told] == []


def test_a_body_is_the_same_whenever_it_is_sent(double: Double, reference: str) -> None:
    """A key holds for one body only."""
    bodies = []
    for _ in range(2):
        double.upset(faulty.hangs_up)
        assert double.provider().send(double.request(reference)).standing is Standing.UNKNOWN
        bodies.append(next(asked.body for asked in reversed(double.traffic.asked) if double.moves(asked)))
    assert bodies[0] == bodies[1]
    assert reference.encode() in bodies[0]
    assert double.secrets[0].encode() not in bodies[0]
