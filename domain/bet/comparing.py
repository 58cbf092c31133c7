"""Holding the hot store against the books: at the same version of a player, all must be the same.

Differences are noted as breaks (`bet.balance`) and never overwritten: which of the two is right, a person finds out.
A player who decides while he is looked at is looked at again the next time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from sqlalchemy.orm import Session

from core import breaks
from core.breaks import Difference
from core.db import transaction
from core.hot import client, store
from core.hot.hand import Hand
from domain.bet import queries
from domain.bet.decisions import FORGET, LOOK, Seen, forget_item, look_item, seen
from domain.bet.players import Player, player
from ledger import balances, chart

BREAK = "bet.balance"
CHUNK = 200
_KEY = "bet:player:"


@dataclass(frozen=True, slots=True)
class Result:
    players: int
    """That were looked at."""
    moving: int
    """Of them, those who decided meanwhile, or whose last decisions are not in the books yet."""
    differing: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A player as the books have him at one moment."""

    player: Player
    version: int
    free: int
    locked: int
    playing: int
    staked: int
    bets: Mapping[UUID, int]


def compare() -> Result:
    """Look at every player in the hot store. Players who have nothing left are let go of on the way.

    Nothing is done while it is away. Raises StoreAwayError, UndecidedError, RedisError if it goes away.
    """
    with transaction() as session:
        now = store.current(session)
    if not now.is_decided_by_redis:
        return Result(0, 0, 0)
    hand = Hand(client.client(), now.number)
    players = moving = differing = 0
    keys = client.client().scan_iter(match=f"tr:{{h*}}:{now.number}:{_KEY}*", count=1_000)
    for part in _parts(UUID(hex=str(key).rpartition(":")[2]) for key in keys):
        part_moving, found = _compare(hand, part)
        players, moving, differing = players + len(part), moving + part_moving, differing + len(found)
        if found:
            with transaction() as session:
                for difference in found:
                    breaks.note(session, difference)
    return Result(players, moving, differing)


def _parts(ids: Iterator[UUID]) -> Iterator[list[UUID]]:
    while part := list(islice(ids, CHUNK)):
        yield part


def _compare(hand: Hand, ids: Sequence[UUID]) -> tuple[int, list[Difference]]:
    with transaction() as session:
        known = [player(row.tenant, row.user_id, row.asset) for row in queries.players_by_id(session, ids)]
    replies = hand.decide(LOOK, [look_item(who) for who in known])
    looked = {who.id: found for who, reply in zip(known, replies, strict=True) if (found := seen(reply)) is not None}
    with transaction() as session:
        kept = _kept(session, known)
    moving = 0
    differences: list[Difference] = []
    done: list[tuple[Player, int]] = []
    for player_id, found in looked.items():
        books = kept[player_id]
        if books.version != found.version:
            moving += 1
            continue
        difference = _difference(books, found)
        if difference is not None:
            differences.append(difference)
        elif not (found.free or found.locked or found.bets):
            done.append((books.player, books.version))
    hand.decide(FORGET, [forget_item(who, version) for who, version in done])
    return moving, differences


def _kept(session: Session, known: Sequence[Player]) -> dict[UUID, Kept]:
    # Three statements, one snapshot.
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    rows = {row.id: row for row in queries.players_by_id(session, [who.id for who in known])}
    bets: dict[UUID, dict[UUID, int]] = {who.id: {} for who in known}
    for player_id, bet_id, stake in queries.open_bets(session, rows):
        bets[player_id][bet_id] = stake
    accounts = {
        (who.id, code): (who.tenant, code, who.asset)
        for who in known
        for code in (chart.playing(who.user), chart.staked(who.user))
    }
    found = balances.balances(session, list(accounts.values()))
    return {
        who.id: Kept(
            who,
            rows[who.id].version,
            rows[who.id].free,
            rows[who.id].locked,
            found[accounts[who.id, chart.playing(who.user)]],
            found[accounts[who.id, chart.staked(who.user)]],
            bets[who.id],
        )
        for who in known
    }


def _difference(books: Kept, found: Seen) -> Difference | None:
    here = (found.free, found.locked)
    if (books.playing, books.staked) == here == (books.free, books.locked) and books.bets == found.bets:
        return None
    who = books.player
    odd = set(books.bets.items()) ^ set(found.bets.items())
    return Difference(
        kind=BREAK,
        subject=str(who.id),
        tenant=who.tenant,
        asset=who.asset,
        expected=f"free {books.playing}, locked {books.staked}, {len(books.bets)} open bets",
        found=f"free {found.free}, locked {found.locked}, {len(found.bets)} open bets",
        detail={
            "user": who.user,
            "version": books.version,
            "row": f"free {books.free}, locked {books.locked}",
            "bets": _some(bet for bet, _ in odd),
        },
    )


def _some(bets: Iterable[UUID]) -> list[str]:
    return [str(bet) for bet in islice(sorted(set(bets)), 20)]
