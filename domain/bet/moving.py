"""Money into a player's hands and back: steps that the books begin and end, and the hot store decides between.

A load is held in the ledger before the hot store hears of it, so the money can't be spent twice; the hold is captured
when the decision is applied. It is asked for by whoever asked for the load, and by a job besides until the books say
that it is loaded: a move counts once by its id, however often it is decided. Before each try the books are asked
whether it is still to be done, *after* the hot store gave the token that goes with the try (see move.lua).

A load is voided only while PostgreSQL decides: then no generation of Redis is under way, all that was applied of them
is applied, and what is found of them later will not be. Whoever decides in the next one asks the books first.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.hot import client, store
from core.hot.errors import StoreAwayError, UndecidedError
from core.hot.hand import Hand
from core.hot.script import Item
from core.hot.store import StoreMode, StoreState
from core.ids import new_id
from core.jobs import NewJob
from core.money import UNITS_MAX
from domain.bet import loading, postings, queries
from domain.bet.decisions import MOVE, PUT, UNSEEN, Answer, Verdict, answer, load_item, unload_item
from domain.bet.models import BetPlayer, HotLoad, HotUnload
from domain.bet.players import Player, player
from domain.bet.settings import bet as settings
from domain.bet.states import LOAD, UNLOAD, LoadState, UnloadState
from ledger import chart, holds
from ledger.holds import NewHold

log = structlog.stdlib.get_logger(__name__)

PATIENCE = timedelta(seconds=5)
"""How long whoever began a move has to get it decided, before a job asks."""
PATIENCE_MAX = timedelta(minutes=5)
"""The longest pause between two looks of that job."""
IDLE_LIMIT = 500
"""Players that one round unloads."""


@dataclass(frozen=True, slots=True)
class Move:
    """A load or an unload that is to be decided. `units` None: all that is free. `hold_id` None: an unload."""

    id: UUID
    player: Player
    units: int | None
    hold_id: UUID | None = None
    idle: bool = False

    def item(self, token: str = UNSEEN) -> Item:
        """To be asked by `decisions.MOVE`. The first try needs no token: it tells one."""
        if self.hold_id is not None and self.units is not None:
            return load_item(self.player, self.id, self.units, token=token)
        idle_ms = settings().idle // timedelta(milliseconds=1) if self.idle else 0
        return unload_item(self.player, self.id, self.units, token=token, idle_ms=idle_ms)


# --- loads ------------------------------------------------------------------------------------------------------------


def begin_load(session: Session, load_id: UUID, who: Player, units: int) -> Move:
    """Hold the units for the player, once for ever by the load's id, and have a job see to it that they arrive.

    Raises InvalidRequestError, ConflictError (the id is that of another load) and what ledger.holds.place raises, such
    as InsufficientFundsError, with nothing written.
    """
    if not isinstance(units, int) or isinstance(units, bool) or not 1 <= units <= UNITS_MAX:
        raise InvalidRequestError("units is an integer above zero with at most 38 digits", field="units")
    known = session.get(HotLoad, load_id)
    if known is not None:
        if (known.player, known.units) != (who.id, units):
            raise ConflictError(f"the id {load_id} is that of another load", field="id")
        return Move(load_id, who, units, known.hold_id)
    reference = postings.hold_reference(load_id)
    wanted = NewHold(
        tenant=who.tenant,
        reference=reference,
        source=chart.user_available(who.user),
        destination=chart.playing(who.user),
        asset=who.asset,
        units=units,
        subject=reference,
    )
    placed = holds.place(session, wanted)
    queries.make_player(session, who)
    row = {"id": load_id, "player": who.id, "units": units, "hold_id": placed.id, "state": LOAD.initial}
    # Two at once with one id place one hold, and the row that is there is of this content.
    session.execute(insert(HotLoad).values(row).on_conflict_do_nothing())
    _later(session, "claim_sync.settle_load", load_id, reference, tries=0)
    return Move(load_id, who, units, placed.id)


def prepare_load(session: Session, load_id: UUID, token: str) -> tuple[Item, Item] | None:
    """What to ask next where a load was answered `? token`: by `decisions.PUT`, then by `decisions.MOVE`.

    None: it is loaded or voided already. Raises NotFoundError.
    """
    row = _load(session, load_id)
    if row.state != LoadState.HELD:
        return None
    move = _load_move(session, row)
    return loading.items(session, [(move.player, token)])[0], move.item(token)


def settle_load(load_id: UUID, tries: int) -> None:
    """Bring a load nearer to its end. Safe to run any number of times. Raises NotFoundError."""
    with jobs.transaction() as session:
        row = _load(session, load_id)
        if row.state != LoadState.HELD or row.refused is not None:
            return
        move, now = _load_move(session, row), store.current(session)
        if now.mode is StoreMode.POSTGRES and now.state is StoreState.OPEN and _void(session, load_id):
            return
    if now.is_decided_by_redis:
        _ask(move, now.number)
    with jobs.transaction() as session:
        _later(session, "claim_sync.settle_load", load_id, postings.hold_reference(load_id), tries=tries + 1)


def _void(session: Session, load_id: UUID) -> bool:
    """Let the hold go, while no generation of Redis can begin."""
    try:
        store.decide_here(session)
    except StoreAwayError:
        return False
    row = queries.lock_loads(session, [load_id])[load_id]
    if row.state != LoadState.HELD or row.refused is not None:
        return True
    holds.void(session, tenant=_player_of(session, row.player).tenant, hold_id=row.hold_id)
    row.state, row.settled_at = LOAD.then(LoadState(row.state), "void"), clock.now()
    log.info("load.voided", load_id=str(load_id))
    return True


def load(session: Session, tenant: str, load_id: UUID) -> HotLoad:
    """Raises NotFoundError, also where it is another tenant's."""
    row = _load(session, load_id)
    if _player_of(session, row.player).tenant != tenant:
        raise NotFoundError(f"there is no load {load_id}")
    return row


