"""From events to the books: each is written once, in order, and the watermark moves in the same transaction.

Whoever reads events (core.hot.drain, core.hot.turn) hands them in here and may do so twice: what the watermark has
passed is left out. The rows of hot_shards are the lock that all writers of a shard share.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from core import breaks, jobs
from core.breaks import Difference
from core.db import transaction
from core.errors import InvariantError, TallyrailError, TransientError
from core.hot import store
from core.hot.events import PARKED, Appliers, Event, Refused
from core.hot.presence import GAP
from core.jobs import NewJob

log = structlog.stdlib.get_logger(__name__)

DEADLOCK, DEADLOCKS_MAX = "40P01", 5
PARKED_IN_A_ROW_MAX = 20
"""Events that fail one after the other. Beyond, it isn't the events that are wrong."""

# A process that is frozen here, with the shards locked, must not keep the others from them for long.
_LOCK = text(
    """
    SELECT shard, applied_seq, set_config('idle_in_transaction_session_timeout', '5s', true) FROM hot_shards
    WHERE generation = :generation AND shard = ANY(:shards) AND (cast(:owner AS text) IS NULL OR owner = :owner)
    ORDER BY shard FOR UPDATE
    """
)
_MOVE = text(
    """
    UPDATE hot_shards SET applied_seq = come.seq, applied_at = clock_timestamp()
    FROM unnest(cast(:shards AS int[]), cast(:seqs AS bigint[])) AS come (shard, seq)
    WHERE hot_shards.generation = :generation AND hot_shards.shard = come.shard
    """
)


class GenerationOverError(TallyrailError):
    """A turn has ended this generation: what its streams still have belongs to nobody."""


class HoleError(TallyrailError):
    """A number is missing among the events of a shard."""

    def __init__(self, shard: int, missing: int) -> None:
        super().__init__(f"shard {shard} has no event {missing}")
        self.shard = shard


class NothingAppliesError(TallyrailError):
    """One event after the other fails: the books, the code or the database are wrong. Nothing more is parked."""


@dataclass
class Selection:
    """What of the events handed in is to be written now."""

    events: list[Event] = field(default_factory=list)
    reached: dict[int, int] = field(default_factory=dict)
    """By shard: where the watermark will be."""
    gaps: list[tuple[int, int, int]] = field(default_factory=list)
    """Shard, first and last number that nobody has."""


