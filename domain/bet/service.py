"""Bets and players for readers: the API, the commission of agents, people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from core.errors import ConflictError, NotFoundError
from core.hot.errors import UndecidedError
from domain.bet.decisions import Answer, End, Facts, Reserve, Verdict
from domain.bet.models import Bet, BetPlayer
from domain.bet.players import Player
from domain.bet.states import BetState

PAGE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class BetFacts:
    """A bet as the books have it."""

    id: UUID
    player: Player
    facts: Facts
    stake: int
    state: BetState
    payout: int | None
    reserved_at: datetime
    reserved_free: int
    reserved_locked: int
    ended_at: datetime | None
    ended_free: int | None
    settled_number: int | None


_QUERY = select(Bet, BetPlayer.tenant, BetPlayer.user_id, BetPlayer.asset).join(BetPlayer, BetPlayer.id == Bet.player)


def bet(session: Session, tenant: str, bet_id: UUID, *, user: str | None = None, asset: str | None = None) -> BetFacts:
    """Raises NotFoundError, and ConflictError if several players have a bet of this id: then say whose."""
    query = _QUERY.where(Bet.id == bet_id, BetPlayer.tenant == tenant)
    if user is not None:
        query = query.where(BetPlayer.user_id == user)
    if asset is not None:
        query = query.where(BetPlayer.asset == asset)
    rows = session.execute(query.limit(2)).all()
    if not rows:
        raise NotFoundError(f"there is no bet {bet_id}")
    if len(rows) > 1:
        raise ConflictError(f"several players have a bet {bet_id}: name the user and the asset", field="user")
    return _facts(rows[0])


def bets_of(
    session: Session, who: Player, *, state: BetState | None = None, before: UUID | None = None, limit: int = 50
) -> Sequence[BetFacts]:
    """Newest first, by their own times. `before` is the id of the last bet of the page before."""
    query = _QUERY.where(Bet.player == who.id).order_by(Bet.id.desc()).limit(min(limit, PAGE_MAX))
    if state is not None:
        query = query.where(Bet.state == state)
    if before is not None:
        query = query.where(Bet.id < before)
    return [_facts(row) for row in session.execute(query)]


def settled_since(session: Session, number: int, *, tenant: str | None = None, limit: int = 500) -> Sequence[BetFacts]:
    """Settled bets, of all tenants or of one, with a greater `settled_number`, by it. What commission is made from.

    A number is only given out once all smaller ones are committed: who has worked up to one has missed none.
    """
    query = _QUERY.where(Bet.settled_number > number, Bet.state == BetState.SETTLED)
    if tenant is not None:
        query = query.where(BetPlayer.tenant == tenant)
    return [_facts(row) for row in session.execute(query.order_by(Bet.settled_number).limit(min(limit, PAGE_MAX)))]


@dataclass(frozen=True, slots=True)
class PlayerFacts:
    """A player as the books have him: behind the hot store by what is not applied yet."""

    player: Player
    free: int
    locked: int
    version: int
    last_active_at: datetime


def player_facts(session: Session, who: Player) -> PlayerFacts:
    """Raises NotFoundError for one who never had anything loaded. What he has now: `decisions.look_item`."""
    row = session.get(BetPlayer, who.id)
    if row is None:
        raise NotFoundError(f"{who.user!r} never had anything loaded in {who.asset}")
    return PlayerFacts(who, row.free, row.locked, row.version, row.last_active_at)


def player_by_id(session: Session, player_id: UUID) -> Player:
    """Whose a load, an unload or a bet is."""
    row = session.get_one(BetPlayer, player_id)
    return Player(row.tenant, row.user_id, row.asset)


# --- first answers ----------------------------------------------------------------------------------------------------


def known(session: Session, asks: Iterable[Reserve | End]) -> dict[tuple[UUID, UUID], BetFacts]:
    """What the books have of the bets that are asked about, by (player, bet), in one statement."""
    keys = {(ask.player.id, ask.id) for ask in asks}
    if not keys:
        return {}
    found = [_facts(row) for row in session.execute(_QUERY.where(tuple_(Bet.player, Bet.id).in_(keys)))]
    return {(each.player.id, each.id): each for each in found}


def first_answer(ask: Reserve | End, books: BetFacts | None) -> Answer:
    """What to answer where the hot store said STALE or UNKNOWN: what it said when it decided, by the books.

    STALE again: the id was never decided, and never will be. UNKNOWN: there is no such bet. Raises UndecidedError while
    the books are behind: the end of this bet was decided and is on its way.
    """
    if isinstance(ask, Reserve):
        if books is None:
            return Answer(Verdict.STALE)
        if (books.stake, books.facts) != (ask.stake, ask.facts):
            return Answer(Verdict.CONFLICT, state=BetState.RESERVED)
        at_ms = _ms(books.reserved_at)
        return Answer(Verdict.RESERVED, free=books.reserved_free, locked=books.reserved_locked, at_ms=at_ms)
    if books is None:
        return Answer(Verdict.UNKNOWN)
    if books.state is BetState.RESERVED or books.ended_at is None:
        raise UndecidedError(f"the end of the bet {ask.id} is not in the books yet")
    wanted = BetState.VOIDED if ask.payout is None else BetState.SETTLED
    if (books.state, books.payout) != (wanted, ask.payout):
        return Answer(Verdict.CONFLICT, state=books.state)
    verdict, units = (Verdict.VOIDED, books.stake) if ask.payout is None else (Verdict.SETTLED, ask.payout)
    return Answer(verdict, units=units, free=books.ended_free, at_ms=_ms(books.ended_at))


def _ms(at: datetime) -> int:
    """Whole by construction: the times of bets are those of the hot store's clock."""
    seconds = int(at.replace(microsecond=0).timestamp())
    return seconds * 1_000 + at.microsecond // 1_000


def _facts(row: Any) -> BetFacts:
    made: Bet = row[0]
    _, tenant, user, asset = row
    return BetFacts(
        id=made.id,
        player=Player(tenant, user, asset),
        facts=Facts(made.game, made.edge_bps, made.agent),
        stake=made.stake,
        state=BetState(made.state),
        payout=made.payout,
        reserved_at=made.reserved_at,
        reserved_free=made.reserved_free,
        reserved_locked=made.reserved_locked,
        ended_at=made.ended_at,
        ended_free=made.ended_free,
        settled_number=made.settled_number,
    )
