"""Whatever a gateway does and however we learn of it: the user is credited what was paid, once, and the books agree.

The long run makes a new database and a new double every so often, and each such round has a seed, which a failure
tells: `CAMPAIGN_SEED=<seed>` begins with that one.
"""

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from core.db import transaction
from domain.fiat_payment.conversion import _no_rates
from domain.fiat_payment.service import use_rates
from domain.fiat_payment.settings import fiat_payment
from domain.webhook.settings import webhook
from ledger.assets import sync_assets
from local.postgres import Postgres
from tests.conftest import fresh_database
from tests.integration.fiat_payment.campaign import Campaign
from tests.integration.fiat_payment.campaign_closing import closes, holds
from tests.integration.fiat_payment.campaign_shop import Shop
from tests.integration.fiat_payment.campaign_stories import Story, stories
from tests.support.gateways import DOUBLES
from tests.support.gateways.base import Double

PHASES = (Phase.generate,)
"""No shrinking: each step asks a server and a database, and the steps of a failure are told as they were."""
ROUNDS, EXAMPLES, STEPS = 20, 10, 30
"""Of the long run. Every look at all the books takes longer with each example, so a round has few."""


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("FIAT_PAYER_KEY", "5c" * 32)
    monkeypatch.setenv("FIAT_WEBHOOK_BASE_URL", "https://api.example")
    fiat_payment.cache_clear()
    yield monkeypatch
    use_rates(_no_rates)
    fiat_payment.cache_clear()
    webhook.cache_clear()


def run(kind: type[Double], patch: pytest.MonkeyPatch, number: int, *, examples: int, steps: int) -> None:
    print(f"CAMPAIGN_SEED={number}")
    with kind() as double:

        @seed(number)
        class Seeded(Campaign):
            pass

        Seeded.double, Seeded.gateway, Seeded.patch = double, double.gateway(answer_timeout=10.0), patch
        run_state_machine_as_test(
            Seeded,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                phases=PHASES,
                database=None,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )


gateways = pytest.mark.parametrize("kind", DOUBLES, ids=[kind.name for kind in DOUBLES])


@pytest.mark.parametrize(
    ("kind", "story"),
    [
        pytest.param(
            kind,
            story,
            id=f"{kind.name}-{story.__name__}",
            # Each story with two of the gateways, and each gateway with some; `make faults` has all.
            marks=() if (place + number) % len(DOUBLES) < 2 else pytest.mark.faults,
        )
        for place, kind in enumerate(DOUBLES)
        for number, story in enumerate(stories(kind))
    ],
)
def test_each_story_ends_with_what_was_paid_credited_once(
    kind: type[Double], story: Story, books: None, patch: pytest.MonkeyPatch
) -> None:
    with kind() as double:
        gateway = double.gateway(answer_timeout=10.0)
        assert gateway.abilities.refunds is kind.gives_back
        assert gateway.abilities.settlements is (kind.settle is not Double.settle)
        shop = Shop(double, gateway, patch, trusts=stories(kind).index(story) % 2 == 0)
        story(shop)
        holds(shop)
        closes(shop)


@gateways
def test_each_is_credited_what_was_paid_once(kind: type[Double], books: None, patch: pytest.MonkeyPatch) -> None:
    run(kind, patch, random.getrandbits(32), examples=1, steps=15)


@pytest.mark.faults
@pytest.mark.timeout(3_600)
@gateways
def test_each_is_credited_what_was_paid_once_in_many_orders(
    kind: type[Double], postgres: Postgres, template: str, redis_url: str, patch: pytest.MonkeyPatch
) -> None:
    first = int(os.environ.get("CAMPAIGN_SEED") or random.getrandbits(32))
    for number in range(first, first + ROUNDS):
        with fresh_database(postgres, template):
            with transaction() as session:
                sync_assets(session)
            run(kind, patch, number, examples=EXAMPLES, steps=STEPS)
