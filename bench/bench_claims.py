"""`make bench-claims`: what it costs to have claims and bets decided over HTTP, beside the least that it could cost.

Real servers throughout: PostgreSQL, Valkey with an append-only file (everysec), the API under uvicorn with one
process, and the sync process. Everything runs on the same cores: servers, load (bench.load, a process of its own, 64
connections) and what is compared with. Each claim wins a share, each bet stakes something: no answer is dearer.

- claims.single, bets.single: requests a second, one decision each. Baseline: the same script called once a request by a
  bare ASGI app on the same server (bench.bare_hot) with redis-py as client; `.wired`: with our own. `.rate` holds
  the same figure against 10,000 a second, `.p99` the 99th percentile of the latency in milliseconds against its limit;
  the bare app's stands beside it.
- claims.batch, bets.batch: decisions a second in batches of 100, over 4 connections, which keep the API busy. Baseline:
  EVALSHA of the same script in pipelines of 100 (bench.pipelines). `.p99` is a whole batch's.
- claims.draining: claims.single once more, with the sync process draining beside it.
- claims.drain: events a second from the streams into the books, of all that was decided before, by one sync process.
  Baseline: transfers a second of the ledger's own batch call, by one process, in the same run.

Sides take turns, and of each the median counts. At the end everything that was decided is in the books once.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from bench import hot, ledger_clients, servers
from bench.figures import figure
from bench.hot import ASSET, TENANT, World
from bench.load import Outcome
from core import db
from core.hot.script import Item
from core.ids import new_id
from domain.bet.decisions import RESERVE, Facts, Reserve
from domain.bet.players import player
from domain.claim.hot import CLAIM, Ask, claim_item
from ledger import invariants

ROUNDS = 3
SINGLES = 15_000
BATCHES, BATCH = 400, 100
BATCH_CONNECTIONS = 4
PLAYERS = 200
FACTS = Facts("crash", 300, "agent-7")

Numbers = tuple[float, float]
"""Ours and the baseline's."""


