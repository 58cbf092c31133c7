"""What a decider tells PostgreSQL, and hears there: that it is alive, who decides, and what it remembers at the end.

Plain blocking calls, on a pool of their own, for a thread beside the decider's loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from sqlalchemy import Engine, bindparam, text
from sqlalchemy.orm import Session

from core import breaks
from core.breaks import Difference
from core.db import own_engine
from core.hot import store
from core.hot.store import Generation, StoreMode, StoreState
from core.ids import new_id
from core.jobs import ASYNC_COMMIT

AT_ONCE = 10_000
"""Events to a transaction of a farewell. Each says as well that the decider is alive."""
GAP, ORPHAN, CONFLICT = "hot.gap", "hot.orphan", "hot.conflict"
"""Kinds of breaks: docs/hot.md."""

Remembered = Mapping[int, Sequence[tuple[int, str]]]
"""By shard: number and text of each event."""

# Committed without waiting for the disk: a heartbeat that a crash forgets only makes the decider look more silent, and
# silence counts only while it is being watched (core.hot.turn).
_BEAT = text(
    f"""
    WITH me AS (
      UPDATE hot_deciders SET seen_at = clock_timestamp() WHERE id = :id RETURNING left_generation, {ASYNC_COMMIT}
    )
    SELECT generation, mode, state, shards, me.left_generation,
      ARRAY(SELECT applied_seq FROM hot_shards WHERE hot_shards.generation = hot_store.generation ORDER BY shard)
        AS applied
    FROM hot_store LEFT JOIN me ON true WHERE hot_store.id = 1
    """  # noqa: S608  # a constant of ours
)
_REGISTER = text("INSERT INTO hot_deciders (id, name, left_generation) VALUES (:id, :name, 0)")
_LEAVE = text(
    """
    UPDATE hot_deciders SET left_generation = :generation, seen_at = clock_timestamp()
    WHERE id = :id AND left_generation < :generation
    """
)
_ALIVE = text("UPDATE hot_deciders SET seen_at = clock_timestamp() WHERE id = :id")
_GO = text("DELETE FROM hot_deciders WHERE id = :id")
_WRITE = text(
    """
    INSERT INTO hot_events (generation, shard, seq, event, decider)
    SELECT :generation, shard, seq, event, :decider
    FROM unnest(cast(:shards AS int[]), cast(:seqs AS bigint[]), cast(:events AS text[])) AS told (shard, seq, event)
    ON CONFLICT DO NOTHING
    """
)
_CONFLICTS = text(
    """
    SELECT kept.shard, kept.seq, kept.event AS kept, told.event AS told
    FROM unnest(cast(:shards AS int[]), cast(:seqs AS bigint[]), cast(:events AS text[])) AS told (shard, seq, event)
    JOIN hot_events kept ON kept.generation = :generation AND kept.shard = told.shard AND kept.seq = told.seq
    WHERE kept.event <> told.event
    """
)
_APPLIED = text("SELECT shard, applied_seq FROM hot_shards WHERE generation = :generation")
_GAPS = text(
    """
    SELECT (detail ->> 'shard')::int AS shard, (detail ->> 'first')::bigint AS first,
           (detail ->> 'last')::bigint AS last
    FROM breaks WHERE kind = :kind AND subject LIKE :like
    """
).bindparams(bindparam("kind", GAP))


@dataclass(frozen=True, slots=True)
class Seen:
    """What one heartbeat brought back."""

    generation: Generation
    left: int | None
    """The last generation that the decider is known to have left. None: it is not on the list (any more)."""
    applied: Sequence[int]


class Presence:
    """Of one decider. Every call may raise SQLAlchemyError, and may be repeated then."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id: UUID = new_id()
        # One for heartbeats, one for the farewell beside them. Nobody else's work keeps them waiting.
        self._engine: Engine = own_engine(2)

    def register(self) -> None:
        """Under a new id: what the list, or whoever crossed us off it, says of the old one stays true."""
        self.id = new_id()
        with Session(self._engine) as session, session.begin():
            session.execute(_REGISTER, {"id": self.id, "name": self.name})

    def beat(self) -> Seen:
        with Session(self._engine) as session, session.begin():
            row = session.execute(_BEAT, {"id": self.id}).one()
        generation = Generation(row.generation, StoreMode(row.mode), StoreState(row.state), row.shards)
        return Seen(generation, row.left_generation, row.applied)

    def close(self, generation: int, reason: str) -> bool:
        with Session(self._engine) as session, session.begin():
            return store.close(session, generation, reason=reason)

    def leave(self, generation: int, remembered: Remembered) -> bool:
        """Write down what is remembered and say that no more will come. False if we were taken for dead before."""
        for shard, part in _parts(remembered):
            with Session(self._engine) as session, session.begin():
                write(session, self.id, generation, {shard: part})
                session.execute(_ALIVE, {"id": self.id})
        with Session(self._engine) as session, session.begin():
            done = session.execute(_LEAVE, {"id": self.id, "generation": generation})
            return bool(done.rowcount)  # type: ignore[attr-defined]  # has a count

    def tell_late(self, generation: int, remembered: Remembered) -> None:
        """For a generation that is over: what we answered and nobody has heard of is a break."""
        with Session(self._engine) as session, session.begin():
            if store.current(session).number == generation:
                # Its turn goes on without us. Written down all the same, for whoever looks into its gaps.
                for shard, part in _parts(remembered):
                    write(session, self.id, generation, {shard: part})
                return
            applied = {row.shard: row.applied_seq for row in session.execute(_APPLIED, {"generation": generation})}
            gaps = session.execute(_GAPS, {"like": f"{generation}:%"}).all()
            orphans = {
                shard: [
                    (seq, event)
                    for seq, event in events
                    if seq > applied.get(shard, 0)
                    or any(gap.shard == shard and gap.first <= seq <= gap.last for gap in gaps)
                ]
                for shard, events in remembered.items()
            }
            note_orphans(session, self.id, generation, orphans, why="answered by a decider that was taken for dead")

    def go(self) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(_GO, {"id": self.id})

    def dispose(self) -> None:
        self._engine.dispose()


