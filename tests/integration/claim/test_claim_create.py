"""A packet is funded before anybody can claim it, or not made at all."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core import jobs
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError
from core.ids import new_id
from domain.claim import service
from domain.claim.service import Ask, PacketState, Reason
from ledger import holds
from ledger.accounts import freeze, unfreeze
from ledger.errors import InsufficientFundsError
from ledger.holds import HoldState
from tests.integration.claim.desk import SENDER, Desk, in_an_hour

BAD: list[tuple[dict[str, Any], str]] = [
    ({"count": 0}, "count"),
    ({"count": -1}, "count"),
    ({"count": True}, "count"),
    ({"count": 10_001, "units": 100_000}, "count"),
    ({"units": 0}, "units"),
    ({"units": 10**38}, "units"),
    ({"units": 9, "count": 10}, "units"),
    ({"units": 99, "count": 10, "units_min": 10}, "units"),
    ({"units_min": 0}, "units_min"),
    ({"asset": "iso4217:XXX"}, "asset"),
    ({"sender": "user:sender"}, "account"),
    ({"sender": "house:fees"}, "account"),
    ({"sender": "packet:1"}, "account"),
    ({"sender": "user:sender:playing"}, "account"),
    ({"group": ""}, "group"),
    ({"group": "a b"}, "group"),
    ({"group": "g" * 65}, "group"),
    ({"allowed": ()}, "allowed"),
    ({"allowed": ("ann", "b:b")}, "allowed"),
    ({"allowed": ("ann\n",)}, "allowed"),
    ({"allowed": ("ann",) * 10_001}, "allowed"),
    ({"expires_at": timedelta(seconds=-1)}, "expires_at"),
    ({"expires_at": timedelta(days=31)}, "expires_at"),
    ({"expires_at": datetime(2030, 1, 1)}, "expires_at"),  # noqa: DTZ001
    ({"metadata": {"note": "x" * 9_000}}, "metadata"),
    ({"metadata": {"note": "\0"}}, "metadata"),
]


@pytest.mark.parametrize(("given", "field"), BAD, ids=[f"{place}-{field}" for place, (_, field) in enumerate(BAD)])
def test_what_can_not_be_is_refused_and_leaves_nothing(desk: Desk, given: dict[str, Any], field: str) -> None:
    if isinstance(given.get("expires_at"), timedelta):
        given = {"expires_at": datetime.now(UTC) + given["expires_at"]}
    with pytest.raises(InvalidRequestError) as refused:
        desk.create(**given)
    assert refused.value.field == field
    with transaction() as session:
        for table in ("packets", "packet_allowed", "ledger_holds"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0


@pytest.mark.parametrize("name", ["", "a b", "=left", "~ann", "ann\n", "u" * 65, "ä"])
def test_a_name_that_can_be_no_account_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        service.checked(Ask("t", new_id(), name))
    with pytest.raises(InvalidRequestError):
        service.checked(Ask("t", new_id(), "ann", name))


def test_money_that_is_not_there_makes_no_packet(desk: Desk) -> None:
    with pytest.raises(InsufficientFundsError):
        desk.create(units=10**12 + 1)
    with transaction() as session:
        assert service.page(session, tenant=desk.tenant) == []


def test_the_money_is_held_at_once_and_moves_when_it_opens(desk: Desk) -> None:
    before = desk.balance(SENDER)
    made = desk.create(metadata={"note": "hi"}, correlation_id="c1")
    with transaction() as session:
        hold = holds.hold(session, desk.tenant, made.hold_id)
        [job] = jobs.page(session, task="claim_sync.open_packet")
    assert (hold.state, hold.units, hold.destination) == (HoldState.PENDING, 1_000, f"packet:{made.id}")
    assert (job.args, job.tenant, job.subject) == ({"packet_id": str(made.id)}, desk.tenant, f"packet:{made.id}")
    assert (made.current, made.revealed_seed, len(made.seed_hash)) == (PacketState.FUNDED, None, 64)
    for _ in range(2):
        with transaction() as session:
            opened = service.open_packet(session, made.id)
    assert (opened.current, opened.details) == (PacketState.OPEN, {"note": "hi"})
    assert opened.revealed_seed is None
    assert desk.balance(SENDER) == before - 1_000
    assert desk.balance(made.account) == 1_000
    with pytest.raises(NotFoundError), transaction() as session:
        service.open_packet(session, new_id())
    desk.check_books()


def test_a_packet_whose_money_was_frozen_is_cancelled(desk: Desk) -> None:
    made = desk.create()
    with transaction() as session:
        freeze(session, tenant=desk.tenant, code=SENDER, asset=made.asset, actor="test", reason="test")
    with transaction() as session:
        closed = service.open_packet(session, made.id)
    assert (closed.current, closed.ended, closed.units_refunded) == (PacketState.CLOSED, Reason.CANCELLED, 0)
    with transaction() as session:
        assert holds.hold(session, desk.tenant, made.hold_id).state is HoldState.VOIDED
        unfreeze(session, tenant=desk.tenant, code=SENDER, asset=made.asset, actor="test", reason="test")
    assert desk.claim(made, "ann").result is service.ClaimResult.CANCELLED


def test_a_packet_that_was_not_opened_in_time_never_is(desk: Desk) -> None:
    one, two, three = desk.create(), desk.create(), desk.create()
    for made in (one, two):
        desk.expire(made)
    with transaction() as session:
        assert service.open_packet(session, one.id).ended is Reason.EXPIRED
    assert service.close_due() == 1
    service.cancel(desk.tenant, three.id)
    assert [desk.read(each).ended for each in (one, two, three)] == [Reason.EXPIRED, Reason.EXPIRED, Reason.CANCELLED]
    assert desk.balance(SENDER) == 10**12
    with transaction() as session:
        states = {hold.state for hold in holds.holds(session, desk.tenant).rows}
    assert states == {HoldState.VOIDED}


def test_a_hold_that_another_captured_is_nobodys_to_give_back(desk: Desk) -> None:
    made = desk.create()
    with transaction() as session:
        holds.capture(session, tenant=desk.tenant, hold_id=made.hold_id, reference="somebody")
    with pytest.raises(InvariantError, match="captured by somebody else"), transaction() as session:
        service.open_packet(session, made.id)
    desk.expire(made)
    other = desk.create()
    desk.expire(other)
    service.close_due()
    assert (desk.read(made).current, desk.read(other).current) == (PacketState.FUNDED, PacketState.CLOSED)


def test_only_an_open_packet_of_ones_own_can_be_taken_back(desk: Desk) -> None:
    packet = desk.packet(count=1)
    with pytest.raises(NotFoundError):
        service.cancel("another", packet.id)
    desk.claim(packet, "ann")
    desk.table.drain()
    with pytest.raises(ConflictError):
        service.cancel(desk.tenant, packet.id)


def test_packets_are_listed_newest_first(desk: Desk) -> None:
    made = [desk.packet() for _ in range(3)] + [desk.create()]
    with transaction() as session:
        found = [packet.id for packet in service.page(session, tenant=desk.tenant)]
        older = [packet.id for packet in service.page(session, tenant=desk.tenant, before=made[2].id)]
        funded = [packet.id for packet in service.page(session, state=PacketState.FUNDED)]
        assert service.get(session, made[0].id, tenant="another") is None
        assert not service.wanted(session, datetime.now(UTC))
        assert service.wanted(session, in_an_hour() + timedelta(hours=1))
    assert found == [packet.id for packet in reversed(made)]
    assert older == [made[1].id, made[0].id]
    assert funded == [made[3].id]
