"""The schema of deposits goes back and comes again with rows in place, and nobody gains or loses by it."""

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from core import db
from core.db import transaction
from domain.deposit import service
from domain.deposit.service import Value
from tests.conftest import ROOT
from tests.integration.deposit.memory_desk import MemoryDesk

pytestmark = pytest.mark.usefixtures("database_url")


def back_and_again(revision: str) -> None:
    config = Config(ROOT / "alembic.ini")
    db.dispose()
    command.downgrade(config, revision)
    command.upgrade(config, "head")


@pytest.mark.parametrize("revision", ["0012", "0011", "0010", "0009", "0008"])
def test_deposits_of_every_state_outlast_a_way_back(revision: str) -> None:
    desk = MemoryDesk(blocks=20)
    desk.open(units_expected=500)
    desk.open(desk.other, account="user:9:available")
    paid = [desk.pay(500), desk.pay(700), desk.pay(900, desk.other)]
    desk.settle()
    paid.append(desk.pay(100))
    desk.scan()
    before = _rows()
    assert {row[1] for row in before} == {"credited", "suspended", "pending"}
    back_and_again(revision)
    assert _rows() == before
    desk.settle()
    assert list(desk.booked().values()).count(100) == 1
    assert desk.booked().keys() == set(paid)
    assert desk.gaps() == []


def _rows() -> list[tuple[object, ...]]:
    with transaction() as session:
        rows = session.execute(text("SELECT id, state, reason, units_received, incarnation FROM deposits ORDER BY id"))
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("paid_before", [True, False])
def test_what_was_expected_by_value_is_not_paid_by_any_amount_afterwards(paid_before: bool) -> None:
    desk = MemoryDesk(blocks=20)
    deposit = desk.open(value=Value("iso4217:USD", 1_999))
    if paid_before:
        desk.pay(1)
        desk.scan()
    back_and_again("0011")
    if not paid_before:
        desk.pay(1)
    desk.settle()
    with transaction() as session:
        found = service.get(session, deposit.id)
        assert found is not None and found.state in ("suspended", "watching")
        assert [row.state for row in service.page(session) if row.units_received] == ["suspended"]
