"""The decider: asks Redis for decisions on behalf of people, many at a time, and remembers what it answered.

What is asked for while a pipeline is under way goes out with the next one, so that under load a call carries hundreds
of decisions and costs little more than one. Everything here runs on one event loop, in callbacks: a task or a lock to
a decision would cost more than the decision. docs/hot.md tells what a decider promises, ADR 18 why.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core.errors import InvariantError
from core.hot.errors import StoreAwayError, UndecidedError
from core.hot.life import Call, Entry, Life
from core.hot.links import Links, Node
from core.hot.presence import Presence, Seen
from core.hot.script import COLD, ITEMS_MAX, Item, Reply, Script
from core.hot.settings import hot as settings
from core.hot.store import Generation, StoreMode, StoreState
from core.hot.wire import Failure

log = structlog.stdlib.get_logger(__name__)

BEAT_S = 0.25
PIPELINES = 2
"""Under way to a server at one moment: while one is decided, the next is written and the last is read."""
PIPELINE_MAX = 2_000
"""Items of all shards together. What comes first doesn't wait until the whole queue is answered."""
LEAVE_S = 1.0
"""How long calls under way may still be answered once a generation is closing."""
# What a server answers before it runs a script. After anything else the script may have changed something.
NOT_RUN = (
    "NOSCRIPT", COLD, "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "BUSY", "OOM", "MISCONF",
    "MASTERDOWN", "NOREPLICAS", "NOAUTH", "NOPERM",
)  # fmt: skip
OVER = ("NOSCRIPT", COLD)
ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY")

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds, of a clock that goes on while this process, or the machine, is stopped."""
    return time.clock_gettime(_CLOCK)


class Decider:
    """One a process and event loop. `start` before the first decision, `stop` after the last."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.generation: Generation | None = None
        """As PostgreSQL said last. In mode postgres decisions are the caller's: see store.decide_here."""
        self._chosen = settings()
        self._wait = self._chosen.wait.total_seconds()
        self._trust = self._chosen.lease.total_seconds() / 2
        self._life: Life | None = None
        self._late: list[Life] = []
        self._valid_until = 0.0
        self._held: deque[Entry] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self._close_reason: str | None = None
        self._stopping = False

    @property
    def is_deciding(self) -> bool:
        return self._refusal() is None

    @property
    def remembered(self) -> int:
        """Events that are answered and not known to be in the books."""
        return self._life.count if self._life else 0

    async def start(self) -> None:
        """Returns when it could decide, or after HOT_WAIT: it goes on trying."""
        self._loop = asyncio.get_running_loop()
        self._nudge = asyncio.Event()
        self._thread = ThreadPoolExecutor(2, thread_name_prefix="decider")
        self._presence = Presence(self.name)
        self._links = Links(self._chosen, up=self._release, down=self._turn_away)
        self._links.start()
        self._beating = self._loop.create_task(self._beat_for_ever())
        ends = self._loop.time() + self._wait
        while not self.is_deciding and self._loop.time() < ends:  # noqa: ASYNC110  # several things must come together
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Decide nothing more, write down what the books don't have yet, and leave the list."""
        self._stopping = True
        for node in self._links.nodes:
            self._turn_away(node)
        self._fail_held(StoreAwayError("this process is ending"))
        self._nudge.set()
        await self._beating
        if self._life is not None:
            await self._end(self._life)
        try:
            for life in (*self._late, *([self._life] if self._life else [])):
                await self._in_thread(self._say_goodbye, life)
            await self._in_thread(self._presence.go)
        except SQLAlchemyError as error:
            # The list keeps us. A turn waits for the lease, and finds in Redis what we could not say.
            log.warning("decider.left_in_silence", error=str(error).splitlines()[0])
        await self._links.stop()
        self._thread.shutdown(wait=False)
        self._presence.dispose()

    def _say_goodbye(self, life: Life) -> None:
        if not self._presence.leave(life.number, dict(enumerate(life.remembered))):
            self._presence.tell_late(life.number, dict(enumerate(life.remembered)))

    # --- asking

    async def decide(self, script: Script, item: Item, *, patient: bool = False) -> Reply:
        """One decision. `patient`: wait up to HOT_WAIT for the next generation, or for Redis to come back.

        Raises:
            StoreAwayError: nothing was decided.
            UndecidedError: the answer was lost; asked again, the same comes.
            InvariantError: the script is wrong.

        """
        (reply,) = await self._ask(script, (item,), patient=patient)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def decide_all(
        self, script: Script, items: Sequence[Item], *, patient: bool = False
    ) -> list[Reply | Exception]:
        """Many, in order of the items within a shard. Each has its reply, or what `decide` would raise."""
        return await self._ask(script, items, patient=patient) if items else []

    def _ask(
        self, script: Script, items: Sequence[Item], *, patient: bool
    ) -> "asyncio.Future[list[Reply | Exception]]":
        for item in items:
            if len(item.keys) != script.keys or len(item.args) != script.args:
                raise InvariantError(f"{script.name} takes {script.keys} keys and {script.args} arguments")
        future: asyncio.Future[list[Reply | Exception]] = self._loop.create_future()
        call = Call(script, items, future, self._loop.time() + self._wait, patient=patient)
        refusal = self._refusal()
        for entry in [(call, place) for place in range(len(items))]:
            if refusal is None:
                self._enqueue(entry)
            else:
                self._refuse(entry, refusal)
        return future

    def _enqueue(self, entry: Entry) -> None:
        call, place = entry
        node = self._links.of(call.items[place].shard)
        if node is None or not node.is_up:
            self._refuse(entry, "Redis is away")
            return
        node.queue.append(entry)
        self._schedule(node)

    def _schedule(self, node: Node) -> None:
        if not node.scheduled and node.in_flight < PIPELINES and node.queue:
            node.scheduled = True
            self._loop.call_soon(self._flush, node)

    def _refusal(self) -> str | None:
        """Why nothing can be decided here and now."""
        life = self._life
        if life is None or life.over:
            return "the hot store is between two generations"
        if clock() > self._valid_until:
            return "PostgreSQL is away: it isn't known who decides"
        if life.count >= self._chosen.remember_max:
            return "the books are too far behind"
        return "this process is ending" if self._stopping else None

    def _refuse(self, entry: Entry, why: str) -> None:
        call, place = entry
        elsewhere = self.generation is not None and self.generation.mode is StoreMode.POSTGRES
        if not call.patient or elsewhere or self._stopping or self._loop.time() >= call.deadline:
            call.settle(place, StoreAwayError(why))
            return
        self._held.append(entry)
        if self._expiry is None:
            self._expiry = self._loop.call_at(call.deadline, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        while self._held and self._held[0][0].deadline <= self._loop.time():
            call, place = self._held.popleft()
            call.settle(place, StoreAwayError("the hot store did not come back in time"))
        if self._held:
            self._expiry = self._loop.call_at(self._held[0][0].deadline, self._expire)

    def _release(self) -> None:
        """What was held may go, as far as it can."""
        entries, self._held = self._held, deque()
        refusal = self._refusal()
        for entry in entries:
            if refusal is None:
                self._enqueue(entry)
            else:
                self._refuse(entry, refusal)

    def _fail_held(self, error: StoreAwayError) -> None:
        entries, self._held = self._held, deque()
        for call, place in entries:
            call.settle(place, error)

    def _turn_away(self, node: Node, why: str = "Redis is away") -> None:
        entries, node.queue = node.queue, deque()
        for entry in entries:
            self._refuse(entry, why)

    # --- on the wire

    def _flush(self, node: Node) -> None:
        node.scheduled = False
        life, refusal = self._life, self._refusal()
        if life is None or refusal is not None or node.wire is None or not node.is_up:
            self._turn_away(node, refusal or "Redis is away")
            return
        groups: dict[tuple[str, int, int], list[Entry]] = {}
        counts: dict[tuple[str, int], int] = {}
        for _ in range(min(len(node.queue), PIPELINE_MAX)):
            entry = node.queue.popleft()
            call, place = entry
            if call.future.done():
                continue  # its caller has gone
            kind = (call.script.name, call.items[place].shard)
            number = counts[kind] = counts.get(kind, -1) + 1
            groups.setdefault((*kind, number // ITEMS_MAX), []).append(entry)
        if groups:
            calls = list(groups.values())
            data = b"".join(
                life.request(entries[0][0].script, shard, entries) for (_, shard, _), entries in groups.items()
            )
            node.in_flight += 1
            node.wire.send(data, len(calls), lambda replies: self._answered(node, life, calls, replies))
        self._schedule(node)

    def _answered(self, node: Node, life: Life, calls: list[list[Entry]], replies: list[Any] | None) -> None:
        node.in_flight -= 1
        # A process that was stopped for long finds answers that it must not give: its generation may be over.
        lawful = not life.closed and self._life is life and clock() <= self._valid_until
        for place, entries in enumerate(calls):
            reply = replies[place] if replies is not None else None
            if type(reply) is list and lawful:
                self._give(life, entries, reply)
            elif isinstance(reply, Failure):
                self._failed(node, life, entries, reply)
            else:
                for call, each in entries:
                    call.settle(each, UndecidedError("the hot store's answer was lost"))
        self._schedule(node)

    @staticmethod
    def _give(life: Life, entries: list[Entry], reply: list[Any]) -> None:
        remembered = life.remembered[entries[0][0].items[entries[0][1]].shard]
        for (call, place), raw in zip(entries, reply, strict=True):
            if type(raw) is not str:
                call.settle(place, InvariantError(f"the script {call.script.name} failed: {raw}"))
                continue
            seq, event, answer = raw.split("\n", 2)
            if seq:
                number = int(seq)
                remembered.append((number, event))
                life.count += 1
                call.settle(place, Reply(answer, number, event))
            else:
                call.settle(place, Reply(answer, None, None))

    def _failed(self, node: Node, life: Life, entries: list[Entry], failure: Failure) -> None:
        """A whole call was refused, or broke off."""
        word = failure.partition(" ")[0]
        if word not in NOT_RUN:
            log.error("decider.script_failed", script=entries[0][0].script.name, error=str(failure)[:300])
            self._give_up(life, f"a script failed: {failure}")
            for call, place in entries:
                call.settle(place, UndecidedError("the hot store failed amid the decision"))
            return
        if word in OVER:
            self._give_up(life, f"Redis answered {word}: it has lost something")
        elif word in ELSEWHERE:
            self._links.lose(node)
        for entry in entries:
            self._refuse(entry, f"Redis refuses: {word}")

    def _give_up(self, life: Life, reason: str) -> None:
        """Nothing more is asked in this generation; the turn out of it begins at once."""
        if not life.over:
            life.over = True
            self._close_reason = reason
            self._nudge.set()

    # --- following PostgreSQL

    async def _in_thread(self, work: Any, *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._thread, work, *arguments)

    async def _beat_for_ever(self) -> None:
        while not self._stopping:
            began = clock()
            try:
                if self._close_reason and self._life is not None:
                    await self._in_thread(self._presence.close, self._life.number, self._close_reason)
                    self._close_reason = None
                await self._follow(await self._in_thread(self._presence.beat), began)
            except SQLAlchemyError as error:
                log.warning("decider.without_postgresql", error=str(error).splitlines()[0])
            except Exception:  # whatever it is, silence would only be noticed when the lease is over
                log.exception("decider.failed")
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._nudge.wait()
            except TimeoutError:
                continue
            self._nudge.clear()

    async def _follow(self, seen: Seen, began: float) -> None:
        """Do what the heartbeat's answer asks for. `began` is when it was sent: the answer was true after that."""
        now, life = seen.generation, self._life
        if seen.left is None:
            await self._in_thread(self._presence.register)
            self._nudge.set()
            if life is None or now == self.generation:
                return  # crossed off in an open generation: nobody has missed us
        if life is not None and (seen.left is None or seen.left >= life.number or now.number != life.number):
            # Taken for dead: the turn is over, or goes on without us.
            log.error("decider.was_taken_for_dead", generation=life.number, remembered=life.count)
            life.closed = True
            await self._end(life)
            self._late.append(life)
            self._life = life = None
        if seen.left is None:
            return
        self.generation = now
        if now.state is StoreState.CLOSING:
            await self._leave(now.number, seen.left)
        elif now.is_decided_by_redis:
            self._live_on(now, seen, began)
        else:
            self._fail_held(StoreAwayError("Redis is away: PostgreSQL decides"))
        for late in [each for each in self._late if each.number != now.number]:
            await self._in_thread(self._presence.tell_late, late.number, dict(enumerate(late.remembered)))
            self._late.remove(late)

    def _live_on(self, now: Generation, seen: Seen, began: float) -> None:
        if self._life is None:
            if seen.left is not None and seen.left >= now.number:
                return  # it is over for us
            if now.shards != self._chosen.shards:
                log.error("decider.other_shards", ours=self._chosen.shards, generation=now.number, its=now.shards)
                return
            self._life = Life(now)
            self._links.expect(now.shards)
        self._valid_until = began + self._trust
        self._life.forget(seen.applied)
        self._release()

    async def _leave(self, number: int, left: int | None) -> None:
        life = self._life
        if life is None:
            if left is None or left < number:
                await self._in_thread(self._presence.leave, number, {})
            return
        await self._end(life)
        said = await self._in_thread(self._presence.leave, number, dict(enumerate(life.remembered)))
        log.info("decider.left", generation=number, remembered=life.count, in_time=said)
        if not said:
            self._late.append(life)
        self._life = None

    async def _end(self, life: Life) -> None:
        """Let calls under way end, for a moment; after it nothing changes in this life any more."""
        life.over = True
        ends = self._loop.time() + LEAVE_S
        while (  # noqa: ASYNC110  # once a generation: no event of its own for that
            any(node.in_flight for node in self._links.nodes) and self._loop.time() < ends and not life.closed
        ):
            await asyncio.sleep(0.005)
        life.closed = True
        self._links.drop_calls()


__all__ = ["Decider"]
