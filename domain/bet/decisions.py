"""What may be asked of the hot store about a player, and what it answers.

Each answer is a letter and its fields, parted by spaces:

    R free locked at    reserved; every replay gets the first answer
    S units free at     settled, units: the payout              V units free at     voided, units: the stake
    M units free at     moved: loaded or unloaded
    L free              too little is free                      T wait_ms           too many bets of this user
    C state             the bet is known, with other content or in another state
    O                   the id is too old or too new to be decided: the books say what it is
    U                   no such bet is open or has just ended: the books say what it is
    X free              the balance would need more than 38 digits
    A                   not idle
    ? token             the player is not here: put him here (domain.bet.loading), and ask again
    P                   put                 F, K   forgotten, kept             W ...  see `look`
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from core.errors import InvalidRequestError, InvariantError
from core.hot.script import Item, Reply, Script, lua
from core.money import UNITS_MAX
from domain.bet.players import BUCKET_MS, Player, checked_id, ms_of

_HERE = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
EDGE_MAX = 10_000
NOBODY = "-"
"""An agent's place in an event, where there is none."""
UNSEEN = "0:0"
"""A token that is older than anything."""


def _script(name: str, *, keys: int, args: int) -> Script:
    return Script(f"bet.{name}", lua(_HERE / "amounts.lua") + lua(_HERE / f"{name}.lua"), keys, args)


RESERVE = _script("reserve", keys=3, args=7)
END = _script("end", keys=2, args=5)
MOVE = _script("move", keys=1, args=6)
PUT = _script("put", keys=4, args=10)
LOOK = _script("look", keys=1, args=1)
FORGET = _script("forget", keys=1, args=1)
SCRIPTS = (RESERVE, END, MOVE, PUT, LOOK, FORGET)


class Verdict(StrEnum):
    RESERVED = "R"
    SETTLED = "S"
    VOIDED = "V"
    MOVED = "M"
    LOW = "L"
    TOO_MANY = "T"
    CONFLICT = "C"
    STALE = "O"
    UNKNOWN = "U"
    TOO_LARGE = "X"
    ACTIVE = "A"
    ABSENT = "?"
    PUT = "P"
    FORGOTTEN = "F"
    KEPT = "K"


V = Verdict
_NUMBERS: Mapping[Verdict, tuple[str, ...]] = {
    V.RESERVED: ("free", "locked", "at_ms"),
    V.SETTLED: ("units", "free", "at_ms"),
    V.VOIDED: ("units", "free", "at_ms"),
    V.MOVED: ("units", "free", "at_ms"),
    V.LOW: ("free",),
    V.TOO_MANY: ("wait_ms",),
    V.TOO_LARGE: ("free",),
}


class Answer(NamedTuple):
    """Units in the asset's smallest unit. What an answer doesn't have is None."""

    verdict: Verdict
    units: int | None = None
    free: int | None = None
    locked: int | None = None
    at_ms: int | None = None
    """When it was decided, by the hot store's clock."""
    wait_ms: int | None = None
    state: str | None = None
    """Of a conflict: reserved (with other content), settled or voided."""
    token: str | None = None
    """Of an absent player."""


def answer(reply: Reply) -> Answer:
    """Raises InvariantError for what none of our scripts says."""
    letter, *fields = reply.answer.split(" ")
    try:
        if letter == V.RESERVED:  # what is asked for most
            free, locked, at_ms = map(int, fields)
            return Answer(V.RESERVED, None, free, locked, at_ms)
        verdict = Verdict(letter)
        if verdict is V.CONFLICT:
            return Answer(verdict, state=fields[0])
        if verdict is V.ABSENT:
            return Answer(verdict, token=fields[0])
        numbers: dict[str, Any] = dict(zip(_NUMBERS.get(verdict, ()), map(int, fields), strict=True))
        return Answer(verdict, **numbers)
    except (ValueError, IndexError, TypeError):
        raise InvariantError(f"the hot store answered {reply.answer[:200]!r}") from None