class Books:
    """`appliers` by the first part of an event's kind."""

    def __init__(self, appliers: Appliers) -> None:
        self._appliers = appliers
        self._parked_in_a_row = 0

    def advance(
        self, generation: int, events: Sequence[Event], *, owner: str | None = None, may_skip: bool = False
    ) -> dict[int, int]:
        """Write these events, sorted by shard and number. Returns how far each shard has come.

        Args:
            generation: theirs.
            events: those that were written before are left out.
            owner: only shards that it owns; events of others are left out. None: of all (a turn).
            may_skip: pass over missing numbers, and note them as breaks.

        Raises:
            GenerationOverError: nothing was written.
            HoleError: a number is missing and `may_skip` is not given. Nothing was written of its piece.
            NothingAppliesError: see there.
            SQLAlchemyError, TransientError: PostgreSQL can't now. What was committed is committed; hand it in again.

        """
        try:
            return self._again(lambda: self._write(generation, events, owner=owner, may_skip=may_skip))
        except (GenerationOverError, HoleError, TransientError):
            raise
        except (OperationalError, InterfaceError):
            raise  # the server is away, or ends one transaction after the other for a reason of its own
        except Exception as failed:  # noqa: BLE001  # an applier's: found, told and parked below
            error = failed
        if len(events) > 1:
            middle = len(events) // 2
            first = self.advance(generation, events[:middle], owner=owner, may_skip=may_skip)
            return first | self.advance(generation, events[middle:], owner=owner, may_skip=may_skip)
        if self._parked_in_a_row >= PARKED_IN_A_ROW_MAX:
            raise NothingAppliesError(f"{PARKED_IN_A_ROW_MAX} events failed in a row: {error}") from error
        self._parked_in_a_row += 1
        where = {"generation": generation, "shard": events[0].shard, "seq": events[0].seq}
        log.error("books.event_failed", **where, exc_info=error)
        why = f"{type(error).__name__}: {error}"
        return self._write(generation, events, owner=owner, may_skip=may_skip, instead=why)

    @staticmethod
    def _again(write: Callable[[], dict[int, int]]) -> dict[int, int]:
        """Lanes that pay the same people may wait for each other. Of two, PostgreSQL ends one, which goes again."""
        for _ in range(DEADLOCKS_MAX - 1):
            try:
                return write()
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != DEADLOCK:
                    raise
        return write()

    def _write(
        self,
        generation: int,
        events: Sequence[Event],
        *,
        owner: str | None,
        may_skip: bool,
        instead: str | None = None,
    ) -> dict[int, int]:
        """One transaction. `instead` of applying them, park them for this reason."""
        shards = sorted({event.shard for event in events})
        with transaction() as session:
            found = session.execute(_LOCK, {"generation": generation, "shards": shards, "owner": owner})
            applied: dict[int, int] = {row.shard: row.applied_seq for row in found}
            # Read after the lock, which a turn holds when it ends the generation.
            if store.current(session).number != generation:
                raise GenerationOverError(f"generation {generation} is over")
            chosen = select_new(events, applied, may_skip=may_skip)
            if not chosen.reached:
                return applied
            note_gaps(session, generation, chosen.gaps)
            if instead is None:
                park(session, self._apply(session, chosen.events))
            else:
                park(session, [Refused(event, instead) for event in chosen.events])
            session.execute(
                _MOVE,
                {"generation": generation, "shards": list(chosen.reached), "seqs": list(chosen.reached.values())},
            )
        if instead is None:
            self._parked_in_a_row = 0
        return applied | chosen.reached

    def _apply(self, session: Session, events: Sequence[Event]) -> list[Refused]:
        by_slice: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            by_slice[event.kind.partition(".")[0]].append(event)
        refused: list[Refused] = []
        for name, mine in by_slice.items():
            if name not in self._appliers:
                raise InvariantError(f"no slice applies {mine[0].kind}")
            refused += self._appliers[name](session, mine)
        return refused


def select_new(events: Sequence[Event], applied: Mapping[int, int], *, may_skip: bool) -> Selection:
    """Those beyond the watermark, of shards that have one. Raises HoleError."""
    chosen = Selection()
    for event in events:
        if event.shard not in applied:
            continue
        wanted = chosen.reached.get(event.shard, applied[event.shard]) + 1
        if event.seq < wanted:
            continue
        if event.seq > wanted:
            if not may_skip:
                raise HoleError(event.shard, wanted)
            chosen.gaps.append((event.shard, wanted, event.seq - 1))
        chosen.events.append(event)
        chosen.reached[event.shard] = event.seq
    return chosen


def note_gaps(session: Session, generation: int, gaps: Sequence[tuple[int, int, int]]) -> None:
    for shard, first, last in gaps:
        detail = {"generation": generation, "shard": shard, "first": first, "last": last}
        breaks.note(
            session,
            Difference(
                kind=GAP,
                subject=f"{generation}:{shard}:{first}",
                expected=f"{last - first + 1} events",
                found="nothing: Redis lost them, and no decider had answered them",
                detail=detail,
            ),
        )


def park(session: Session, refused: Sequence[Refused]) -> None:
    """What can't be written becomes a job, which tries again and ends as a dead letter for a person."""
    jobs.submit_many(
        session,
        [
            NewJob(
                PARKED,
                {
                    "generation": each.event.generation,
                    "shard": each.event.shard,
                    "seq": each.event.seq,
                    "event": each.event.text,
                    "why": each.why[:500],
                },
                subject=f"event:{each.event.generation}:{each.event.shard}:{each.event.seq}",
            )
            for each in refused
        ],
    )
