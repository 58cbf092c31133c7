"""Bets, carried through: ask the hot store, put players there whom it misses, ask the books about what is long over.

Redis alone decides. While it is away every bet is refused at once: a decider without it says so without asking.
"""

import asyncio
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool

from core import db
from core.errors import TallyrailError
from core.hot.decider import Decider
from core.hot.errors import StoreAwayError, UndecidedError
from core.hot.script import Item, Reply, Script
from domain.bet import loading, moving, service
from domain.bet.decisions import (
    END,
    LOOK,
    MOVE,
    PUT,
    RESERVE,
    Answer,
    End,
    Reserve,
    Seen,
    Verdict,
    answer,
    look_item,
    seen,
)
from domain.bet.moving import Move
from domain.bet.players import Player
from domain.bet.settings import bet as settings

ROUNDS = 4
"""Ask, put, ask; and once more, should the player have gone or the generation have turned between the two."""

FURTHER = frozenset({Verdict.ABSENT, Verdict.STALE, Verdict.UNKNOWN})
"""Answers after which PostgreSQL is asked."""

Ask = Reserve | End
Told = Answer | TallyrailError


class BetDesk:
    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._per_second = settings().per_second
        self._putter = _Putter(decider)

    async def reserve(self, asks: Sequence[Reserve]) -> list[Told]:
        """To each, in order: RESERVED, LOW, TOO_MANY, CONFLICT, STALE, or StoreAwayError or UndecidedError. Once an ask
        was `check`ed.
        """
        return await self._through(RESERVE, asks, [ask.item(per_second=self._per_second) for ask in asks])

    async def end(self, asks: Sequence[End]) -> list[Told]:
        """To each, in order: SETTLED or VOIDED as was asked, CONFLICT, UNKNOWN, TOO_LARGE, or an error as above."""
        return await self._through(END, asks, [ask.item() for ask in asks])

    async def _through(self, script: Script, asks: Sequence[Ask], items: Sequence[Item]) -> list[Told]:
        replies = await self._decider.decide_all(script, items)
        # As nearly always: the player is there, and nothing has to be looked up.
        found = [answer(reply) for reply in replies if isinstance(reply, Reply)]
        if len(found) == len(asks) and FURTHER.isdisjoint([each.verdict for each in found]):
            return [*found]
        return await self._further(script, asks, items, replies)

    async def _further(
        self, script: Script, asks: Sequence[Ask], items: Sequence[Item], replies: Sequence[Reply | Exception]
    ) -> list[Told]:
        """The rest of the way, once `replies` came of the first time."""
        told: dict[int, Told] = {}
        left = list(range(len(asks)))
        for number in range(ROUNDS):
            if number:
                replies = await self._decider.decide_all(script, [items[place] for place in left])
            absent: dict[Player, str] = {}
            for place, reply in zip(left, replies, strict=True):
                if isinstance(reply, Exception):
                    told[place] = _ours(reply)
                    continue
                found = answer(reply)
                if found.token is None:
                    told[place] = found
                else:
                    absent.setdefault(asks[place].player, found.token)
            if not absent:
                break
            left = [place for place in left if place not in told]
            try:
                await self._putter.put(absent)
            except TallyrailError as error:
                told |= dict.fromkeys(left, error)
                break
        gone = StoreAwayError("the player does not stay in the hot store; nothing was decided")
        complete = [told.get(place, gone) for place in range(len(asks))]
        return await self._by_the_books(asks, complete)

    @staticmethod
    async def _by_the_books(asks: Sequence[Ask], told: list[Told]) -> list[Told]:
        """What is too long ago for the hot store, the books tell."""
        old = [
            place
            for place, found in enumerate(told)
            if isinstance(found, Answer) and found.verdict in (Verdict.STALE, Verdict.UNKNOWN)
        ]
        if old:
            first = await run_in_threadpool(_first_answers, [asks[place] for place in old])
            for place, found in zip(old, first, strict=True):
                told[place] = found
        return told

    async def move(self, move: Move) -> Answer | None:
        """Get a load or unload decided that is begun and committed. None: it was already, as the books say.

        Raises StoreAwayError and UndecidedError: a job asks again.
        """
        prepare = moving.prepare_unload if move.hold_id is None else moving.prepare_load

        def prepared(token: str) -> tuple[Item, Item] | None:
            with db.transaction() as session:
                return prepare(session, move.id, token)

        item = move.item()
        for _ in range(ROUNDS):
            found = answer(await self._decider.decide(MOVE, item))
            if found.token is None:
                return found
            items = await run_in_threadpool(prepared, found.token)
            if items is None:
                return None
            put, item = items
            await self._decider.decide(PUT, put)
        raise UndecidedError("the player does not stay in the hot store")

    async def look(self, who: Player) -> Seen | None:
        """What the player has now. None: the hot store doesn't have him. Raises StoreAwayError and UndecidedError."""
        return seen(await self._decider.decide(LOOK, look_item(who)))


class _Putter:
    """However many bets miss the same players at once, PostgreSQL is asked once."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._wanted: dict[Player, tuple[str, asyncio.Future[None]]] = {}
        self._work: asyncio.Task[None] | None = None

    async def put(self, absent: dict[Player, str]) -> None:
        """`absent`: the token that was answered for each."""
        loop = asyncio.get_running_loop()
        for who, token in absent.items():
            if who not in self._wanted:
                self._wanted[who] = (token, loop.create_future())
        waited = [self._wanted[who][1] for who in absent]
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._put_all())
        await asyncio.wait(waited)  # it cancels none of them: others wait for them as well
        for done in waited:
            done.result()

    async def _put_all(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            error: Exception | None = None
            try:
                items = await run_in_threadpool(_items, [(who, token) for who, (token, _) in wanted.items()])
                need_all(await self._decider.decide_all(PUT, items))
            except Exception as raised:  # noqa: BLE001  # it is theirs who wait
                error = raised
            for _, waiting in wanted.values():
                if error is None:
                    waiting.set_result(None)
                else:
                    waiting.set_exception(error)
                    waiting.exception()  # seen, should nobody wait any more


def need_all(replies: Sequence[Reply | Exception]) -> list[Reply]:
    """Raises the first error there is."""
    made: list[Reply] = []
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
        made.append(reply)
    return made


def _items(absent: Sequence[tuple[Player, str]]) -> list[Item]:
    with db.transaction() as session:
        return loading.items(session, absent)


def _first_answers(asks: Sequence[Ask]) -> list[Told]:
    with db.transaction() as session:
        books = service.known(session, asks)
    return [_first_answer(ask, books.get((ask.player.id, ask.id))) for ask in asks]


def _first_answer(ask: Ask, books: service.BetFacts | None) -> Told:
    try:
        return service.first_answer(ask, books)
    except UndecidedError as error:
        return error


def _ours(error: Exception) -> TallyrailError:
    if not isinstance(error, TallyrailError):
        raise error
    return error
