"""What a decider holds of one generation, and what its callers wait for."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from core.hot.keys import SEQUENCE, STREAM, key
from core.hot.script import Item, Reply, Script
from core.hot.store import Generation

Entry = tuple["Call", int]
"""One item of a call."""


class Life:
    """A decider's part of one generation."""

    def __init__(self, generation: Generation) -> None:
        self.number = generation.number
        self.over = False
        """Nothing more is asked."""
        self.closed = False
        """Nothing more is remembered or answered either."""
        self.remembered: list[deque[tuple[int, str]]] = [deque() for _ in range(generation.shards)]
        self.count = 0
        self._heads: dict[tuple[str, int], tuple[str, str]] = {}

    def forget(self, applied: Sequence[int]) -> None:
        """What the books have. Replies of two pipelines may come out of order: one too many is kept, never too few."""
        for events, seq in zip(self.remembered, applied, strict=False):
            while events and events[0][0] <= seq:
                events.popleft()
                self.count -= 1

    def request(self, script: Script, shard: int, entries: Sequence[Entry]) -> bytes:
        """EVALSHA for these items, in RESP. The same words as core.hot.hand.arguments, put together faster."""
        known = self._heads.get((script.name, shard))
        if known is None:
            own = (key(self.number, shard, SEQUENCE), key(self.number, shard, STREAM))
            fixed = "".join(f"${len(word)}\r\n{word}\r\n" for word in own)
            known = f"$7\r\nEVALSHA\r\n$40\r\n{script.sha(self.number)}\r\n", fixed
            self._heads[script.name, shard] = known
        keys = 2 + script.keys * len(entries)
        words = 3 + keys + script.args * len(entries)
        parts = [f"*{words}\r\n{known[0]}${len(str(keys))}\r\n{keys}\r\n{known[1]}"]
        prefix = key(self.number, shard, "")
        items = [call.items[place] for call, place in entries]
        texts = [prefix + name for item in items for name in item.keys]
        texts += [arg for item in items for arg in item.args]
        parts += [
            f"${len(text)}\r\n{text}\r\n" if text.isascii() else f"${len(text.encode())}\r\n{text}\r\n"
            for text in texts
        ]
        return "".join(parts).encode()


class Call:
    """What one caller waits for."""

    __slots__ = ("deadline", "future", "items", "left", "patient", "replies", "script")

    def __init__(
        self,
        script: Script,
        items: Sequence[Item],
        future: "asyncio.Future[list[Any]]",
        deadline: float,
        *,
        patient: bool,
    ) -> None:
        self.script, self.items, self.future, self.deadline, self.patient = script, items, future, deadline, patient
        self.replies: list[Reply | Exception | None] = [None] * len(items)
        self.left = len(items)

    def settle(self, place: int, reply: Reply | Exception) -> None:
        self.replies[place] = reply
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(self.replies)
