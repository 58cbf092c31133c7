"""A hot store for tests of slices: one generation, decided by hand, drained into the books when the test says so."""

from collections.abc import Sequence
from typing import Any

from redis import Redis

from core.db import transaction
from core.hot import hand
from core.hot.events import Appliers, Event, Refused, parse
from core.hot.hand import Hand
from core.hot.keys import STREAM, key
from core.hot.script import Script


class Table:
    """What the sync process does, step by step."""

    def __init__(self, store: Redis, scripts: Sequence[Script], appliers: Appliers, *, shards: int) -> None:
        self.store = store
        self.scripts = scripts
        self.appliers = appliers
        self.shards = shards
        self.generation = 1
        self.refused: list[Refused] = []
        self._applied: dict[int, int] = {}
        self.turn()

    @property
    def hand(self) -> Hand:
        return Hand(self.store, self.generation)

    def turn(self) -> None:
        """Forget all that Redis knew of the last generation: the next one begins from what is in PostgreSQL."""
        self.generation += 1
        self._applied = dict.fromkeys(range(self.shards), 0)
        hand.prepare(self.store, self.generation, self.shards, self.scripts)

    def waiting(self) -> list[Event]:
        """What was decided and is not in the books."""
        found: list[Event] = []
        for shard, applied in self._applied.items():
            stream: Any = self.store.xrange(key(self.generation, shard, STREAM), min=f"{applied + 1}-0")
            for place, (entry_id, fields) in enumerate(stream):
                seq = int(entry_id.partition("-")[0])
                assert seq == applied + 1 + place
                found.append(parse(self.generation, shard, seq, fields["e"]))
        return found

    def drain(self, *, again: bool = False) -> int:
        """Apply all of it, in one transaction. `again`: and once more, which must change nothing."""
        events = self.waiting()
        for _ in range(1 + again):
            with transaction() as session:
                for slice_name, applier in self.appliers.items():
                    mine = [event for event in events if event.kind.startswith(f"{slice_name}.")]
                    if mine:
                        self.refused += applier(session, mine)
        for event in events:
            self._applied[event.shard] = max(self._applied[event.shard], event.seq)
        return len(events)