class Facts(NamedTuple):
    """What a bet is about."""

    game: str
    edge_bps: int = 0
    agent: str | None = None

    @property
    def text(self) -> str:
        return f"{self.game} {self.edge_bps} {self.agent or NOBODY}"

    @property
    def digest(self) -> str:
        return _digest(self.text)


@lru_cache(maxsize=10_000)
def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Reserve(NamedTuple):
    """Bind the stake, if so much is free. `id` is a UUIDv7 of the caller's: once for ever in (player, id)."""

    player: Player
    id: UUID
    stake: int
    facts: Facts

    def check(self) -> None:
        """Raises InvalidRequestError for what no state of things could accept."""
        checked_id(self.id)
        _check_units(self.stake, "stake", least=1)
        _check_name(self.facts.game, "game")
        if self.facts.agent is not None:
            _check_name(self.facts.agent, "agent")
        if not 0 <= self.facts.edge_bps <= EDGE_MAX:
            raise InvalidRequestError(f"edge_bps is from 0 to {EDGE_MAX}", field="edge_bps")

    def item(self, *, per_second: int) -> Item:
        who, ms, facts = self.player, ms_of(self.id), self.facts.text
        return Item(
            who.shard,
            (who.key, who.ended_key(ms // BUCKET_MS), who.rate_key),
            (who.name, str(self.id), str(ms), str(self.stake), _digest(facts), facts, str(per_second)),
        )


class End(NamedTuple):
    """Settle a bet with its payout (0: it is lost), or, with none, void it."""

    player: Player
    id: UUID
    payout: int | None

    def check(self) -> None:
        """Raises InvalidRequestError for what no state of things could accept."""
        checked_id(self.id)
        if self.payout is not None:
            _check_units(self.payout, "payout", least=0)

    def item(self) -> Item:
        who, ms = self.player, ms_of(self.id)
        verb, units = ("V", "0") if self.payout is None else ("S", str(self.payout))
        keys = (who.key, who.ended_key(ms // BUCKET_MS))
        return Item(who.shard, keys, (who.name, str(self.id), str(ms), verb, units))


def load_item(who: Player, load_id: UUID, units: int, *, token: str) -> Item:
    return Item(who.shard, (who.key,), (who.name, str(load_id), "L", str(units), "0", token))


def unload_item(who: Player, unload_id: UUID, units: int | None, *, token: str, idle_ms: int = 0) -> Item:
    """`units` None: all that is free. `idle_ms`: only if nothing was decided for so long, and nothing is staked."""
    wanted = "all" if units is None else str(units)
    return Item(who.shard, (who.key,), (who.name, str(unload_id), "B", wanted, str(idle_ms), token))


def forget_item(who: Player, version: int) -> Item:
    return Item(who.shard, (who.key,), (str(version),))


def look_item(who: Player) -> Item:
    return Item(who.shard, (who.key,), ("",))


@dataclass(frozen=True, slots=True)
class Seen:
    """A player as the hot store has him at one moment."""

    free: int
    locked: int
    version: int
    at_ms: int
    """Of his last decision."""
    bets: Mapping[UUID, int]
    """The stakes of his open bets."""


def seen(reply: Reply) -> Seen | None:
    """The answer of `look_item`. None: he is not there."""
    letter, *fields = reply.answer.split(" ")
    if letter == V.ABSENT:
        return None
    free, locked, version, at_ms, bets = fields
    pairs = (pair.split("=") for pair in bets.split(",") if pair)
    return Seen(int(free), int(locked), int(version), int(at_ms), {UUID(bet): int(stake) for bet, stake in pairs})


def _check_units(units: int, field: str, *, least: int) -> None:
    if not isinstance(units, int) or isinstance(units, bool) or not least <= units <= UNITS_MAX:
        raise InvalidRequestError(f"{field} is an integer from {least} with at most 38 digits", field=field)


def _check_name(name: str, field: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(f"{name[:80]!r} is no {field}", field=field)
