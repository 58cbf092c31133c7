"""The API, the sync process and their servers, what is done to them, and what must hold of the books afterwards."""

import asyncio
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core import breaks, db
from core.db import transaction
from core.hot import client, store
from core.hot.settings import hot
from core.hot.store import StoreMode, StoreState
from core.ids import new_id
from domain.access import service as access
from domain.bet import comparing
from domain.bet.settings import bet
from domain.claim import service as claims
from ledger import balances, chart
from ledger.assets import sync_assets
from ledger.invariants import verify
from ledger.posting import Journal, Posting, book
from local.postgres import Postgres
from local.processes import answers
from local.server import free_port
from local.valkey import Valkey
from tests.conftest import use
from tests.support.fleet import Fleet, wait_until
from tests.support.hot_load import ACCEPTED, ASSET, SENDER, Bet, Line, Load, Told

TENANT = "campaign"
PLAYERS = {"ann": 1_000_000, "bob": 1_000_000, "cleo": 1_000_000, "poor": 150}
"""What each has loaded."""
PACE = {
    "HOT_LEASE": "2",
    "HOT_FALLBACK_AFTER": "0.6",
    "HOT_WAIT": "1",
    "HOT_SHARDS": "3",
    "HOT_LINGER": "1",
    "BET_PER_SECOND": "1000000",
}
_BOOKED = text(
    """
    SELECT c.packet_id::text AS packet, c.claimant, c.place, c.units, c.refused,
           array_agg(a.code ORDER BY e.position) AS codes, array_agg(abs(e.units) ORDER BY e.position) AS moved
    FROM packet_claims c JOIN packets p ON p.id = c.packet_id
    LEFT JOIN ledger_journals j ON j.tenant = p.tenant AND j.reference = 'claim:' || c.packet_id || ':' || c.place
    LEFT JOIN ledger_entries e ON e.journal_number = j.number
    LEFT JOIN ledger_accounts a ON a.id = e.account_id
    GROUP BY c.packet_id, c.claimant
    """
)
_JOURNALS = text("SELECT category, count(*) AS journals FROM ledger_journals GROUP BY 1")
_BETS = text(
    """
    SELECT b.id::text, p.user_id, b.state, b.stake, b.payout, b.reserved_free, b.reserved_locked, b.ended_free
    FROM bets b JOIN bet_players p ON p.id = b.player
    """
)


@contextmanager
def campaign(postgres: Postgres, folder: Path) -> Iterator["Campaign"]:
    """On a database that the settings name. The hot store is the broker's Redis, as where nothing is configured."""
    with Valkey(folder / "hot") as server, Fleet(folder) as fleet:
        back = use({"REDIS_URL": server.url, **PACE})
        _forget()
        fleet.environment["LOG_FORMAT"] = "json"  # a coloured traceback takes seconds in which nothing is decided
        try:
            made = Campaign(postgres, server, fleet)
            made.begin()
            yield made
        finally:
            for name in list(fleet.processes):
                fleet.kill(name)
            back()
            _forget()


def _forget() -> None:
    client.dispose()
    hot.cache_clear()
    bet.cache_clear()
    access.forget()


