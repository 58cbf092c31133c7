"""A tenant with packets, and a hot store that is drained and turned when the test says so."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from redis import Redis
from sqlalchemy import text

from core.db import transaction
from core.hot.script import Item
from core.hot.store import StoreMode
from domain.claim import service
from domain.claim.hot import CLAIM, claim_item, ticket_of
from domain.claim.loading import look, remembered
from domain.claim.service import Answer, Ask, NewPacket, Packet, Shares
from ledger import balances, invariants
from ledger.assets import sync_assets
from tests.integration.ledger.books import CUSTODY, EUR, book, move, new_tenant
from tests.support.hot import Table

SENDER = "user:sender:available"
SHARDS = 4
_numbers = count()


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


class Desk:
    def __init__(self, store: Redis, *, units: int = 10**12) -> None:
        self.store = store
        self.mode = StoreMode.REDIS
        self.table = Table(store, service.SCRIPTS, {"claim": service.apply}, shards=SHARDS)
        self.tenant = new_tenant()
        remembered.clear()
        with transaction() as session:
            sync_assets(session)
        self.fund(SENDER, units)
        self.turn()

    def fund(self, account: str, units: int) -> None:
        book(self.tenant, f"fund:{next(_numbers)}", move(CUSTODY, account, units, EUR))

    def new(self, **given: Any) -> NewPacket:
        chosen: dict[str, Any] = {
            "tenant": self.tenant,
            "sender": SENDER,
            "asset": EUR,
            "units": 1_000,
            "count": 10,
            "kind": Shares.RANDOM,
            "expires_at": in_an_hour(),
        }
        return NewPacket(**chosen | given)

    def create(self, **given: Any) -> Packet:
        with transaction() as session:
            return service.create(session, self.new(**given))

    def packet(self, **given: Any) -> Packet:
        """One that is open."""
        made = self.create(**given)
        with transaction() as session:
            return service.open_packet(session, made.id)

    def read(self, packet: Packet | UUID) -> Packet:
        with transaction() as session:
            found = service.get(session, packet if isinstance(packet, UUID) else packet.id)
        assert found is not None
        return found

    def ask(self, packet: Packet, user: str, group: str | None = None, *, tenant: str | None = None) -> Ask:
        return service.checked(Ask(tenant or self.tenant, packet.id, user, group))

    def claim(self, packet: Packet, user: str, group: str | None = None, *, tenant: str | None = None) -> Answer:
        return self.claim_all([self.ask(packet, user, group, tenant=tenant)])[0]

    def claim_all(self, asks: Sequence[Ask]) -> list[Answer]:
        if self.mode is StoreMode.REDIS:
            return service.by_hand(self.table.hand, asks)
        with transaction() as session:
            return service.claim_many(session, asks)

    def turn(self, mode: StoreMode = StoreMode.REDIS) -> None:
        """Apply all, and begin a generation that knows nothing."""
        self.table.drain()
        self.table.turn()
        self.mode = mode
        with transaction() as session:
            session.execute(
                text("UPDATE hot_store SET generation = :generation, mode = :mode, state = 'open', shards = :shards"),
                {"generation": self.table.generation, "mode": mode, "shards": SHARDS},
            )
            session.execute(
                text("""INSERT INTO hot_shards (generation, shard, applied_seq)
                        SELECT :generation, shard, 0 FROM generate_series(0, :shards - 1) AS shard"""),
                {"generation": self.table.generation, "shards": SHARDS},
            )

    def expire(self, packet: Packet) -> None:
        """Its time is up, for PostgreSQL and, if it has it, for Redis."""
        with transaction() as session:
            session.execute(
                text("""UPDATE packets SET expires_at = date_trunc('milliseconds', now() - interval '5 seconds')
                        WHERE id = :id"""),
                {"id": packet.id},
            )
        for key in self.keys_of(packet):
            if not key.endswith(":shares"):
                self.store.hset(key, "=ends", "1")

    def keys_of(self, packet: Packet) -> list[str]:
        """In this generation."""
        pattern = f"tr:{{h*}}:{self.table.generation}:packet:{packet.id}:*"
        return sorted(str(key) for key in self.store.scan_iter(pattern))

    def loads(self, packet: Packet) -> Item:
        """What somebody who missed the packet would load, read now."""
        [reply] = self.table.hand.decide(CLAIM, [claim_item(self.ask(packet, "nobody"))])
        ticket = ticket_of(reply.answer)
        assert ticket is not None
        assert re.fullmatch(rf"{self.table.generation}\.[0-9]{{13}}", ticket)
        with transaction() as session:
            found = look(session, {(self.tenant, packet.id): ticket})[self.tenant, packet.id]
        assert isinstance(found, Item)
        return found

    def balance(self, account: str) -> int:
        with transaction() as session:
            return balances.balance(session, self.tenant, account, EUR)

    def check_books(self) -> None:
        with transaction() as session:
            assert invariants.verify(session) == []
