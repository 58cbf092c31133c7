"""Every SELECT and lock of players and bets, and the statements that write many of them."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from core.db import plain_array, text_array
from domain.bet.models import Bet, BetPlayer, HotLoad, HotUnload
from domain.bet.players import Player

_SETTLED_LOCK = 0x6265_7473_6E75_6D62  # "betsnumb"


# --- what is put into the hot store -----------------------------------------------------------------------------------

_PUT_FACTS = """
    b.id, b.game, b.stake, b.edge_bps, b.agent, b.state, b.payout, b.reserved_free, b.reserved_locked, b.ended_free,
    (extract(epoch FROM b.reserved_at) * 1000)::bigint AS reserved_ms,
    (extract(epoch FROM b.ended_at) * 1000)::bigint AS ended_ms
"""
_TO_PUT = text(
    f"""
    SELECT p.id AS player, p.version, p.free, p.locked,
           (extract(epoch FROM p.last_active_at) * 1000)::bigint AS active_ms, {_PUT_FACTS}
    FROM unnest(cast(:players AS uuid[]), cast(:recent AS uuid[])) AS asked (id, recent)
    JOIN bet_players p ON p.id = asked.id
    LEFT JOIN LATERAL (
      (SELECT * FROM bets WHERE player = asked.id AND state = 'reserved')
      UNION ALL
      (SELECT * FROM bets WHERE player = asked.id AND id >= asked.recent AND state <> 'reserved'
       ORDER BY id DESC LIMIT :limit)
    ) b ON true
    """  # noqa: S608  # constants of ours
)


def to_put(session: Session, players: Sequence[UUID], recent: Sequence[UUID], *, limit: int) -> Sequence[Row[Any]]:
    """Each known player's row with each of his open bets, and with his ended ones from the id `recent` on, newest first
    and at most `limit`; once without a bet if there is none. One snapshot.
    """
    asked = {"players": plain_array(players), "recent": plain_array(recent), "limit": limit}
    return session.execute(_TO_PUT, asked).all()


# --- what is applied --------------------------------------------------------------------------------------------------

_LOCK_PLAYERS = text(
    """
    SELECT id::text AS id, tenant, user_id, asset, version, free, locked FROM bet_players
    WHERE id = ANY(cast(:ids AS uuid[])) ORDER BY bet_players.id FOR NO KEY UPDATE
    """
)
_BETS_OF = text(
    """
    SELECT b.player::text AS player, b.id::text AS id, b.game, b.stake, b.edge_bps, b.agent, b.state, b.payout
    FROM unnest(cast(:players AS uuid[]), cast(:ids AS uuid[])) AS asked (player, id)
    CROSS JOIN LATERAL (SELECT * FROM bets WHERE player = asked.player AND id = asked.id LIMIT 1) b
    """
)
_LOCK_SETTLED = text("SELECT pg_advisory_xact_lock(:key)")
_AT = "'epoch'::timestamptz + {} * interval '1 ms'"
_INSERT_BETS = text(
    f"""
    INSERT INTO bets (player, id, game, stake, edge_bps, agent, state, payout, reserved_at, reserved_free,
                      reserved_locked, reserved_generation, reserved_seq, ended_at, ended_free, ended_generation,
                      ended_seq, settled_number)
    SELECT player, id, game, stake, edge_bps, agent, state, payout, {_AT.format("reserved_ms")}, reserved_free,
           reserved_locked, reserved_generation, reserved_seq, {_AT.format("ended_ms")}, ended_free, ended_generation,
           ended_seq, CASE WHEN state = 'settled' THEN nextval('bets_settled_number_seq') END
    FROM unnest(cast(:players AS uuid[]), cast(:ids AS uuid[]), cast(:games AS text[]), cast(:stakes AS numeric[]),
                cast(:edges AS int[]), cast(:agents AS text[]), cast(:states AS text[]), cast(:payouts AS numeric[]),
                cast(:reserved_ms AS bigint[]), cast(:reserved_free AS numeric[]), cast(:reserved_locked AS numeric[]),
                cast(:reserved_generations AS bigint[]), cast(:reserved_seqs AS bigint[]),
                cast(:ended_ms AS bigint[]), cast(:ended_free AS numeric[]), cast(:ended_generations AS bigint[]),
                cast(:ended_seqs AS bigint[]))
      AS new (player, id, game, stake, edge_bps, agent, state, payout, reserved_ms, reserved_free, reserved_locked,
              reserved_generation, reserved_seq, ended_ms, ended_free, ended_generation, ended_seq)
    """  # noqa: S608  # constants of ours
)
_END_BETS = text(
    f"""
    UPDATE bets SET state = new.state, payout = new.payout, ended_at = {_AT.format("new.ended_ms")},
                    ended_free = new.ended_free, ended_generation = new.ended_generation, ended_seq = new.ended_seq,
                    settled_number = CASE WHEN new.state = 'settled' THEN nextval('bets_settled_number_seq') END
    FROM unnest(cast(:players AS uuid[]), cast(:ids AS uuid[]), cast(:states AS text[]), cast(:payouts AS numeric[]),
                cast(:ended_ms AS bigint[]), cast(:ended_free AS numeric[]), cast(:ended_generations AS bigint[]),
                cast(:ended_seqs AS bigint[]))
      AS new (player, id, state, payout, ended_ms, ended_free, ended_generation, ended_seq)
    WHERE bets.player = new.player AND bets.id = new.id
    """  # noqa: S608  # constants of ours
)
_UPDATE_PLAYERS = text(
    f"""
    UPDATE bet_players SET version = new.version, free = new.free, locked = new.locked,
                           last_active_at = greatest(last_active_at, {_AT.format("new.at_ms")})
    FROM unnest(cast(:ids AS uuid[]), cast(:versions AS bigint[]), cast(:free AS numeric[]), cast(:locked AS numeric[]),
                cast(:at_ms AS bigint[])) AS new (id, version, free, locked, at_ms)
    WHERE bet_players.id = new.id
    """  # noqa: S608  # constants of ours
)


def lock_players(session: Session, ids: Iterable[str]) -> Sequence[Row[Any]]:
    """In the order of their ids. A player is of one shard, so nobody waits but for a job that tries a refusal again."""
    return session.execute(_LOCK_PLAYERS, {"ids": plain_array(ids)}).all()


def bets_of(session: Session, keys: Iterable[tuple[str, str]]) -> Sequence[Row[Any]]:
    """The bets of these (player, id) that there are. Their players are locked."""
    pairs = list(keys)
    if not pairs:
        return []
    asked = {"players": plain_array(player for player, _ in pairs), "ids": plain_array(bet for _, bet in pairs)}
    return session.execute(_BETS_OF, asked).all()


def lock_settled_numbers(session: Session) -> None:
    """From here to the end of the transaction nobody else numbers settled bets: the next number is only given out once
    this one is committed. So whoever reads a number has every smaller one before his eyes too, or it will never be.
    """
    session.execute(_LOCK_SETTLED, {"key": _SETTLED_LOCK})


def insert_bets(session: Session, columns: dict[str, Sequence[object]]) -> None:
    session.execute(_INSERT_BETS, _arrays(columns))


def end_bets(session: Session, columns: dict[str, Sequence[object]]) -> None:
    session.execute(_END_BETS, _arrays(columns))


def update_players(session: Session, columns: dict[str, Sequence[object]]) -> None:
    session.execute(_UPDATE_PLAYERS, _arrays(columns))


def _arrays(columns: dict[str, Sequence[object]]) -> dict[str, str]:
    return {
        name: text_array(values) if name in {"games", "agents"} else plain_array(values)  # type: ignore[arg-type]  # these are text
        for name, values in columns.items()
    }


# --- moves ------------------------------------------------------------------------------------------------------------

_MAKE_PLAYER = text(
    """
    INSERT INTO bet_players (id, tenant, user_id, asset) VALUES (:id, :tenant, :user, :asset) ON CONFLICT DO NOTHING
    """
)


def make_player(session: Session, who: Player) -> None:
    session.execute(_MAKE_PLAYER, {"id": who.id, "tenant": who.tenant, "user": who.user, "asset": who.asset})


def lock_loads(session: Session, ids: Sequence[UUID]) -> dict[UUID, HotLoad]:
    if not ids:
        return {}
    rows = session.scalars(select(HotLoad).where(HotLoad.id.in_(ids)).order_by(HotLoad.id).with_for_update())
    return {row.id: row for row in rows}


def lock_unloads(session: Session, ids: Sequence[UUID]) -> dict[UUID, HotUnload]:
    if not ids:
        return {}
    rows = session.scalars(select(HotUnload).where(HotUnload.id.in_(ids)).order_by(HotUnload.id).with_for_update())
    return {row.id: row for row in rows}


_IDLE = text(
    """
    SELECT p.id, p.tenant, p.user_id, p.asset FROM bet_players p
    WHERE p.free > 0 AND p.locked = 0 AND p.last_active_at < now() - cast(:idle AS interval)
      AND NOT EXISTS (SELECT FROM hot_unloads u WHERE u.player = p.id AND u.idle AND u.state = 'asked')
    ORDER BY p.last_active_at LIMIT :limit
    """
)


def idle_players(session: Session, *, idle: timedelta, limit: int) -> Sequence[Row[Any]]:
    """Reads all players: it is asked once a minute, and an index would make every batch of bets write more."""
    return session.execute(_IDLE, {"idle": idle, "limit": limit}).all()


# --- reading ----------------------------------------------------------------------------------------------------------


def players_by_id(session: Session, ids: Iterable[UUID]) -> Sequence[BetPlayer]:
    return session.scalars(select(BetPlayer).where(BetPlayer.id.in_(list(ids)))).all()


def open_bets(session: Session, players: Iterable[UUID]) -> Sequence[tuple[UUID, UUID, int]]:
    """(player, bet, stake) of every open bet of these."""
    asked = select(Bet.player, Bet.id, Bet.stake)
    wanted = asked.where(Bet.player.in_(list(players)), Bet.state == text("'reserved'"))
    return [(row.player, row.id, row.stake) for row in session.execute(wanted)]
