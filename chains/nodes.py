"""The endpoints of one chain: which is asked, and what becomes of one that fails. docs/chains-nodes.md."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from chains.base import Head, NodeHealth
from chains.endpoint import Endpoint
from chains.errors import DisagreementError, MalformedError
from chains.pace import PATIENCE_S
from chains.standing import Standing
from config.assets import Chain
from core import clock
from core.errors import PermanentError, TransientError

log = structlog.stdlib.get_logger(__name__)

LOOK_EVERY_S = 30.0
"""So often every endpoint is asked for its head: one that is never asked is never known to lag, or to be the faster."""
FASTER, SLOWER = 1.25, 1.5
"""The first one by configuration is asked as long as it takes no longer than so many times the fastest: to come first
(FASTER), and to stay first (SLOWER)."""
SLACK_S = 0.005
"""What makes no difference anyway."""
THIRD = 3

E = TypeVar("E", bound=Endpoint)
T = TypeVar("T")


class Nodes(Generic[E]):
    """Endpoints behind the reader of one chain, each with a circuit breaker. Safe to use from several threads.

    `verify` raises WrongChainError if an endpoint is a node of another chain; it is asked before anything else is
    believed, once for each endpoint.
    """

    def __init__(
        self,
        chain: Chain,
        endpoints: Sequence[E],
        *,
        verify: Callable[[E], None],
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        if not endpoints:
            raise PermanentError(f"no RPC_URLS for {chain.id} ({chain.name})")
        self._chain = chain
        self._verify = verify
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._standings = [Standing(endpoint, place) for place, endpoint in enumerate(endpoints)]
        self._favourite = self._standings[0]
        hosts = Counter(endpoint.host for endpoint in endpoints)
        seen: Counter[str] = Counter()
        for endpoint in endpoints:
            seen[endpoint.host] += 1
            if hosts[endpoint.host] > 1:
                endpoint.label = f"{endpoint.host}#{seen[endpoint.host]}"

    def first(self, read: Callable[[E], T]) -> T:
        """The best endpoint's answer, or the next one's if it has none. Raises the last one's TransientError."""
        return self._first(lambda standing, patience: self._asked(standing, read, patience))

    def head(self, read: Callable[[E], Head]) -> Head:
        """As `first`, and the pool remembers how far the endpoint is. Now and then another one is asked as well."""
        head = self._first(lambda standing, patience: self._looked(standing, read, patience))
        if (other := self._to_look_at()) is not None:
            try:
                self._looked(other, read, 0.0)
            except TransientError as error:
                log.warning("a chain endpoint that was looked at failed", chain=self._chain.id, error=str(error))
        return head

    def agreed(
        self,
        read: Callable[[E], T],
        *,
        same: Callable[[T, T], bool] | None = None,
        behind: Callable[[T, T], bool] | None = None,
        both: Callable[[T, T], T] | None = None,
    ) -> T:
        """What two endpoints of different hosts answer alike (`same`: by default, equal; `both`: the one that is
        returned for the two, by default the first's).

        `behind` says whether the first of two answers comes from a node that has not come as far as the second one's:
        then it is none, and the next endpoint is asked. Raises DisagreementError if two tell different things,
        TransientError if there are no two that answer.
        """
        witness: tuple[Standing[E], T] | None = None
        failure: TransientError | None = None
        for standing, _ in self._order():
            if witness is not None and witness[0].endpoint.host == standing.endpoint.host:
                continue
            try:
                answer = self._asked(standing, read, PATIENCE_S)
            except DisagreementError:
                raise
            except TransientError as error:
                failure = error
                continue
            if witness is None:
                witness = standing, answer
            elif behind is not None and behind(answer, witness[1]):
                failure = TransientError(f"{standing.endpoint.label} is behind {witness[0].endpoint.label}")
            elif behind is not None and behind(witness[1], answer):
                failure = TransientError(f"{witness[0].endpoint.label} is behind {standing.endpoint.label}")
                witness = standing, answer
            else:
                self._compare(witness, (standing, answer), same)
                return both(witness[1], answer) if both else witness[1]
        raise failure or TransientError(f"{self._chain.id} has no second endpoint of another host that could agree")

    def each(self, ask: Callable[[E], T]) -> list[T]:
        """What every endpoint answers that may be asked now, the best first: for what all of them should be told.

        One that fails costs the others nothing. Raises as `first` if none answers.
        """
        answers: list[T] = []
        failures: list[TransientError] = []
        order = self._order()
        for standing, patience in order:
            try:
                answers.append(self._asked(standing, ask, patience))
            except TransientError as error:
                failures.append(error)
                log.warning("chain endpoint failed, the others are told", chain=self._chain.id, error=str(error))
        if not answers:
            raise self._to_raise(failures, [standing for standing, _ in order])
        return answers

    def proven(self, shows: Callable[[E], bool | None]) -> bool:
        """Whether two endpoints of different hosts show it; where all have the same host, one.

        `shows`: False if this endpoint shows that it is not so, which ends it; None if it can't tell, or not yet.
        Raises the last one's TransientError if none answers.
        """
        needed = min(2, len({standing.endpoint.host for standing in self._standings}))
        witnesses: list[Standing[E]] = []
        failures: list[TransientError] = []
        order = self._order()
        for standing, _ in order:
            if any(standing.endpoint.host == witness.endpoint.host for witness in witnesses):
                continue
            try:
                shown = self._asked(standing, shows, PATIENCE_S)
            except TransientError as error:
                failures.append(error)
                continue
            if shown is False:
                if witnesses:
                    # Perhaps one of them lags. Whatever it is, somebody should know.
                    labels = f"{witnesses[0].endpoint.label} and {standing.endpoint.label}"
                    log.error("one chain endpoint shows what another refutes", chain=self._chain.id, endpoints=labels)
                return False
            if shown:
                witnesses.append(standing)
            if len(witnesses) == needed:
                return True
        if len(failures) == len(order):
            raise self._to_raise(failures, [standing for standing, _ in order])
        return False

    def health(self) -> list[NodeHealth]:
        """How each endpoint has done so far, in the order of the configuration. Asks none."""
        with self._lock:
            now, wall = self._monotonic(), self._now()
            return [standing.health(self._trouble(standing), now=now, wall=wall) for standing in self._standings]

    def _first(self, ask: Callable[[Standing[E], float], T]) -> T:
        failures: list[TransientError] = []
        order = self._order()
        for standing, patience in order:
            try:
                return ask(standing, patience)
            except TransientError as error:
                failures.append(error)
                if standing is not order[-1][0]:
                    log.warning("chain endpoint failed, asking the next", chain=self._chain.id, error=str(error))
        raise self._to_raise(failures, [standing for standing, _ in order])

    def _to_raise(self, failures: Sequence[TransientError], order: Sequence[Standing[E]]) -> TransientError:
        """The last failure, which asks for a pause only if no endpoint may be asked before its end."""
        if plain := [failure for failure in failures if failure.retry_after is None]:
            return plain[-1]
        with self._lock:
            now = self._monotonic()
            pauses = [(s.free_at(now) or now) - now for s in self._standings if s not in order]
        last = failures[-1]
        last.retry_after = min(
            *(failure.retry_after for failure in failures if failure.retry_after is not None),
            *(timedelta(seconds=pause) for pause in pauses),
            timedelta.max,
        )
        return last

    def _asked(self, standing: Standing[E], read: Callable[[E], T], patience: float) -> T:
        endpoint = standing.endpoint
        with self._lock:
            if not standing.begin():
                raise TransientError(f"{endpoint.label} is being tried")
        failure: BaseException | None = None
        try:
            if endpoint.pace is not None:
                endpoint.pace.take_ahead(patience=patience)
            if not standing.verified:
                self._verify(endpoint)
                standing.verified, standing.wrong_until = True, None
            return read(endpoint)
        except MalformedError as error:
            # It quotes the node, which may repeat a key. So nothing of the original is shown, not even as a cause.
            failure = TransientError(f"{endpoint.label} answered with nonsense: {endpoint.struck_cut(str(error))}")
            raise failure from None
        except BaseException as error:
            failure = error
            raise
        finally:
            if endpoint.pace is not None:
                endpoint.pace.give_up()
            with self._lock:
                standing.end(failure, now=self._monotonic(), wall=self._now())

    def _looked(self, standing: Standing[E], read: Callable[[E], Head], patience: float) -> Head:
        """Its head, read and remembered."""
        with self._lock:
            standing.looked_at = self._monotonic()
        began = 0.0

        def timed(endpoint: E) -> Head:
            nonlocal began
            began = self._monotonic()  # not counting what came before: verifying, waiting for one's turn
            return read(endpoint)

        head = self._asked(standing, timed, patience)
        with self._lock:
            now = self._monotonic()
            standing.told(head.latest, now=now, took=now - began, wall=self._now())
        return head

    def _to_look_at(self) -> Standing[E] | None:
        """The endpoint that was longest not asked for its head, if that is long ago or if it is due for a trial."""
        with self._lock:
            now = self._monotonic()
            due = [
                standing
                for standing in self._standings
                if standing.free_at(now) is None
                and (not standing.closed or standing.looked_at is None or now - standing.looked_at >= LOOK_EVERY_S)
                and not _wait(standing)
            ]
        return min(due, key=lambda standing: standing.looked_at or float("-inf"), default=None)

    def _order(self) -> list[tuple[Standing[E], float]]:
        """Whom to ask, in which order, and how many seconds each may wait for its turn.

        Raises TransientError if all are to be left alone, and says for how long.
        """
        with self._lock:
            now = self._monotonic()
            free = [standing for standing in self._standings if standing.free_at(now) is None]
            if not free:
                return [(self._last_resort(now), PATIENCE_S)]
            sound = self._by_speed([s for s in free if s.closed and self._trouble(s) is None])
            odd = self._by_speed([s for s in free if s.closed and self._trouble(s) is not None])
            trials = [standing for standing in free if not standing.closed]
            if sound:
                self._favourite = sound[0]
        # A turn that comes soon is waited for rather than given to an endpoint in trouble: what one that lags or lies
        # tells costs more than a second. Nobody waits for one that has used up its rate for longer: it comes last, and
        # is not asked even then unless its turn has come.
        ranked = []
        for group, standings in enumerate((sound, odd, trials)):
            for standing in standings:
                wait = _wait(standing)
                ranked.append(((wait > PATIENCE_S, group, wait > 0), standing))
        ranked.sort(key=lambda each: each[0])
        ranks = [rank for rank, _ in ranked]
        # To wait is for when no other of its kind, further down, may be asked at once.
        return [
            (standing, 0.0 if not rank[2] and rank in ranks[place + 1 :] else PATIENCE_S)
            for place, (rank, standing) in enumerate(ranked)
        ]

    def _last_resort(self, now: float) -> Standing[E]:
        """With every breaker open, the one that opened first: it has had the longest time to recover."""
        candidates = [s for s in self._standings if s.wrong_until is None and not s.wished]
        if candidates:
            return min(candidates, key=lambda standing: standing.opened_at)
        soonest = min(self._standings, key=lambda standing: standing.free_at(now) or now)
        raise TransientError(
            soonest.last_error or f"{soonest.endpoint.label} is being tried",
            retry_after=timedelta(seconds=max(1.0, (soonest.free_at(now) or now) - now)),
        )

    def _by_speed(self, standings: Sequence[Standing[E]]) -> list[Standing[E]]:
        """The faster first; among those about as fast, in the order of the configuration. Unknown speeds come last."""
        left, made = list(standings), []
        while left:
            fastest = min((s.latency for s in left if s.latency is not None), default=None)
            chosen = next((s for s in left if fastest is None or self._about_as_fast(s, fastest)), left[0])
            left.remove(chosen)
            made.append(chosen)
        return made

    def _about_as_fast(self, standing: Standing[E], fastest: float) -> bool:
        # One threshold alone would make the order swing to and fro around it.
        times = SLOWER if standing is self._favourite else FASTER
        return standing.latency is not None and standing.latency <= fastest * times + SLACK_S

    def _trouble(self, standing: Standing[E]) -> str | None:
        """What is wrong with an endpoint although it answers."""
        if standing.wrong_until is not None:
            return "wrong_chain"
        if standing.disagrees:
            return "disagrees"
        sight = standing.sight
        if sight is None:
            return None
        if self._chain.head_age_max is not None and sight.age > self._chain.head_age_max:
            return "stalled"
        heads = sorted((s.sight for s in self._standings if s.sight), key=lambda one: one.block.number, reverse=True)
        # Of three or more, one that boasts of blocks that no other has makes nobody lag.
        best = heads[1] if len(heads) >= THIRD else heads[0]
        # An older sight may be behind by what the chain has grown since.
        grown = max(0, int((best.at - sight.at) * 1_000)) // self._chain.block_time_ms
        return "lags" if best.block.number - grown - sight.block.number > self._chain.lag_max else None

    def _compare(
        self, one: tuple[Standing[E], T], other: tuple[Standing[E], T], same: Callable[[T, T], bool] | None
    ) -> None:
        """Raises DisagreementError if the two are not alike."""
        try:
            alike = same(one[1], other[1]) if same else one[1] == other[1]
            reason = ""
        except DisagreementError as error:
            alike, reason = False, f": {error}"
        with self._lock:
            one[0].disagrees = other[0].disagrees = not alike
        if alike:
            return
        labels = f"{one[0].endpoint.label} and {other[0].endpoint.label}"
        log.error("chain endpoints disagree", chain=self._chain.id, endpoints=labels)
        raise DisagreementError(f"{labels} disagree about {self._chain.id}{reason}")


def _wait(standing: Standing[E]) -> float:
    """Seconds until it takes a request more, as far as this process knows."""
    pace = standing.endpoint.pace
    return 0.0 if pace is None else pace.wait
