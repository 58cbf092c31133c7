"""For one event loop: what arrives at one moment is kept in one transaction, by one thread over one connection."""

import asyncio
from collections import deque
from collections.abc import Sequence

from sqlalchemy.exc import StatementError

from core import db
from core.errors import TransientError
from domain.webhook.service import Arrived, Kept, keep

COUNT_MAX = 500
"""Webhooks in one transaction."""
BYTES_MAX = 4 * 1024 * 1024
"""Of bodies in one transaction, unless one alone has more."""
WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Of bodies in memory that are not kept yet. Beyond, nobody is let in: the sender tries again."""
OVERHEAD = 1_024
"""What one costs besides its body."""


class Intake:
    def __init__(self) -> None:
        self._waiting: deque[tuple[Arrived, asyncio.Future[Kept]]] = deque()
        self._bytes = 0
        self._working: asyncio.Task[None] | None = None

    async def keep(self, arrived: Arrived) -> Kept:
        """Returns once it is committed. Raises TransientError if too much waits, or what PostgreSQL's absence raises:
        then it may be kept or not, and asked again it is kept once.
        """
        if self._bytes > WAITING_BYTES_MAX:
            raise TransientError("too many webhooks wait to be kept")
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[Kept] = loop.create_future()
        self._waiting.append((arrived, mine))
        self._bytes += _size(arrived)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work())
        return await mine

    async def _work(self) -> None:
        while self._waiting:
            taken = self._take()
            arrived = [one for one, _ in taken]
            try:
                found = await asyncio.to_thread(_keep, arrived)
            except Exception as error:  # noqa: BLE001  # it is theirs who wait
                for _, waiting in taken:
                    if not waiting.done():
                        waiting.set_exception(error)
            else:
                for (_, waiting), kept in zip(taken, found, strict=True):
                    if not waiting.done():
                        waiting.set_result(kept)
            finally:
                self._bytes -= sum(map(_size, arrived))

    def _take(self) -> list[tuple[Arrived, asyncio.Future[Kept]]]:
        taken = [self._waiting.popleft()]
        size = _size(taken[0][0])
        while self._waiting and len(taken) < COUNT_MAX:
            size += _size(self._waiting[0][0])
            if size > BYTES_MAX:
                break
            taken.append(self._waiting.popleft())
        return taken


def _size(arrived: Arrived) -> int:
    return len(arrived.body) + OVERHEAD


def _keep(arrived: Sequence[Arrived]) -> list[Kept]:
    try:
        with db.transaction() as session:
            return keep(session, arrived)
    except StatementError as error:
        error.hide_parameters = True  # bodies among them, which belong into no log
        raise
