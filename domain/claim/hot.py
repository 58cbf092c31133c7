"""What is asked of Redis about packets, and what it answers. No money moves here: see sync.py.

Keys of a packet lie in the shard of its id. Its tenant is in the name, so that no other tenant's claim finds it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from core.errors import InvalidRequestError, InvariantError
from core.hot.keys import shard_of
from core.hot.script import Item, Script, lua
from core.hot.settings import hot as settings
from domain.claim.states import Reason

_FOLDER = Path(__file__).parent
CLAIM = Script("claim", lua(_FOLDER / "claim.lua"), keys=2, args=3)
LOAD = Script("claim-load", lua(_FOLDER / "load.lua"), keys=2, args=7)
CLOSE = Script("claim-close", lua(_FOLDER / "close.lua"), keys=2, args=2)
FORGET = Script("claim-forget", lua(_FOLDER / "forget.lua"), keys=2, args=1)
SCRIPTS = (CLAIM, LOAD, CLOSE, FORGET)

TICKET_MAX = timedelta(seconds=10)
"""How old a ticket may be: load.lua says the same."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a user or a group may be called: a segment of an account's code."""


class ClaimResult(StrEnum):
    WON = "won"
    ALREADY = "already_claimed"
    """With the place, units and time of the first answer."""
    EMPTY = "empty"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    NOT_ELIGIBLE = "not_eligible"
    UNKNOWN = "unknown"
    """No such packet, another tenant's, or one that is not open yet."""


_LETTERS = {
    "W": ClaimResult.WON,
    "A": ClaimResult.ALREADY,
    "E": ClaimResult.EMPTY,
    "X": ClaimResult.EXPIRED,
    "C": ClaimResult.CANCELLED,
    "N": ClaimResult.NOT_ELIGIBLE,
}
ENDED = {
    Reason.EMPTY: ClaimResult.EMPTY,
    Reason.EXPIRED: ClaimResult.EXPIRED,
    Reason.CANCELLED: ClaimResult.CANCELLED,
}


class Ask(NamedTuple):
    """One claim. `group`: in which the claimant is, as the app says."""

    tenant: str
    packet_id: UUID
    claimant: str
    group: str | None = None


class Answer(NamedTuple):
    """`place`, `units` and `at` are those of the share, if the result is won or already_claimed."""

    result: ClaimResult
    place: int | None = None
    units: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Miss:
    """Redis doesn't have the packet. Read it after this, and load it with the ticket."""

    ticket: str


def checked(ask: Ask) -> Ask:
    """Raises InvalidRequestError if a name can't be one."""
    if not NAME.fullmatch(ask.claimant):
        raise InvalidRequestError("user has 1 to 64 letters, digits, dots, dashes or underscores", field="user")
    if ask.group is not None and not NAME.fullmatch(ask.group):
        raise InvalidRequestError("group has 1 to 64 letters, digits, dots, dashes or underscores", field="group")
    return ask


def shard_of_packet(packet_id: UUID) -> int:
    return shard_of(f"packet:{packet_id}")


def keys_of_packet(tenant: str, packet_id: UUID) -> tuple[str, str]:
    """Of the packet and its shares, within the shard."""
    name = f"packet:{packet_id}:{tenant}"
    return name, f"{name}:shares"


def claim_item(ask: Ask) -> Item:
    """One claim for CLAIM. The ask must be `checked`."""
    shard, keys, packet = _place(ask.tenant, ask.packet_id, settings().shards)
    return Item(shard, keys, (packet, ask.claimant, ask.group or ""))


@lru_cache(maxsize=10_000)
def _place(tenant: str, packet_id: UUID, _shards: int) -> tuple[int, tuple[str, str], str]:
    """Thousands claim the same packet: where it is costs more to work out than the rest of a claim."""
    return shard_of_packet(packet_id), keys_of_packet(tenant, packet_id), str(packet_id)


def close_item(tenant: str, packet_id: UUID, why: Reason) -> Item:
    return Item(shard_of_packet(packet_id), keys_of_packet(tenant, packet_id), (str(packet_id), why))


def forget_item(tenant: str, packet_id: UUID) -> Item:
    # Longer than any ticket lives, whatever the setting says.
    linger = max(settings().linger, 3 * TICKET_MAX) // timedelta(seconds=1)
    return Item(shard_of_packet(packet_id), keys_of_packet(tenant, packet_id), (str(linger),))


def read(answer: str) -> Answer | Miss:
    """What CLAIM answered."""
    ticket = ticket_of(answer)
    if ticket is not None:
        return Miss(ticket)
    letter, _, rest = answer.partition(" ")
    result = _LETTERS.get(letter)
    if result is None:
        raise InvariantError(f"the hot store answered a claim with {answer[:200]!r}")
    if not rest:
        return Answer(result)
    place, units, ms = rest.split(" ")
    return Answer(result, int(place), int(units), time_of(int(ms)))


def ticket_of(answer: str) -> str | None:
    """Of an answer of CLAIM or CLOSE: what a packet is to be loaded with that Redis doesn't have."""
    return answer[2:] if answer.startswith("? ") else None


@lru_cache(maxsize=1_000)
def time_of(ms: int) -> datetime:
    return _EPOCH + ms * _MS


def ms_of(time: datetime) -> int:
    return (time - _EPOCH) // _MS


def joined(rows: Sequence[tuple[object, ...]]) -> str:
    """Rows as load.lua takes them."""
    return ",".join(" ".join(map(str, row)) for row in rows)