class Claims:
    """Shares of packets that nobody has claimed yet, each for somebody new to it, of 10,000 users with accounts."""

    name, p99_max, script, won = "claims", 100, CLAIM, '"won"'

    def __init__(self, world: World) -> None:
        self._world = world
        self.decided = 0

    def _asks(self, wanted: int) -> list[Ask]:
        many = -(-wanted // 9_000)
        packets = [hot.packet(-(-wanted // many) + 1) for _ in range(many)]  # one more, for who comes first
        with self._world.client as client:
            for each in packets:  # which takes it into Redis
                told = client.post(f"/v1/packets/{each}/claims", json={"user": "first"}).json()
                assert told["result"] == "won", told
        self.decided += wanted + len(packets)
        return [Ask(TENANT, packets[n % many], f"{n // many}") for n in range(wanted)]

    def singles(self, wanted: int) -> list[tuple[str, Any]]:
        return [(f"/v1/packets/{ask.packet_id}/claims", {"user": ask.claimant}) for ask in self._asks(wanted)]

    def batches(self, wanted: int) -> list[tuple[str, Any]]:
        asks = [{"packet_id": str(ask.packet_id), "user": ask.claimant} for ask in self._asks(wanted * BATCH)]
        return [("/v1/claims:batch", {"claims": part}) for part in _parts(asks)]

    def items(self, wanted: int) -> list[Item]:
        return [claim_item(ask) for ask in self._asks(wanted)]


class Bets:
    """Stakes of players who have loaded enough."""

    name, p99_max, script, won = "bets", 50, RESERVE, '"reserved"'

    def __init__(self, world: World) -> None:
        self.decided = 0
        self._users = [f"p{number}" for number in range(PLAYERS)]
        with world.client as client:
            for user in self._users:
                hot.fund(f"user:{user}:available", 10**9)
                reply = client.post(
                    f"/v1/players/{user}/loads",
                    json={"asset": ASSET, "units": str(10**9)},
                    headers={"Idempotency-Key": f"load-{user}"},
                )
                assert reply.status_code == 202, reply.text

    def _asks(self, wanted: int) -> list[Reserve]:
        self.decided += wanted
        players = [player(TENANT, user, ASSET) for user in self._users]
        return [Reserve(players[n % PLAYERS], new_id(), 7, FACTS) for n in range(wanted)]

    @staticmethod
    def _body(ask: Reserve) -> dict[str, Any]:
        who, facts = ask.player, ask.facts
        return {"id": str(ask.id), "user": who.user, "asset": who.asset, "stake": str(ask.stake), "game": facts.game,
                "edge_bps": facts.edge_bps, "agent": facts.agent}  # fmt: skip

    def singles(self, wanted: int) -> list[tuple[str, Any]]:
        return [("/v1/bets", self._body(ask)) for ask in self._asks(wanted)]

    def batches(self, wanted: int) -> list[tuple[str, Any]]:
        asks = [self._body(ask) for ask in self._asks(wanted * BATCH)]
        return [("/v1/bets:batch", {"bets": part}) for part in _parts(asks)]

    def items(self, wanted: int) -> list[Item]:
        return [ask.item(per_second=1_000_000) for ask in self._asks(wanted)]


def _parts(asks: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(asks), BATCH):
        yield asks[first : first + BATCH]


def single(world: World, subject: Claims | Bets) -> None:
    ours: list[Outcome] = []
    bare: list[Outcome] = []
    wired: list[Outcome] = []
    for _ in range(ROUNDS):
        ours.append(_single(world, subject))
        bare.append(world.load_bare(world.bare, subject.script, subject.items(SINGLES)))
        wired.append(world.load_bare(world.wired, subject.script, subject.items(SINGLES)))
    mine, theirs = _median(ours, _rate), _median(bare, _rate)
    name = f"{subject.name}.single"
    figure(name, ours=mine, baseline=theirs, goal=">= 1.0", met=mine >= theirs)
    figure(f"{name}.wired", ours=mine, baseline=_median(wired, _rate), goal="none")
    figure(f"{name}.rate", ours=mine, baseline=10_000, goal=">= 1.0", met=mine >= 10_000)
    _p99(name, subject, ours, bare)


def _single(world: World, subject: Claims | Bets) -> Outcome:
    outcome = world.load(subject.singles(SINGLES), expect=subject.won)
    assert outcome.results[subject.won] == SINGLES, outcome.results
    return outcome


def _p99(name: str, subject: Claims | Bets, ours: Sequence[Outcome], bare: Sequence[Outcome]) -> None:
    p50, p99 = attrgetter("p50_ms"), attrgetter("p99_ms")
    theirs = bare or ours
    figure(f"{name}.p50", ours=_median(ours, p50), baseline=_median(theirs, p50), goal="none")
    mine, limit = _median(ours, p99), subject.p99_max
    figure(f"{name}.p99", ours=mine, baseline=_median(theirs, p99), goal=f"< {limit} ms", met=mine < limit)


def batch(world: World, subject: Claims | Bets) -> None:
    ours: list[Outcome] = []
    piped: list[float] = []
    for _ in range(ROUNDS):
        outcome = world.load(subject.batches(BATCHES), expect=subject.won, connections=BATCH_CONNECTIONS)
        assert outcome.results[subject.won] == BATCHES * BATCH, outcome.results
        ours.append(outcome)
        piped.append(world.pipeline(subject.script, subject.items(BATCHES * BATCH)))
    mine, theirs = BATCH * _median(ours, _rate), statistics.median(piped)
    figure(f"{subject.name}.batch", ours=mine, baseline=theirs, goal=">= 0.5", met=mine >= theirs / 2)
    _p99(f"{subject.name}.batch", subject, ours, [])


def _rate(outcome: Outcome) -> float:
    return outcome.rate


def _median(outcomes: Sequence[Outcome], of: Callable[[Outcome], float]) -> float:
    return statistics.median(map(of, outcomes))


# --- into the books ----------------------------------------------------------------------------------------------


def drain(decided: int) -> None:
    """All that waits. Timed from the first batch that is seen in the books to the last."""
    with hot.syncing():
        began = _applied()
        servers.wait_until(lambda: _applied() > began, every=0.005)
        first, at = _applied(), time.perf_counter()
        servers.wait_until(lambda: _applied() >= decided, every=0.02)
        rate = (decided - first) / (time.perf_counter() - at)
    theirs = ledger_clients.ours(1, "uniform", batched=True)
    figure("claims.drain", ours=rate, baseline=theirs, goal=">= 0.7", met=rate >= 0.7 * theirs)
    figure("claims.drain.rate", ours=rate, baseline=10_000, goal=">= 1.0", met=rate >= 10_000)


def _applied() -> int:
    return hot.one("SELECT sum(applied_seq) FROM hot_shards WHERE generation = (SELECT generation FROM hot_store)")


def draining(world: World, claims: Claims) -> None:
    with hot.syncing():
        ours = [_single(world, claims) for _ in range(ROUNDS)]
        figure("claims.draining", ours=_median(ours, _rate), baseline=10_000, goal="none")
        _p99("claims.draining", claims, ours, [])


def check(claims: Claims, bets: Bets) -> None:
    """Nothing lost, nothing twice."""
    wanted = claims.decided + bets.decided + PLAYERS
    with hot.syncing():
        servers.wait_until(lambda: _applied() >= wanted)
    assert _applied() == wanted
    assert hot.one("SELECT count(*) FROM packet_claims WHERE refused IS NULL") == claims.decided
    assert hot.one("SELECT count(*) FROM bets") == bets.decided
    assert hot.one("SELECT count(*) FROM breaks") == 0
    with db.transaction() as session:
        assert invariants.verify(session) == []


def main() -> None:
    with (
        servers.servers() as environment,
        tempfile.TemporaryDirectory(prefix="tallyrail-bench-load-") as folder,
        hot.world(environment, Path(folder)) as world,
    ):
        ledger_clients.prepare()
        claims = Claims(world)
        single(world, claims)
        batch(world, claims)
        drain(claims.decided)
        draining(world, claims)
        bets = Bets(world)
        single(world, bets)
        batch(world, bets)
        check(claims, bets)


if __name__ == "__main__":
    main()