def _parts(remembered: Remembered) -> list[tuple[int, list[tuple[int, str]]]]:
    found = []
    for shard, events in remembered.items():
        rest = iter(events)
        while part := list(islice(rest, AT_ONCE)):
            found.append((shard, part))
    return found


def write(session: Session, decider: UUID, generation: int, events: Remembered) -> None:
    """Into hot_events. A number that has another event there already is a break: the first one stays."""
    flat = [(shard, seq, event) for shard, those in events.items() for seq, event in those]
    if not flat:
        return
    shards, seqs, texts = zip(*flat, strict=True)
    told = {"generation": generation, "shards": list(shards), "seqs": list(seqs), "events": list(texts)}
    session.execute(_WRITE, {**told, "decider": decider})
    for row in session.execute(_CONFLICTS, told):
        note_conflict(session, generation, row.shard, row.seq, kept=row.kept, other=row.told)


def note_conflict(session: Session, generation: int, shard: int, seq: int, *, kept: str, other: str) -> None:
    """Two events under one number: two servers have decided for the same shard."""
    detail = {"generation": generation, "shard": shard, "seq": seq, "other": other}
    breaks.note(
        session,
        Difference(kind=CONFLICT, subject=f"{generation}:{shard}:{seq}", expected=kept, found=other, detail=detail),
    )


def note_orphans(session: Session, by: UUID, generation: int, orphans: Remembered, *, why: str) -> None:
    """Events of a generation that ended without them. Their texts are kept in hot_events."""
    for shard, events in orphans.items():
        if not events:
            continue
        for _, part in _parts({shard: events}):
            write(session, by, generation, {shard: part})
        first, last = min(events), max(events)
        detail = {"generation": generation, "shard": shard, "first": first[0], "last": last[0], "why": why}
        breaks.note(
            session,
            Difference(
                kind=ORPHAN,
                subject=f"{generation}:{shard}:{first[0]}",
                expected="nothing: the generation ended without it",
                found=f"{len(events)} events from {first[1]!r} on",
                detail={**detail, "events": [event for _, event in events[:100]]},
            ),
        )