@dataclass
class Campaign:
    postgres: Postgres
    server: Valkey
    fleet: Fleet
    told: Told = field(default_factory=Told)
    port: int = 0
    key: str = ""

    def begin(self) -> None:
        """A sender and players with money, all of it in the players' hands."""
        with transaction() as session:
            sync_assets(session)
            access.create_tenant(session, TENANT, name="Campaign")
            self.key = access.create_key(session, TENANT, name="load", scopes=list(access.Scope)).secret
        for account, units in {SENDER: 10**12, **{chart.user_available(u): n for u, n in PLAYERS.items()}}.items():
            move = Posting(source=chart.custody("eip155:1"), destination=account, asset=ASSET, units=units)
            book(Journal(tenant=TENANT, reference=f"fund:{account}", category="fund", postings=[move]))
        self.port = free_port()
        self.settle()
        asyncio.run(self._load_players())
        wait_until(lambda: self._count("SELECT count(*) FROM hot_loads WHERE state = 'loaded'") == len(PLAYERS))
        self.told.loads |= PLAYERS

    async def _load_players(self) -> None:
        line = Line(self.port, self.key)
        for user, units in PLAYERS.items():
            asked = {"asset": ASSET, "units": str(units)}
            status, said = await line.post(f"/v1/players/{user}/loads", asked, idempotency_key=str(new_id()))
            assert status == ACCEPTED, (status, said)
        line.close()

    def load(self, chance: random.Random) -> Load:
        return Load(self.port, self.key, self.told, chance)

    # --- what is done to it

    def kill(self, name: str) -> None:
        self.fleet.kill(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.fleet.processes[name].send_signal(number)

    def kill_redis(self) -> None:
        assert self.server.process is not None and self.server.process.pid is not None
        os.kill(self.server.process.pid, signal.SIGKILL)
        wait_until(lambda: not self.server.alive())
        self.server.stop()

    def lose_files(self) -> None:
        shutil.rmtree(self.server.data_dir / "files")

    def restart_postgres(self, pause: float) -> None:
        """As by a crash: it ends at once, and finds its way back by its log."""
        assert self.postgres.process is not None
        self.postgres.process.signal(signal.SIGQUIT)
        wait_until(lambda: not self.postgres.alive())
        self.postgres.stop()
        time.sleep(pause)
        self.postgres.start()
        db.dispose()

    def settle(self) -> None:
        """All of it runs, and Redis decides."""
        if not self.server.alive():
            self.server.start()
        if "sync" not in self.fleet.processes:
            self.fleet.start("sync", ["-m", "workers.sync"])
        if "api" not in self.fleet.processes:
            self.fleet.start(
                "api",
                ["-m", "uvicorn", "api.main:app", "--port", str(self.port), "--no-access-log", "--no-server-header"],
            )
        wait_until(lambda: self._is_open() and answers(f"http://127.0.0.1:{self.port}/health"), timeout=45)

    @staticmethod
    def _is_open() -> bool:
        try:
            with transaction() as session:
                now = store.current(session)
        except SQLAlchemyError:
            return False
        return now.state is StoreState.OPEN and now.mode is StoreMode.REDIS and now.number > 1

    # --- what must hold of it

    @staticmethod
    def _count(query: str) -> int:
        with transaction() as session:
            return int(session.scalar(text(query)) or 0)

    def is_drained(self) -> bool:
        """Nothing is in Redis that isn't in the books."""
        with transaction() as session:
            now = store.current(session)
            rows = session.execute(
                text("SELECT shard, applied_seq FROM hot_shards WHERE generation = :g"), {"g": now.number}
            ).all()
        if now.state is not StoreState.OPEN or now.mode is not StoreMode.REDIS:
            return False
        return all(
            str(client.client().get(f"tr:{{h{row.shard}}}:{now.number}:seq")) == str(row.applied_seq) for row in rows
        )

    @staticmethod
    def keys_of(packet: str) -> list[str]:
        """In Redis, of any generation."""
        return [str(key) for key in client.client().scan_iter(match=f"*{packet}*", count=1_000)]

    def breaks(self) -> Counter[str]:
        with transaction() as session:
            return Counter(breaks.count_open(session))

    def state(self) -> str:
        """What helps to find out why a check failed."""
        queries = [
            "SELECT * FROM hot_store",
            "SELECT * FROM hot_shards ORDER BY generation, shard",
            "SELECT * FROM hot_deciders",
            "SELECT * FROM hot_events ORDER BY generation DESC, shard, seq LIMIT 200",
            "SELECT kind, subject, expected, found, detail FROM breaks",
            "SELECT * FROM jobs WHERE task = 'claim_sync.apply_parked'",
        ]
        with transaction() as session:
            found = [f"{query}\n" + "\n".join(map(str, session.execute(text(query)))) for query in queries]
        return "\n".join(found)

    def check(self) -> None:
        """The promise, once nobody asks any more. Raises AssertionError."""
        wait_until(self.is_drained)
        with transaction() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            self._check_claims(session)
            self._check_packets(session)
            self._check_bets(session)
            assert verify(session) == []
        assert self._count("SELECT count(*) FROM jobs WHERE task = 'claim_sync.apply_parked'") == 0
        assert claims.compare() == 0
        compared = comparing.compare()
        assert (compared.moving, compared.differing) == (0, 0)
        assert compared.players or not self.told.bets

    def _check_claims(self, session: Session) -> None:
        told = self.told
        rows = {(row.packet, row.claimant): row for row in session.execute(_BOOKED)}
        for name, share in told.shares.items():
            assert name in rows, f"{name} was told of {share}, and has nothing"
            assert (rows[name].place, rows[name].units) == share
        assert rows.keys() - told.shares.keys() <= told.given_up
        received: Counter[str] = Counter()
        for (packet, user), row in rows.items():
            assert row.refused is None
            assert row.codes == [chart.packet(packet), chart.user_available(user)]
            assert row.moved == [row.units] * 2
            received[user] += row.units
        assert len({(packet, rows[packet, user].place) for packet, user in rows}) == len(rows)
        assert _journals(session)["packet.claim"] == len(rows)
        keys = [(TENANT, chart.user_available(user), ASSET) for user in received]
        assert balances.balances(session, keys) == dict(zip(keys, received.values(), strict=True))

    def _check_packets(self, session: Session) -> None:
        sums = "SELECT packet_id, count(*) AS claims, sum(units) AS units FROM packet_claims GROUP BY 1"
        rows = session.execute(
            text(f"""SELECT id::text, state, count, p.claims, p.units, units_refunded, coalesce(c.claims, 0) AS won,
                            coalesce(c.units, 0) AS given FROM packets p LEFT JOIN ({sums}) c ON c.packet_id = p.id""")
        ).all()
        assert self.told.packets.items() <= {row.id: int(row.units) for row in rows}.items()
        left = {}
        for row in rows:
            assert row.claims == row.won <= row.count
            if row.state == "closed":
                assert row.given + row.units_refunded == row.units
            left[TENANT, chart.packet(row.id), ASSET] = 0 if row.state == "closed" else row.units - row.given
        assert balances.balances(session, list(left)) == left

    def _check_bets(self, session: Session) -> None:
        rows = {row.id: row for row in session.execute(_BETS)}
        assert rows.keys() <= self.told.bets.keys()
        for name, asked in self.told.bets.items():
            _check_bet(asked, rows.get(name))
        states = Counter(row.state for row in rows.values())
        booked = _journals(session)
        assert booked["bet.reserved"] == len(rows)
        assert [booked[f"bet.{each}"] for each in ("settled", "voided")] == [states["settled"], states["voided"]]
        for user, loaded in self.told.loads.items():
            mine = [row for row in rows.values() if row.user_id == user]
            staked = sum(row.stake for row in mine if row.state == "reserved")
            won = sum(row.payout - row.stake for row in mine if row.state == "settled")
            expected = {chart.playing(user): loaded + won - staked, chart.staked(user): staked}
            found = balances.balances(session, [(TENANT, code, ASSET) for code in expected])
            assert list(found.values()) == list(expected.values()), user


def _journals(session: Session) -> Counter[str]:
    """By category."""
    return Counter({str(row.category): int(row.journals) for row in session.execute(_JOURNALS)})


def _check_bet(asked: Bet, row: Any) -> None:
    """What was answered is so; what was not is as it was asked for, or not at all."""
    if row is None:
        assert asked.reserved is None, f"{asked} was answered, and is nowhere"
        return
    assert not asked.refused, f"{asked} was refused, and is there"
    assert (row.user_id, row.stake) == (asked.user, asked.stake)
    if asked.reserved is not None:
        answer = int(asked.reserved["free"]), int(asked.reserved["locked"])
        assert (row.reserved_free, row.reserved_locked) == answer
    if asked.ended is not None:
        assert row.ended_free == int(asked.ended["free"])
    end = ("voided" if asked.payout is None else "settled", asked.payout)
    if asked.ended is not None:
        assert (row.state, row.payout) == end
    else:
        assert (row.state, row.payout) in [("reserved", None), *([end] if asked.asked_end else [])]