def _load(session: Session, load_id: UUID) -> HotLoad:
    row = session.get(HotLoad, load_id)
    if row is None:
        raise NotFoundError(f"there is no load {load_id}")
    return row


def _load_move(session: Session, row: HotLoad) -> Move:
    return Move(row.id, _player_of(session, row.player), row.units, row.hold_id)


# --- unloads ----------------------------------------------------------------------------------------------------------


def begin_unload(session: Session, unload_id: UUID, who: Player, units: int | None) -> Move:
    """Ask for the units, or for all that is free, once for ever by the unload's id. A job sees to it.

    Raises InvalidRequestError, ConflictError (the id is that of another unload) and NotFoundError (no such player).
    """
    if units is not None and (not isinstance(units, int) or isinstance(units, bool) or not 1 <= units <= UNITS_MAX):
        raise InvalidRequestError("units is an integer above zero with at most 38 digits", field="units")
    if session.get(BetPlayer, who.id) is None:
        raise NotFoundError(f"{who.user!r} never had anything loaded in {who.asset}")
    row = {"id": unload_id, "player": who.id, "units": units, "idle": False, "state": UNLOAD.initial}
    made = session.execute(insert(HotUnload).values(row).on_conflict_do_nothing().returning(HotUnload.id)).first()
    if made is None:
        known = _unload(session, unload_id)
        if (known.player, known.units) != (who.id, units):
            raise ConflictError(f"the id {unload_id} is that of another unload", field="id")
    else:
        _later(session, "claim_sync.settle_unload", unload_id, f"hot-unload:{unload_id}", tries=0)
    return Move(unload_id, who, units)


def prepare_unload(session: Session, unload_id: UUID, token: str) -> tuple[Item, Item] | None:
    """As `prepare_load`. None: it was unloaded or refused."""
    row = _unload(session, unload_id)
    if row.state != UnloadState.ASKED:
        return None
    move = Move(row.id, _player_of(session, row.player), row.units, idle=row.idle)
    return loading.items(session, [(move.player, token)])[0], move.item(token)


