"""What the pool of nodes knows of one endpoint: its circuit breaker, its latency, its head. It asks nobody."""

import random
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from chains.base import Block, NodeHealth
from chains.endpoint import Endpoint
from chains.errors import LimitedError, RefusedError, WrongChainError
from core.errors import TransientError

FAILURES_MAX = 3
"""In a row, and it is asked no more for a while."""
WINDOW = 20
"""Or half of so many calls."""
PAUSE_S = 5.0
"""The first pause; each further one, without a success between, is twice as long."""
PAUSE_MAX_S = 300.0
WRONG_CHAIN_S = 300.0
"""A node of another chain is asked again which one it is after so long."""
LATENCY_WEIGHT = 0.3
"""Of the newest figure, in the moving average."""

E = TypeVar("E", bound=Endpoint)


@dataclass(frozen=True)
class Sight:
    """The newest block that an endpoint told of, and when by the pool's clock."""

    block: Block
    at: float
    age: timedelta
    """How old the block was by then."""


class Standing(Generic[E]):
    """One endpoint. Times named `at` and `until` are seconds of the pool's monotonic clock."""

    def __init__(self, endpoint: E, place: int) -> None:
        self.endpoint = endpoint
        self.place = place
        """In the configuration."""
        self.verified = False
        self.calls = 0
        self.failures = 0
        self.latency: float | None = None
        """Seconds, of telling its head: the one question that is the same for all."""
        self.sight: Sight | None = None
        self.looked_at: float | None = None
        """When it was last asked for its head, whatever came of it."""
        self.disagrees = False
        self.opened_at = 0.0
        self.wished = False
        """It asked for the pause itself, so that not even the last resort is a call before its end."""
        self.wrong_until: float | None = None
        self.last_error: str | None = None
        self._failing_since: datetime | None = None
        self._open_until: float | None = None
        self._trying = False
        self._in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._trips = 0

    def free_at(self, now: float) -> float | None:
        """When it may be asked again; None: now."""
        if self.wrong_until is not None and now < self.wrong_until:
            return self.wrong_until
        if self._open_until is not None and now < self._open_until:
            return self._open_until
        return now if self._trying else None

    @property
    def closed(self) -> bool:
        """The breaker's word for being in use. If not, and free, the next call is a trial that decides."""
        return self._open_until is None

    def begin(self) -> bool:
        """A call. False if there is a trial under way already, which this one has to wait for."""
        if self._trying:
            return False
        self._trying = not self.closed
        self.calls += 1
        return True

    def end(self, error: BaseException | None, *, now: float, wall: datetime) -> None:
        """What became of the call that was begun."""
        self._trying = False
        if error is not None and not isinstance(error, RefusedError):
            if isinstance(error, TransientError) and not isinstance(error, LimitedError):
                self._failed(error, now, wall)
            return  # anything else says nothing of the node
        self._open_until = None
        self._failing_since = None
        self._in_a_row = self._trips = 0
        self._recent.append(True)
        if error is not None:
            self.last_error = str(error)

    def _failed(self, error: TransientError, now: float, wall: datetime) -> None:
        self.failures += 1
        self.last_error = str(error)
        self._failing_since = self._failing_since or wall
        self._in_a_row += 1
        self._recent.append(False)
        if isinstance(error, WrongChainError):
            self.wrong_until = now + WRONG_CHAIN_S
            self.verified = False
            return
        wish = error.retry_after.total_seconds() if error.retry_after else 0.0
        often = len(self._recent) == WINDOW and 2 * self._recent.count(False) >= WINDOW
        if wish or not self.closed or often or self._in_a_row >= FAILURES_MAX:
            pause = min(PAUSE_S * 2**self._trips, PAUSE_MAX_S) * random.uniform(0.75, 1.25)  # noqa: S311
            # Processes that were told the same time to come back must not come back at the same time.
            self._open_until = now + (wish * random.uniform(1, 1.1) if wish else pause)  # noqa: S311
            self.opened_at = now
            self.wished = bool(wish)
            self._trips = min(self._trips + 1, 10)
            self._recent.clear()
            self.verified = False  # whatever comes back under this name after a failure may be another node

    def told(self, block: Block, *, now: float, took: float, wall: datetime) -> None:
        """It told its head."""
        self.sight = Sight(block, now, wall - block.time)
        weight = 1.0 if self.latency is None else LATENCY_WEIGHT
        self.latency = (self.latency or 0.0) * (1 - weight) + took * weight

    def health(self, trouble: str | None, *, now: float, wall: datetime) -> NodeHealth:
        until = self.free_at(now)
        return NodeHealth(
            label=self.endpoint.label,
            head_number=self.sight.block.number if self.sight else None,
            head_time=self.sight.block.time if self.sight else None,
            latency_ms=None if self.latency is None else self.latency * 1_000,
            calls=self.calls,
            failures=self.failures,
            failing_since=self._failing_since,
            last_error=self.last_error,
            open_until=wall + timedelta(seconds=until - now) if until is not None and until > now else None,
            trouble=trouble,
        )
