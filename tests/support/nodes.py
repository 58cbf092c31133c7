"""A pool of nodes on a clock of its own, whose endpoints do as they are told."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from chains.base import Block, Head, NodeHealth
from chains.endpoint import Endpoint
from chains.errors import WrongChainError
from chains.nodes import Nodes
from config.assets import Chain, Node
from core.errors import TransientError

EPOCH = datetime(2026, 11, 21, tzinfo=UTC)


def chain(**fields: Any) -> Chain:
    given = {"id": "eip155:1", "name": "Test", "namespace": "eip155", "confirmations": 2, "reorg_depth": 9}
    return Chain.model_validate(given | {"block_time_ms": 10_000, "lag_blocks_max": 5} | fields)


@dataclass
class World:
    """Endpoints that do as they are told, and a clock that moves when it is pushed."""

    names: tuple[str, ...] = ("a", "b", "c")
    fields: dict[str, Any] = field(default_factory=dict)
    time: float = 1_000.0
    asked: list[str] = field(default_factory=list)
    """In order, also those that failed."""
    verified: list[str] = field(default_factory=list)
    failing: dict[str, Exception] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    takes: dict[str, float] = field(default_factory=dict)
    """Seconds to tell the head."""
    height: dict[str, int] = field(default_factory=dict)
    """Where it differs from what it should be: the blocks that come as time goes."""

    def __post_init__(self) -> None:
        self.endpoints = [Endpoint(Node(url=f"http://{name}/SECRETKEY123")) for name in self.names]
        self.nodes = Nodes(
            chain(**self.fields),
            self.endpoints,
            verify=self._verify,
            monotonic=lambda: self.time,
            now=self.now,
        )

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.time)

    def _verify(self, endpoint: Endpoint) -> None:
        self.verified.append(endpoint.host)
        if endpoint.host in self.wrong:
            raise WrongChainError(f"{endpoint.host} is a node of eip155:5")

    def _ask(self, endpoint: Endpoint) -> str:
        self.asked.append(endpoint.host)
        if endpoint.host in self.failing:
            raise self.failing[endpoint.host]
        return endpoint.host

    def _head(self, endpoint: Endpoint) -> Head:
        self._ask(endpoint)
        self.time += self.takes.get(endpoint.host, 0.02)
        number = self.height.get(endpoint.host, int(self.time // 10))
        return Head(Block(number, f"0x{number}", f"0x{number - 1}", EPOCH + timedelta(seconds=10 * number)), None)

    def first(self) -> str:
        return self.nodes.first(self._ask)

    def each(self) -> list[str]:
        return self.nodes.each(self._ask)

    def head(self) -> int:
        return self.nodes.head(self._head).latest.number

    def look(self) -> None:
        """Until every endpoint that may be asked has told its head."""
        for _ in self.names:
            self.head()

    def fail(self, *names: str, error: Exception | None = None) -> None:
        for name in names:
            self.failing[name] = error or TransientError(f"{name} can't be reached")

    def mend(self) -> None:
        self.failing.clear()

    def health(self, name: str) -> NodeHealth:
        return next(health for health in self.nodes.health() if health.label == name)

    def trouble(self) -> dict[str, str | None]:
        return {health.label: health.trouble for health in self.nodes.health()}
