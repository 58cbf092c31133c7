"""Not more requests than an endpoint takes, of all our processes together: counted in Redis.

The count protects our standing with a vendor and no money, so when Redis is away each process counts for itself.
"""

import hashlib
import threading
import time
from datetime import timedelta

import structlog
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chains.errors import LimitedError
from config import settings
from config.assets import Node
from core.errors import PermanentError

log = structlog.stdlib.get_logger(__name__)

PATIENCE_S = 1.0
"""So long a request waits for its turn."""
ANSWER_WITHIN_S = 0.1
LOOK_AGAIN_AFTER_S = 5.0


class Pace:
    """The rate of one endpoint. Safe to use from several threads."""

    def __init__(self, node: Node, rate: str, *, host: str) -> None:
        try:
            self._limit: RateLimitItem = parse(rate)
        except ValueError:
            raise PermanentError(f"the rate {rate!r} of {host} is not written like 25/second; check RPC_URLS") from None
        self._host = host
        # The URL may hold a key, so it is not written to Redis. Two endpoints with one URL share their rate.
        self._key = hashlib.sha256(node.url.encode()).hexdigest()[:32]
        # The moment at which the next request may go is exact in a moving window.
        self._alone = MovingWindowRateLimiter(MemoryStorage())
        self._shared: MovingWindowRateLimiter | None = None
        self._alone_until = 0.0
        self._free_at = 0.0
        self._threads = threading.local()

    @property
    def wait(self) -> float:
        """Seconds that a request would have to wait for its turn, for all that this process knows."""
        return max(0.0, self._free_at - time.monotonic())

    def take_ahead(self, *, patience: float) -> None:
        """Count the calling thread's next request now. Raises LimitedError if it would have to wait longer."""
        self._take(patience)
        self._threads.ahead = True

    def give_up(self) -> None:
        """Forget that the thread's next request has been counted."""
        self._threads.ahead = False

    def admit(self) -> None:
        """Before each request. Waits its turn for PATIENCE_S at most; raises LimitedError, which says how long."""
        if getattr(self._threads, "ahead", False):
            self._threads.ahead = False
        else:
            self._take(PATIENCE_S)

    def _take(self, patience: float) -> None:
        ends = time.monotonic() + patience
        while (wait := self._hit()) > 0:
            self._free_at = time.monotonic() + wait
            if self._free_at > ends:
                raise LimitedError(
                    f"{self._host} takes no more than {self._limit} of us", retry_after=timedelta(seconds=wait)
                )
            time.sleep(wait)

    def _hit(self) -> float:
        """Seconds until a request may go; 0: it may now, and has been counted."""
        if time.monotonic() >= self._alone_until:
            try:
                return self._counted(self._redis())
            except (RedisError, OSError) as error:
                self._alone_until = time.monotonic() + LOOK_AGAIN_AFTER_S
                log.warning("the rate of a chain endpoint is counted by each process for itself", error=str(error))
        return self._counted(self._alone)

    def _counted(self, limiter: MovingWindowRateLimiter) -> float:
        if limiter.hit(self._limit, self._key):
            return 0.0
        return max(0.01, limiter.get_window_stats(self._limit, self._key).reset_time - time.time())

    def _redis(self) -> MovingWindowRateLimiter:
        if self._shared is None:
            self._shared = MovingWindowRateLimiter(
                RedisStorage(
                    str(settings.servers().redis_url),
                    key_prefix="tallyrail:nodes",
                    socket_timeout=ANSWER_WITHIN_S,
                    socket_connect_timeout=ANSWER_WITHIN_S,
                    retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # handed on to redis as it is
                )
            )
        return self._shared
