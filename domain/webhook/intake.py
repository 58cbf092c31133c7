"""For one event loop: what arrives at one moment is kept in one transaction, by one thread over one connection."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import DataError, DBAPIError

from core import jobs
from core.errors import InvalidRequestError, InvariantError, TransientError
from domain.webhook.service import Arrived, Kept, keep_now

COUNT_MAX = 500
"""Webhooks in one transaction."""
BYTES_MAX = 4 * 1024 * 1024
"""Of bodies in one transaction, unless one alone has more."""
WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Of bodies in memory that are not kept yet. Beyond, nobody is let in: the sender tries again."""
OVERHEAD = 1_024
"""What one costs besides its body."""
THEIRS = ("22", "54")
"""PostgreSQL's classes of errors that a value causes: one that can't be stored, one that is too large for an index."""
OURS = "23"
"""A constraint of ours refuses what we made of it."""


class RefusedError(InvalidRequestError):
    """PostgreSQL can't store it as it came: sent again, it would not be kept either."""


Waiting = tuple[Arrived, asyncio.Future[Kept]]


class Intake:
    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "intake")
        self._rings = False
        """Whether the relay is to be rung."""
        self._ringing: asyncio.Task[None] | None = None

    async def keep(self, arrived: Arrived) -> Kept:
        """Returns once it is committed. Raises RefusedError if it can't be kept as it is, TransientError if too much
        waits, or what PostgreSQL's absence raises: then it may be kept or not, and asked again it is kept once.
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
        loop = asyncio.get_running_loop()
        while self._waiting:
            taken = self._take()
            arrived = [one for one, _ in taken]
            try:
                found: Sequence[Kept | Exception] = await loop.run_in_executor(self._thread, _keep, arrived)
            except Exception as error:  # noqa: BLE001  # it is theirs who wait
                found = [error] * len(taken)
            finally:
                self._bytes -= sum(map(_size, arrived))
            for (_, waiting), kept in zip(taken, found, strict=True):
                _tell(waiting, kept)
            if any(isinstance(kept, Kept) and not kept.is_repeat for kept in found):
                self._ring()

    def _ring(self) -> None:
        """For what has been committed. Nobody waits for it, and the next batch doesn't either."""
        self._rings = True
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.get_running_loop().create_task(self._ring_until_heard())

    async def _ring_until_heard(self) -> None:
        while self._rings:
            self._rings = False
            await asyncio.to_thread(jobs.ring)

    def _take(self) -> list[Waiting]:
        taken = [self._waiting.popleft()]
        size = _size(taken[0][0])
        while self._waiting and len(taken) < COUNT_MAX:
            size += _size(self._waiting[0][0])
            if size > BYTES_MAX:
                break
            taken.append(self._waiting.popleft())
        return taken


def _tell(waiting: asyncio.Future[Kept], kept: Kept | Exception) -> None:
    if waiting.done():  # whoever asked is gone
        return
    if isinstance(kept, Kept):
        waiting.set_result(kept)
    else:
        waiting.set_exception(kept)


def _size(arrived: Arrived) -> int:
    return len(arrived.body) + OVERHEAD


def _keep(arrived: Sequence[Arrived]) -> list[Kept | Exception]:
    """An answer to each, in order. Of a batch that PostgreSQL refuses, each half is tried by itself, and so on: so all
    are kept but those at fault. Raises what is about none of them.
    """
    try:
        return list(keep_now(arrived))
    except (DBAPIError, UnicodeError) as error:
        refused = _refused(error)
        if refused is None:
            raise
    if len(arrived) == 1:
        return [refused]
    middle = len(arrived) // 2
    return [*_keep(arrived[:middle]), *_keep(arrived[middle:])]


def _refused(error: DBAPIError | UnicodeError) -> Exception | None:
    """What to say if it is the fault of what was to be written. Nothing of it is in the words: they go into the log."""
    if isinstance(error, UnicodeError):
        return RefusedError("it has text that no database can hold")
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # of the driver, which sent nothing, or of a connection
        return RefusedError("it has a value that no database can hold") if isinstance(error, DataError) else None
    if state.startswith(THEIRS):
        return RefusedError(f"it can't be stored as it is ({state})")
    return InvariantError(f"a constraint of ours refuses the row of a webhook ({state})") if state[:2] == OURS else None
