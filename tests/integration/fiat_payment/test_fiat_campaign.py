"""Whatever a gateway does and however we learn of it: the user is credited what was paid, once, and the books agree."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from domain.fiat_payment.settings import fiat_payment
from domain.webhook.settings import webhook
from tests.integration.fiat_payment.campaign import Campaign
from tests.support.gateways import DOUBLES
from tests.support.gateways.base import Double

PHASES = (Phase.generate,)
"""No shrinking: each step asks a server and a database, and the steps of a failure are told as they were."""


@pytest.fixture
def patch(books: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("FIAT_PAYER_KEY", "5c" * 32)
    monkeypatch.setenv("FIAT_WEBHOOK_BASE_URL", "https://api.example")
    fiat_payment.cache_clear()
    yield monkeypatch
    fiat_payment.cache_clear()
    webhook.cache_clear()


def run(kind: type[Double], patch: pytest.MonkeyPatch, *, examples: int, steps: int) -> None:
    with kind() as double:
        Campaign.double, Campaign.patch = double, patch
        run_state_machine_as_test(
            Campaign,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                phases=PHASES,
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            ),
        )


gateways = pytest.mark.parametrize("kind", DOUBLES, ids=[kind.name for kind in DOUBLES])


@gateways
def test_each_is_credited_what_was_paid_once(kind: type[Double], patch: pytest.MonkeyPatch) -> None:
    run(kind, patch, examples=4, steps=12)


@pytest.mark.faults
@pytest.mark.timeout(3_600)
@gateways
def test_each_is_credited_what_was_paid_once_in_many_orders(kind: type[Double], patch: pytest.MonkeyPatch) -> None:
    run(kind, patch, examples=200, steps=30)
