"""Carrying a claim through: ask Redis, load what it misses, ask again.

`Claims` is for a process that answers people and has a decider, with `Here` beside it for when Redis is away; `by_hand`
is for workers and tests.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from core import db
from core.hot.errors import StoreAwayError
from core.hot.hand import Hand
from core.hot.script import Item, Reply, Script
from domain.claim.fallback import claim_many
from domain.claim.hot import CLAIM, LOAD, Answer, Ask, claim_item, read
from domain.claim.loading import Key, Over, look, portions, remembered
from ledger.posting import again

Decide = Callable[[Script, Sequence[Item]], Awaitable[Sequence[Reply]]]
"""A decider's: replies in order. Raises StoreAwayError and UndecidedError."""
HERE_MAX = 500
"""Claims that one transaction decides in place of Redis, unless one request has more."""
ROUNDS = 4
"""Ask, load, ask; and once more, should the packet have gone or the generation have turned between the two."""


def _look(missed: dict[Key, str]) -> dict[Key, Item | Over]:
    with db.transaction() as session:
        return look(session, missed)


class _Round:
    """What is not answered yet of some claims."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = asks
        self.answers: dict[int, Answer] = {}
        self.missed: dict[Key, str] = {}

    @property
    def open(self) -> list[int]:
        return [place for place in range(len(self.asks)) if place not in self.answers]

    def items(self) -> list[Item]:
        return [claim_item(self.asks[place]) for place in self.open]

    def replied(self, replies: Sequence[Reply]) -> None:
        self.missed = {}
        for place, reply in zip(self.open, replies, strict=True):
            answer = read(reply.answer)
            ask = self.asks[place]
            if isinstance(answer, Answer):
                self.answers[place] = answer
            elif (over := remembered.get((ask.tenant, ask.packet_id))) is not None:
                self.answers[place] = over.answer(ask.claimant)
            else:
                self.missed.setdefault((ask.tenant, ask.packet_id), answer.ticket)

    def settle(self, found: dict[Key, Over]) -> None:
        for place in self.open:
            ask = self.asks[place]
            over = found.get((ask.tenant, ask.packet_id))
            if over is not None:
                self.answers[place] = over.answer(ask.claimant)

    def result(self) -> list[Answer]:
        if self.open:
            raise StoreAwayError("a packet could not be loaded; nothing was decided about the claims that are left")
        return [self.answers[place] for place in range(len(self.asks))]


class Claims:
    """For one decider. However many claims miss the same packets at once, PostgreSQL is asked once."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._wanted: dict[Key, tuple[str, asyncio.Future[Over | None]]] = {}
        self._loading: asyncio.Task[None] | None = None

    async def claim(self, asks: Sequence[Ask]) -> list[Answer]:
        """An answer to each, in order. The asks must be `checked`.

        Raises StoreAwayError (some may be decided: asked again, they get the same answer) and UndecidedError.
        """
        doing = _Round(asks)
        for _ in range(ROUNDS):
            if doing.open:
                doing.replied(await self._decide(CLAIM, doing.items()))
            if doing.missed:
                doing.settle(await self._load(doing.missed))
        return doing.result()

    async def _load(self, missed: dict[Key, str]) -> dict[Key, Over]:
        loop = asyncio.get_running_loop()
        for key, ticket in missed.items():
            if key not in self._wanted:
                self._wanted[key] = (ticket, loop.create_future())
        waited = {key: self._wanted[key][1] for key in missed}
        if self._loading is None or self._loading.done():
            self._loading = loop.create_task(self._work())
        await asyncio.wait(waited.values())  # it cancels none of them: others wait for them as well
        return {key: over for key, waiting in waited.items() if (over := waiting.result()) is not None}

    async def _work(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                found = await asyncio.to_thread(_look, {key: ticket for key, (ticket, _) in wanted.items()})
                for part in portions([item for item in found.values() if isinstance(item, Item)]):
                    await self._decide(LOAD, part)
            except Exception as error:  # noqa: BLE001  # it is theirs who wait
                for _, waiting in wanted.values():
                    if not waiting.done():
                        waiting.set_exception(error)
                        waiting.exception()  # seen, should nobody wait any more
                continue
            for key, (_, waiting) in wanted.items():
                over = found[key]
                if not waiting.done():
                    waiting.set_result(over if isinstance(over, Over) else None)


def by_hand(hand: Hand, asks: Sequence[Ask]) -> list[Answer]:
    """As `Claims.claim`, in a process that remembers nothing: for those to whom no answer is promised."""
    doing = _Round(asks)
    for _ in range(ROUNDS):
        if doing.open:
            doing.replied(hand.decide(CLAIM, doing.items()))
        if doing.missed:
            found = _look(doing.missed)
            for part in portions([item for item in found.values() if isinstance(item, Item)]):
                hand.decide(LOAD, part)
            doing.settle({key: over for key, over in found.items() if isinstance(over, Over)})
            doing.missed = {}
    return doing.result()


class Here:
    """PostgreSQL in place of Redis, for one event loop: what is asked at one moment is decided in one transaction.

    So however many wait, one thread and one connection are at work, and the packets are locked once for all of them.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Sequence[Ask], asyncio.Future[list[Answer]]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def claim(self, asks: Sequence[Ask]) -> list[Answer]:
        """An answer to each, in order. The asks must be `checked`. Raises StoreAwayError if Redis decides."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[list[Answer]] = loop.create_future()
        self._waiting.append((asks, mine))
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work())
        return await mine

    async def _work(self) -> None:
        while self._waiting:
            taken = [self._waiting.popleft()]
            count = len(taken[0][0])
            while self._waiting and count + len(self._waiting[0][0]) <= HERE_MAX:
                taken.append(self._waiting.popleft())
                count += len(taken[-1][0])
            try:
                found = iter(await asyncio.to_thread(_claim_here, [ask for asks, _ in taken for ask in asks]))
            except Exception as error:  # noqa: BLE001  # it is theirs who wait
                for _, waiting in taken:
                    if not waiting.done():
                        waiting.set_exception(error)
                continue
            for asks, waiting in taken:
                answers = list(islice(found, len(asks)))
                if not waiting.done():
                    waiting.set_result(answers)


def _claim_here(asks: Sequence[Ask]) -> list[Answer]:
    def once() -> list[Answer]:
        with db.transaction() as session:
            return claim_many(session, asks)

    return again(once)
