"""Writing into the books what the hot store decided about players: batches of events, in a few statements.

An event is applied once, whatever is replayed: a bet's row, a load's and an unload's say whether it was, and change
in the transaction of its journal, whose reference is permanent besides.

The books follow what was decided and acknowledged. Each event says the player's version and what he had after it. If a
version is missing, a decision was lost that nobody was answered; if his balances differ from the books', something
before it was lost or refused. Either is a break (`bet.player`), noted and never mended here. What an account's floor
refuses is handed back, and what rests on it too: the end of a bet whose reservation was refused books nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core import breaks
from core.breaks import Difference
from core.errors import InvalidRequestError, InvariantError
from core.hot.events import Event, Refused
from domain.bet import postings, queries
from domain.bet.decisions import NOBODY, SCRIPTS, Facts
from domain.bet.models import HotLoad, HotUnload
from domain.bet.players import Player, player
from domain.bet.states import BET, LOAD, UNLOAD, BetState, LoadState, UnloadState
from ledger import batches, holds
from ledger.posting import Journal

__all__ = ["BREAK", "SCRIPTS", "apply"]

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
Key = tuple[str, str]
"""A bet: (player, id)."""
BREAK = "bet.player"
"""The kind of a break: what the hot store says of a player is not what the books say, at the same version."""


@dataclass(slots=True)
class Decided:
    """An event, read. `units`: the stake of a reservation and a void, the payout, what was moved.

    Ids stay as they are written: a batch has thousands, and only compares them. Never changed; not frozen, as that
    takes three times as long to make.
    """

    event: Event
    what: str
    player: str
    id: str
    version: int
    free: int
    locked: int
    at_ms: int
    units: int
    facts: Facts | None = None


@dataclass(slots=True)
class BetRow:
    """A bet as the books have it, or will have it when the batch is committed."""

    facts: Facts
    stake: int
    state: BetState = BetState.RESERVED
    payout: int | None = None
    reserved: Decided | None = None
    """By this batch."""
    ended: Decided | None = None
    """By this batch."""


@dataclass(slots=True)
class Books:
    """What is there already of what a batch is about; all of it locked."""

    players: Mapping[str, Player]
    before: Mapping[str, Any]
    bets: Mapping[Key, BetRow]
    loads: Mapping[str, HotLoad]
    unloads: Mapping[str, HotUnload]


@dataclass(slots=True)
class Plan:
    """What to do, by the place of the event in the batch."""

    captures: dict[int, HotLoad] = field(default_factory=dict)
    journals: dict[int, Journal] = field(default_factory=dict)
    bets: dict[Key, BetRow] = field(default_factory=dict)
    """Those that change."""
    unloads: dict[int, HotUnload] = field(default_factory=dict)
    moves: dict[int, tuple[int, int]] = field(default_factory=dict)
    """What an event adds to the player's free and locked."""
    refused: dict[int, str] = field(default_factory=dict)


def apply(session: Session, events: Sequence[Event]) -> list[Refused]:
    """Write what these events say, in order, in the caller's transaction. See core.hot.events.Applier.

    Raises InvariantError for an event that none of our scripts writes.
    """
    decided = [_read(event) for event in events]
    if not decided:
        return []
    books = _books(session, decided)
    plan = _post(session, decided, books)
    _write_bets(session, plan)
    _write_moves(session, decided, books, plan)
    _write_players(session, decided, books, plan)
    return [Refused(decided[place].event, why) for place, why in sorted(plan.refused.items())]


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(event: Event) -> Decided:
    what = event.kind.partition(".")[2]
    facts = None
    try:
        who, name, version, free, locked, at_ms, units, *more = event.fields
        if what == "reserved":
            facts = _facts(*more)
        elif more:
            what = ""
        numbers = (int(version), int(free), int(locked), int(at_ms), int(units))
        made = Decided(event, what, who, name, *numbers, facts)
    except (ValueError, TypeError) as error:
        raise InvariantError(f"{event.text[:300]!r} is no event of a bet") from error
    if what not in _JUDGES or not _ID.fullmatch(who) or not _ID.fullmatch(name):
        raise InvariantError(f"{event.text[:300]!r} is no event of a bet")
    return made


@lru_cache(maxsize=1_000)
def _facts(game: str, edge: str, agent: str) -> Facts:
    return Facts(game, int(edge), None if agent == NOBODY else agent)


def _books(session: Session, decided: Sequence[Decided]) -> Books:
    found = queries.lock_players(session, {one.player for one in decided})
    keys = {(one.player, one.id): None for one in decided if one.what in ("reserved", "settled", "voided")}
    bets = {
        (row.player, row.id): BetRow(
            _facts(row.game, str(row.edge_bps), row.agent or NOBODY),
            int(row.stake),
            BetState(row.state),
            None if row.payout is None else int(row.payout),
        )
        for row in queries.bets_of(session, keys)
    }
    loads = queries.lock_loads(session, [UUID(one.id) for one in decided if one.what == "loaded"])
    unloads = queries.lock_unloads(session, [UUID(one.id) for one in decided if one.what == "unloaded"])
    return Books(
        {row.id: player(row.tenant, row.user_id, row.asset) for row in found},
        {row.id: row for row in found},
        bets,
        {str(load_id): load for load_id, load in loads.items()},
        {str(unload_id): unload for unload_id, unload in unloads.items()},
    )


