"""Events: what decisions changed, in the order in which they were decided."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.orm import Session

from core.errors import InvariantError

PARKED = "claim_sync.apply_parked"
"""The task that tries again to apply an event that was refused. Its arguments name the event and have its text."""
UNREADABLE = "unreadable.entry"
_TEXT = re.compile(r"[!-~]*\.[!-~]*(?: [!-~]+)*")
"""Fields parted by single spaces. The first one is the kind, which has a dot."""


class Event(NamedTuple):
    """`kind` is `<slice>.<what>`: `claim.won`. (generation, shard, seq) names it for ever."""

    generation: int
    shard: int
    seq: int
    kind: str
    fields: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join((self.kind, *self.fields))


def parse(generation: int, shard: int, seq: int, text: str) -> Event:
    """Raises InvariantError if it is no event: our scripts write nothing else."""
    if not _TEXT.fullmatch(text):
        raise InvariantError(f"shard {shard} of generation {generation} has no event at {seq}: {text[:200]!r}")
    kind, *fields = text.split(" ")
    return Event(generation, shard, seq, kind, tuple(fields))


def read(generation: int, shard: int, seq: int, text: str) -> Event:
    """Like `parse`, but what is no event becomes one that no slice applies: it is parked, and the shard goes on."""
    try:
        return parse(generation, shard, seq, text)
    except InvariantError:
        return Event(generation, shard, seq, UNREADABLE, (text.encode().hex() or "-",))


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that can't be applied as things are, such as a payment into a closed account. A person decides."""

    event: Event
    why: str


Applier = Callable[[Session, Sequence[Event]], Sequence[Refused]]
"""Writes what the events of one slice say, in order, in the caller's transaction. Of what it refuses it moves no money,
but may record that it was decided. Idempotent: an event that was applied before changes nothing."""
Appliers = Mapping[str, Applier]
"""By the first part of the kind."""