def refuse_unload(session: Session, unload_id: UUID, found: Answer) -> None:
    """Write down that the hot store said no. Nothing happens if it said yes to somebody else meanwhile."""
    row = queries.lock_unloads(session, [unload_id])[unload_id]
    if row.state == UnloadState.ASKED:
        row.state, row.settled_at = UNLOAD.then(UnloadState(row.state), "refuse"), clock.now()
        row.why = "the player is not idle" if found.verdict is Verdict.ACTIVE else f"{found.free} units are free"


def settle_unload(unload_id: UUID, tries: int) -> None:
    """Bring an unload nearer to its end. Safe to run any number of times. Raises NotFoundError."""
    with jobs.transaction() as session:
        row = _unload(session, unload_id)
        if row.state != UnloadState.ASKED:
            return
        move, now = Move(row.id, _player_of(session, row.player), row.units, idle=row.idle), store.current(session)
    found = _ask(move, now.number) if now.is_decided_by_redis else None
    with jobs.transaction() as session:
        if found is not None and found.verdict in (Verdict.LOW, Verdict.ACTIVE):
            refuse_unload(session, unload_id, found)
        else:
            _later(session, "claim_sync.settle_unload", unload_id, f"hot-unload:{unload_id}", tries=tries + 1)


def unload_idle(session: Session) -> int:
    """Ask for all that idle players have. Returns for how many."""
    rows = queries.idle_players(session, idle=settings().idle, limit=IDLE_LIMIT)
    if not rows:
        return 0
    new = [{"id": new_id(), "player": row.id, "idle": True, "state": UNLOAD.initial} for row in rows]
    made = session.scalars(insert(HotUnload).values(new).on_conflict_do_nothing().returning(HotUnload.id)).all()
    jobs.submit_many(
        session,
        [
            NewJob("claim_sync.settle_unload", {"unload_id": str(each), "tries": 0}, subject=f"hot-unload:{each}")
            for each in made
        ],
    )
    return len(made)


def unload(session: Session, tenant: str, unload_id: UUID) -> HotUnload:
    """Raises NotFoundError, also where it is another tenant's."""
    row = _unload(session, unload_id)
    if _player_of(session, row.player).tenant != tenant:
        raise NotFoundError(f"there is no unload {unload_id}")
    return row


def _unload(session: Session, unload_id: UUID) -> HotUnload:
    row = session.get(HotUnload, unload_id)
    if row is None:
        raise NotFoundError(f"there is no unload {unload_id}")
    return row


# --- both -------------------------------------------------------------------------------------------------------------


def decide(hand: Hand, move: Move) -> Answer | None:
    """Get a move decided by hand. None: the books say that it is over. Raises what Hand.decide raises.

    For jobs. Who answers people asks by a decider, in the same steps: it remembers what it was told.
    """
    prepare = prepare_unload if move.hold_id is None else prepare_load
    found = answer(hand.decide(MOVE, [move.item()])[0])
    for _ in range(3):
        if found.token is None:
            return found
        with jobs.transaction() as session:
            prepared = prepare(session, move.id, found.token)
        if prepared is None:
            return None
        put, again = prepared
        hand.decide(PUT, [put])
        found = answer(hand.decide(MOVE, [again])[0])
    raise UndecidedError(f"the player of {move.id} does not stay in the hot store")


def _ask(move: Move, generation: int) -> Answer | None:
    try:
        return decide(Hand(client.client(), generation), move)
    except (StoreAwayError, UndecidedError) as error:
        log.warning("move.undecided", move_id=str(move.id), error=str(error))
        return None


def _later(session: Session, task: str, move_id: UUID, subject: str, *, tries: int) -> None:
    delay = min(PATIENCE * 2 ** min(tries, 10), PATIENCE_MAX)
    name = "load_id" if task.endswith("settle_load") else "unload_id"
    jobs.submit(
        session,
        NewJob(
            task,
            {name: str(move_id), "tries": tries},
            subject=subject,
            run_at=session.scalar(select(func.now())) + delay,
        ),
    )


def _player_of(session: Session, player_id: UUID) -> Player:
    row = session.get_one(BetPlayer, player_id)
    return player(row.tenant, row.user_id, row.asset)