# --- judging ----------------------------------------------------------------------------------------------------------


class _RefusalError(Exception):
    """An event can't be applied. Caught where it is judged."""


def _judge(decided: Sequence[Decided], books: Books, refused: Mapping[int, str]) -> Plan:
    """What to do, given that the books refuse some. Pure: it changes nothing but the plan that it makes."""
    plan = Plan(refused=dict(refused))
    for place, one in enumerate(decided):
        if place in plan.refused:
            continue
        who = books.players.get(one.player)
        if who is None:
            plan.refused[place] = "nobody knows this player"
            continue
        try:
            _JUDGES[one.what](place, one, who, books, plan)
        except _RefusalError as refusal:
            plan.refused[place] = str(refusal)
    return plan


def _reserved(place: int, one: Decided, who: Player, books: Books, plan: Plan) -> None:
    key = (one.player, one.id)
    known = plan.bets.get(key) or books.bets.get(key)
    if known is not None:
        if (known.stake, known.facts) != (one.units, one.facts):
            raise _RefusalError("there is a bet of this id with other content")
        return  # applied before
    if one.facts is None:
        raise InvariantError(f"{one.event.text[:300]!r} says nothing of its bet")
    plan.bets[key] = BetRow(one.facts, one.units, reserved=one)
    plan.journals[place] = postings.reserved(who, one.id, one.units)
    plan.moves[place] = (-one.units, one.units)


def _ended(place: int, one: Decided, who: Player, books: Books, plan: Plan) -> None:
    key = (one.player, one.id)
    known = plan.bets.get(key) or books.bets.get(key)
    if known is None:
        raise _RefusalError("the books have no such bet: its reservation is missing, or was refused")
    after, payout = (BetState.SETTLED, one.units) if one.what == "settled" else (BetState.VOIDED, None)
    if known.state is not BetState.RESERVED:
        if (known.state, known.payout) != (after, payout):
            raise _RefusalError(f"the bet is {known.state} already, with a payout of {known.payout}")
        return  # applied before
    state = BET.then(known.state, "settle" if after is BetState.SETTLED else "void")
    plan.bets[key] = BetRow(known.facts, known.stake, state, payout, known.reserved, one)
    if payout is None:
        plan.journals[place] = postings.voided(who, one.id, known.stake)
    else:
        plan.journals[place] = postings.settled(who, one.id, known.stake, payout)
    plan.moves[place] = (known.stake if payout is None else payout, -known.stake)


def _loaded(place: int, one: Decided, who: Player, books: Books, plan: Plan) -> None:  # noqa: ARG001  # one shape
    load = books.loads.get(one.id)
    if load is None or (str(load.player), load.units) != (one.player, one.units):
        raise _RefusalError("the books have no such load of this player")
    if load.state == LoadState.LOADED or load in plan.captures.values():
        return  # applied before
    if load.state == LoadState.VOIDED:
        raise _RefusalError("the load was voided")
    plan.captures[place] = load
    plan.moves[place] = (one.units, 0)


def _unloaded(place: int, one: Decided, who: Player, books: Books, plan: Plan) -> None:
    unload = books.unloads.get(one.id)
    if unload is None or str(unload.player) != one.player:
        raise _RefusalError("the books have no such unload of this player")
    if unload.state == UnloadState.UNLOADED or unload in plan.unloads.values():
        if unload.moved not in (None, one.units):
            raise _RefusalError(f"the unload has moved {unload.moved} units already")
        return  # applied before
    plan.unloads[place] = unload
    plan.journals[place] = postings.unloaded(who, one.id, one.units)
    plan.moves[place] = (-one.units, 0)


_JUDGES: Mapping[str, Callable[[int, Decided, Player, Books, Plan], None]] = {
    "reserved": _reserved,
    "settled": _ended,
    "voided": _ended,
    "loaded": _loaded,
    "unloaded": _unloaded,
}


# --- writing ----------------------------------------------------------------------------------------------------------


def _post(session: Session, decided: Sequence[Decided], books: Books) -> Plan:
    """Book all that can be booked. Of what is refused, nothing that rests on it is left in the books."""
    refused: dict[int, str] = {}
    while True:
        plan = _judge(decided, books, refused)
        with session.begin_nested() as savepoint:
            found = _book(session, decided, books, plan)
            if not found:
                return plan
            booked = (plan.journals.keys() | plan.captures.keys()) - found.keys()
            after = _judge(decided, books, refused | found)
            wrong = booked - after.journals.keys() - after.captures.keys()
            if not wrong:
                return after
            # What was booked there rests on what was refused: without both, then. What was refused after it may have
            # been so for want of the money that it took.
            refused |= {place: why for place, why in found.items() if place < min(wrong)}
            savepoint.rollback()


