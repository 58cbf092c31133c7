"""What decides in this process, from its start to its end."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.hot.bet_desk import BetDesk, need_all
from api.hot.limit import HotLimiter
from config import settings
from core.hot.decider import Decider
from core.hot.errors import StoreAwayError
from core.hot.script import Item, Reply, Script
from core.hot.store import StoreMode
from domain.claim.hot import CLAIM, claim_item, read
from domain.claim.service import Answer, Ask, Claims, Here

ROUNDS = 3
"""Redis, PostgreSQL in its place, and Redis again should it have come back between the two."""


@dataclass(frozen=True, slots=True)
class Engine:
    decider: Decider
    limiter: HotLimiter
    claims: "ClaimDesk"
    bets: BetDesk

    @property
    def decides(self) -> bool:
        """Claims at least."""
        return self.decider.is_deciding or self.claims.is_elsewhere


async def started() -> Engine:
    """Raises ValueError if API_HOT_RATE_LIMIT can't be understood. The decider may still be looking for its store."""
    limiter = HotLimiter(settings.api().hot_rate_limit, url=str(settings.servers().redis_url))
    decider = Decider()
    await decider.start()
    limiter.start()
    return Engine(decider, limiter, ClaimDesk(decider), BetDesk(decider))


async def stopped(engine: Engine) -> None:
    """What was answered and is not in the books yet is written down before this returns."""
    await engine.decider.stop()
    await engine.limiter.stop()


class ClaimDesk:
    """Claims are decided by Redis or, while it is away, by PostgreSQL. The answers are the same."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._claims = Claims(self._decide)
        self._here = Here()

    async def claim(self, asks: Sequence[Ask]) -> list[Answer]:
        """An answer to each, in order. The asks must be `checked`.

        Raises StoreAwayError and UndecidedError: some may be decided, and asked again they get the same answer.
        """
        for _ in range(ROUNDS):
            try:
                return await self._by_redis(asks)
            except StoreAwayError:
                if not self.is_elsewhere:
                    raise
            try:
                return await self._here.claim(asks)
            except StoreAwayError:
                if self.is_elsewhere:
                    raise
        raise StoreAwayError("the hot store comes and goes")

    async def _by_redis(self, asks: Sequence[Ask]) -> list[Answer]:
        """At once where Redis has all the packets, as nearly always. Whoever asks again gets the same answer."""
        replies = await self._decide(CLAIM, [claim_item(ask) for ask in asks])
        found = [read(reply.answer) for reply in replies]
        answers = [each for each in found if isinstance(each, Answer)]
        return answers if len(answers) == len(asks) else await self._claims.claim(asks)

    @property
    def is_elsewhere(self) -> bool:
        """PostgreSQL decides."""
        generation = self._decider.generation
        return generation is not None and generation.mode is StoreMode.POSTGRES

    async def _decide(self, script: Script, items: Sequence[Item]) -> list[Reply]:
        return need_all(await self._decider.decide_all(script, items, patient=True))
