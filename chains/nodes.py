"""The endpoints of one chain: which is asked, and what becomes of one that fails. docs/chains-nodes.md."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from chains.base import Head, NodeHealth
from chains.endpoint import Endpoint
from chains.errors import DisagreementError, MalformedError
from config.assets import Chain
from core.errors import PermanentError, TransientError

log = structlog.stdlib.get_logger(__name__)

E = TypeVar("E", bound=Endpoint)
T = TypeVar("T")


class Nodes(Generic[E]):
    """Endpoints in the order of their configuration, behind the reader of one chain.

    `verify` raises TransientError if an endpoint is a node of another chain; it is asked before anything else is
    believed, once for each endpoint.
    """

    def __init__(self, chain: Chain, endpoints: Sequence[E], *, verify: Callable[[E], None]) -> None:
        if not endpoints:
            raise PermanentError(f"no RPC_URLS for {chain.id} ({chain.name})")
        self._chain = chain
        self._endpoints = list(endpoints)
        self._verify = verify
        self._verified: set[E] = set()
        hosts = Counter(endpoint.host for endpoint in endpoints)
        seen: Counter[str] = Counter()
        for endpoint in endpoints:
            seen[endpoint.host] += 1
            if hosts[endpoint.host] > 1:
                endpoint.label = f"{endpoint.host}#{seen[endpoint.host]}"

    def first(self, read: Callable[[E], T]) -> T:
        """The first endpoint's answer, or the next one's if it has none. Raises the last one's TransientError."""
        for left, endpoint in zip(range(len(self._endpoints) - 1, -1, -1), self._endpoints, strict=True):
            try:
                return self._asked(endpoint, read)
            except TransientError as error:
                if not left:
                    raise
                log.warning("chain endpoint failed, asking the next", chain=self._chain.id, error=str(error))
        raise AssertionError("there is at least one endpoint")

    def agreed(self, read: Callable[[E], T], *, same: Callable[[T, T], bool] | None = None) -> T:
        """What two endpoints of different hosts answer alike (`same`: by default, equal).

        Raises DisagreementError if they don't, TransientError if no two answer.
        """
        answers: dict[str, T] = {}
        failure: TransientError | None = None
        for endpoint in self._endpoints:
            if endpoint.host in answers:
                continue
            try:
                answers[endpoint.host] = self._asked(endpoint, read)
            except TransientError as error:
                failure = error
                continue
            if len(answers) == 2:  # noqa: PLR2004  # two witnesses
                (one, first), (other, second) = answers.items()
                if same(first, second) if same else first == second:
                    return first
                raise DisagreementError(f"{one} and {other} disagree about {self._chain.id}")
        raise failure or TransientError(f"{self._chain.id} has no second endpoint of another host that could agree")

    def head(self, read: Callable[[E], Head]) -> Head:
        """As `first`, and the pool remembers how far the endpoint is."""
        return self.first(read)

    def health(self) -> list[NodeHealth]:
        return [
            NodeHealth(endpoint.label, None, None, None, 0, 0, None, None, None, None) for endpoint in self._endpoints
        ]

    def _asked(self, endpoint: E, read: Callable[[E], T]) -> T:
        try:
            if endpoint not in self._verified:
                self._verify(endpoint)
                self._verified.add(endpoint)
            return read(endpoint)
        except MalformedError as error:
            raise TransientError(f"{endpoint.label} answered with nonsense: {error}") from error
