"""The hot store behind the API: opened, turned and drained into the books when a test says so."""

import time

from sqlalchemy import text

from core.db import transaction
from core.hot import client, store
from core.hot.settings import hot
from core.hot.store import StoreMode
from domain.bet import sync as bets
from domain.claim import sync as claims
from tests.support.hot import Table

APPLIERS = {"claim": claims.apply, "bet": bets.apply}
SCRIPTS = (*claims.SCRIPTS, *bets.SCRIPTS)


class HotStore:
    """Generation 2, in which Redis decides."""

    def __init__(self) -> None:
        self.table = Table(client.client(), SCRIPTS, APPLIERS, shards=hot().shards)
        self._open(1, StoreMode.REDIS)

    def close(self) -> None:
        """Begin the turn, and wait until every decider has left. Nothing is decided then."""
        with transaction() as session:
            number = store.current(session).number
            store.close(session, number, reason="a test")
        ends = time.monotonic() + 5
        while self._deciders(f"left_generation < {number}"):
            assert time.monotonic() < ends
            time.sleep(0.02)

    def turn(self, mode: StoreMode = StoreMode.REDIS) -> None:
        """Into the next generation, which knows nothing of what Redis knew."""
        self.close()
        self.table.drain()
        self.table.turn()
        self._open(self.table.generation - 1, mode)

    def drain(self) -> int:
        return self.table.drain(again=True)

    def _open(self, before: int, mode: StoreMode) -> None:
        with transaction() as session:
            assert store.open_next(session, before, mode=mode, shards=hot().shards, reason="a test")
        time.sleep(0.3 if self._deciders("true") else 0)  # longer than a heartbeat

    @staticmethod
    def _deciders(which: str) -> int:
        with transaction() as session:
            return int(session.scalar(text(f"SELECT count(*) FROM hot_deciders WHERE {which}")) or 0)
