"""Who sent a webhook, as it is kept, and what can't be kept: one webhook never costs another its place."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from api.hot.webhooks import Desk
from core.errors import InvariantError
from domain.webhook import intake as taking
from domain.webhook.intake import Intake, RefusedError
from domain.webhook.service import Arrived, Kept, keep_now
from domain.webhook.settings import WebhookSettings
from tests.integration.webhook.desk import arrived, receipts
from tests.support.jobs import statuses


@pytest.mark.parametrize(
    ("peer", "kept"),
    [
        ("fe80::1%eth0", "fe80::1"),  # as a neighbour on the same wire is named
        ("fe80::1%", None),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_every_address_that_a_server_names_can_be_kept(database_url: str, peer: str, kept: str | None) -> None:
    """They come at one moment, so they are kept in one transaction."""
    remote = Desk(WebhookSettings()).remote(peer, "")

    async def both() -> tuple[Kept, Kept]:
        intake = Intake()
        first = intake.keep(arrived(b"1", remote=None if remote is None else str(remote)))
        return await asyncio.gather(first, intake.keep(arrived(b"2")))

    assert [one.is_repeat for one in asyncio.run(both())] == [False, False]
    found = {row.body: row.remote for row in receipts()}
    assert found.keys() == {b"1", b"2"}
    assert (None if found[b"1"] is None else str(found[b"1"])) == kept


def at_once(*webhooks: Arrived) -> list[Any]:
    async def all_of_them() -> list[Any]:
        intake = Intake()
        return await asyncio.gather(*map(intake.keep, webhooks), return_exceptions=True)

    return asyncio.run(all_of_them())


BAD: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "a zero byte in its key": ({"event_id": "evt\0"}, RefusedError),
    "half a character in its key": ({"event_id": "evt\ud800"}, RefusedError),
    "an address that is none": ({"remote": "fe80::1%eth0"}, RefusedError),
    "a key that no index takes": ({"event_id": "".join(map(chr, range(0x4E00, 0x8E00)))}, RefusedError),
    "what a constraint refuses": ({"body": None}, InvariantError),
}


@pytest.mark.parametrize("bad", BAD)
def test_of_many_at_once_only_those_that_no_database_keeps_are_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    sizes: list[int] = []

    def counting(some: list[Arrived]) -> list[Kept]:
        sizes.append(len(some))
        return keep_now(some)

    monkeypatch.setattr(taking, "keep_now", counting)
    monkeypatch.setattr(taking, "_size", lambda _: 1_000)
    monkeypatch.setattr(Arrived, "dedupe_key", property(lambda one: f"event:{one.event_id}"))
    changed, error = BAD[bad]
    webhooks = [arrived(f"{n}".encode(), event_id=f"evt_{n}") for n in range(20)]
    for place in (3, 17):
        webhooks[place] = arrived(**{"body": b"bad", "event_id": f"bad_{place}"} | changed)
    told = at_once(*webhooks)
    assert sizes[0] == 20
    assert [place for place, one in enumerate(told) if isinstance(one, error)] == [3, 17]
    assert all(one == Kept(is_repeat=False) for place, one in enumerate(told) if place not in (3, 17))
    assert {row.body for row in receipts()} == {f"{n}".encode() for n in range(20) if n not in (3, 17)}
    assert statuses() == {"queued": 18}
    for place in (3, 17):
        assert "bad" not in str(told[place]) and told[place].__cause__ is None and told[place].__context__ is None


def test_when_postgresql_is_away_nothing_is_tried_twice(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def away(some: list[Arrived]) -> list[Kept]:
        sizes.append(len(some))
        raise OperationalError(None, None, Exception("gone"))

    monkeypatch.setattr(taking, "keep_now", away)
    told = at_once(*[arrived(f"{n}".encode()) for n in range(5)])
    assert sizes == [5] and all(isinstance(one, OperationalError) for one in told)
