"""A decider's connections: one to each server of the hot store, made again whenever it is lost."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import structlog

from core.hot.life import Entry
from core.hot.settings import HotSettings
from core.hot.wire import Address, Door, Wire, locate

log = structlog.stdlib.get_logger(__name__)

PAUSE_S = 0.1
"""Between two attempts to reach a server that is away. While it is, nobody else touches it."""


class Node:
    """One server, and what waits for it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.wire: Wire | None = None
        """None while it is away."""
        self.queue: deque[Entry] = deque()
        self.scheduled = False
        self.in_flight = 0
        """Pipelines that were sent and not answered."""

    @property
    def is_up(self) -> bool:
        """A connection may be lost a moment before its keeper hears of it."""
        return self.wire is not None and self.wire.is_up


class Links:
    """`up` is called when a server has come (back), `down` with the one that was lost."""

    def __init__(self, chosen: HotSettings, *, up: Callable[[], None], down: Callable[[Node], None]) -> None:
        self._door = Door(chosen.url)
        self._is_cluster = chosen.redis_cluster
        self._up, self._down = up, down
        self._nodes: dict[Address, Node] = {}
        self._by_shard: list[Node] = []
        self._keepers: dict[Address, asyncio.Task[None]] = {}
        self._shards = chosen.shards
        self._locating: asyncio.Task[None] | None = None

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def of(self, shard: int) -> Node | None:
        return self._by_shard[shard] if shard < len(self._by_shard) else None

    def start(self) -> None:
        if self._is_cluster:
            self._relocate()
        else:
            self._by_shard = [self._node(self._door.address)] * self._shards

    def expect(self, shards: int) -> None:
        """A generation has this many."""
        if shards != self._shards:
            self._shards = shards
            self.start()

    def lose(self, node: Node) -> None:
        """It says that it is not the one: another server of the cluster is, or another machine under this name."""
        if self._is_cluster:
            self._relocate()
        elif node.wire is not None:
            node.wire.abort()

    def drop_calls(self) -> None:
        """Whoever still waits for an answer gets none."""
        for node in self.nodes:
            if node.in_flight and node.wire is not None:
                node.wire.abort()

    async def stop(self) -> None:
        tasks = [*self._keepers.values(), *([self._locating] if self._locating else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        wires = [node.wire for node in self.nodes if node.wire is not None]
        for wire in wires:
            wire.abort()
        for wire in wires:
            await wire.lost
        await asyncio.sleep(0)  # whom a cancelled task has aborted is gone then, too

    def _node(self, address: Address) -> Node:
        if address not in self._nodes:
            self._nodes[address] = Node(address)
            self._keepers[address] = asyncio.get_running_loop().create_task(self._keep(self._nodes[address]))
        return self._nodes[address]

    async def _keep(self, node: Node) -> None:
        while True:
            try:
                node.wire = await self._door.enter(node.address)
            except OSError:
                await asyncio.sleep(PAUSE_S)
                if self._is_cluster:
                    self._relocate()
                continue
            log.info("decider.connected", server=f"{node.address.host}:{node.address.port}")
            self._up()
            await asyncio.shield(node.wire.lost)  # a cancelled keeper leaves it to `stop`
            node.wire = None
            log.warning("decider.connection_lost", server=f"{node.address.host}:{node.address.port}")
            self._down(node)

    def _relocate(self) -> None:
        if self._locating is None or self._locating.done():
            self._locating = asyncio.get_running_loop().create_task(self._locate())

    async def _locate(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                tags = [f"h{shard}" for shard in range(self._shards)]
                addresses = await locate(self._door, list(self._nodes), tags)
                self._by_shard = [self._node(address) for address in addresses]
                self._up()
                await asyncio.sleep(PAUSE_S)  # not more often than that
                return
            await asyncio.sleep(PAUSE_S)
