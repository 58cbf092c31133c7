"""The schema of rates goes back and comes again: what persons set stays, what sources told is told again."""

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from core import db
from core.db import transaction
from domain.rates import service as rates
from tests.conftest import ROOT
from tests.integration.rates.conftest import Market
from tests.support.prices import ETH, USD

CONFIG = Config(ROOT / "alembic.ini")


@pytest.fixture
def rows(market: Market) -> Market:
    """A median, and an override that holds."""
    market.round("2000", "2000", "2000")
    with transaction() as session:
        rates.add(session, rates.proposed(ETH, USD, "1500", source="desk", actor="ann", reason="the feed lies"))
    return market


def test_a_way_back_keeps_what_persons_set_and_nothing_of_sources(rows: Market) -> None:
    db.dispose()
    command.downgrade(CONFIG, "0018")
    with transaction() as session:
        [kept] = session.execute(text("SELECT numerator, denominator, source, actor, reason FROM asset_rates"))
        assert (int(kept.numerator) * 2 * 10**13, kept.source, kept.actor) == (3 * kept.denominator, "desk", "ann")
    db.dispose()
    command.upgrade(CONFIG, "head")
    assert rows.said() == "1500", "it has an end again"
    with transaction() as session:
        [rate] = rates.page(session)
        assert rate.expires_at is not None
        assert (rate.expires_at - rate.observed_at).total_seconds() == 15 * 60
    rows.clock.on(15 * 60)
    assert rows.said() == "unknown"
    assert rows.round() == "2000"