def _book(session: Session, decided: Sequence[Decided], books: Books, plan: Plan) -> dict[int, str]:
    """Returns what the books refused. Loads come first: they only ever bring what others need."""
    refused: dict[int, str] = {}
    for place, load in plan.captures.items():
        reference = postings.hold_reference(load.id)
        tenant = books.players[decided[place].player].tenant
        try:
            holds.capture(session, tenant=tenant, hold_id=load.hold_id, reference=reference, category="bet.loaded")
        except (InvalidRequestError, InvariantError) as error:
            refused[place] = str(error)
    outcomes = batches.post_all(session, list(plan.journals.values()))
    for place, outcome in zip(plan.journals, outcomes, strict=True):
        if outcome.error is not None:
            refused[place] = str(outcome.error)
    return refused


def _write_bets(session: Session, plan: Plan) -> None:
    rows = list(plan.bets.items())
    if any(row.state is BetState.SETTLED for _, row in rows):
        queries.lock_settled_numbers(session)
    new = [(key, row, row.reserved) for key, row in rows if row.reserved is not None]
    old = [(key, row) for key, row in rows if row.reserved is None]
    if new:
        queries.insert_bets(
            session,
            {
                **_endings((key, row) for key, row, _ in new),
                "games": [row.facts.game for _, row, _ in new],
                "stakes": [row.stake for _, row, _ in new],
                "edges": [row.facts.edge_bps for _, row, _ in new],
                "agents": [row.facts.agent for _, row, _ in new],
                "reserved_ms": [by.at_ms for _, _, by in new],
                "reserved_free": [by.free for _, _, by in new],
                "reserved_locked": [by.locked for _, _, by in new],
                "reserved_generations": [by.event.generation for _, _, by in new],
                "reserved_seqs": [by.event.seq for _, _, by in new],
            },
        )
    if old:
        queries.end_bets(session, _endings(old))


def _endings(rows: Iterable[tuple[Key, BetRow]]) -> dict[str, Sequence[object]]:
    pairs = list(rows)
    ends = [row.ended for _, row in pairs]
    return {
        "players": [key[0] for key, _ in pairs],
        "ids": [key[1] for key, _ in pairs],
        "states": [row.state for _, row in pairs],
        "payouts": [row.payout for _, row in pairs],
        "ended_ms": [None if by is None else by.at_ms for by in ends],
        "ended_free": [None if by is None else by.free for by in ends],
        "ended_generations": [None if by is None else by.event.generation for by in ends],
        "ended_seqs": [None if by is None else by.event.seq for by in ends],
    }


def _write_moves(session: Session, decided: Sequence[Decided], books: Books, plan: Plan) -> None:
    if not (books.loads or books.unloads):
        return
    now = func.now()
    for load in plan.captures.values():
        load.state = LOAD.then(LoadState(load.state), "load")
        load.refused, load.settled_at = None, now  # the database's clock
    for place, unload in plan.unloads.items():
        unload.state = UNLOAD.then(UnloadState(unload.state), "unload")
        unload.moved, unload.why, unload.settled_at = decided[place].units, None, now
    for place, why in plan.refused.items():
        taken = books.loads.get(decided[place].id) if decided[place].what == "loaded" else None
        if taken is not None and taken.state == LoadState.HELD:
            taken.refused = why  # the hot store has it, so it can't be voided
    session.flush()


@dataclass(slots=True)
class _Standing:
    """A player while a batch is gone through."""

    version: int
    free: int
    locked: int
    at_ms: int = 0
    off: Decided | None = None
    """The last event that says other than the books."""
    missing: int = 0


def _write_players(session: Session, decided: Sequence[Decided], books: Books, plan: Plan) -> None:
    standings = {row.id: _Standing(row.version, int(row.free), int(row.locked)) for row in books.before.values()}
    for place, one in enumerate(decided):
        now = standings.get(one.player)
        if now is None:
            continue
        free, locked = plan.moves.get(place, (0, 0))
        now.free += free
        now.locked += locked
        now.at_ms = max(now.at_ms, one.at_ms)
        if one.version <= now.version:
            continue  # seen before: a repeat, or what was refused then
        now.missing += one.version - now.version - 1
        now.version = one.version
        now.off = one if (now.free, now.locked) != (one.free, one.locked) or now.missing else None
    for player_id, now in standings.items():
        if now.off is not None:
            _note(session, books.players[player_id], now, now.off)
    queries.update_players(
        session,
        {
            "ids": list(standings),
            "versions": [now.version for now in standings.values()],
            "free": [now.free for now in standings.values()],
            "locked": [now.locked for now in standings.values()],
            "at_ms": [now.at_ms for now in standings.values()],
        },
    )


def _note(session: Session, who: Player, now: _Standing, off: Decided) -> None:
    breaks.note(
        session,
        Difference(
            kind=BREAK,
            subject=str(who.id),
            tenant=who.tenant,
            asset=who.asset,
            expected=f"free {now.free}, locked {now.locked}",
            found=f"free {off.free}, locked {off.locked}",
            detail={"user": who.user, "version": off.version, "missing": now.missing, "event": off.event.text},
        ),
    )
