"""Putting players into the hot store who are not there: after a turn, on their first bet, after a rest.

A script that misses a player answers `? <token>`. What the books say then is all there is to say: what older
generations decided has been applied, and in this one a player is only forgotten when he has nothing and all that he
did is in the books. `put` refuses what was read too long ago, by the hot store's own clock, which made the token.

A player who holds anything stays until it is decided otherwise: no key with money expires. One who has nothing, and
never had in this life of the hot store, is put for ten seconds, so that he doesn't ask PostgreSQL with each try.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.hot.script import Item
from domain.bet import queries
from domain.bet.decisions import Facts
from domain.bet.players import AGE_MS, BUCKET_MS, ID_MS_BITS, Player, ms_of

RECENT_MAX = 1_000
"""Bets of a player that have ended lately and are put. Of ids older than these, the books tell."""


def items(session: Session, absent: Sequence[tuple[Player, str]]) -> list[Item]:
    """What to put, by `decisions.PUT`, for each player and the token that was answered for him, in order.

    One statement, however many there are.
    """
    if not absent:
        return []
    read = [int(token.partition(":")[2]) for _, token in absent]
    recent = [UUID(int=max(ms - AGE_MS, 0) << ID_MS_BITS) for ms in read]
    rows: dict[UUID, list[Any]] = defaultdict(list)
    for row in queries.to_put(session, [who.id for who, _ in absent], recent, limit=RECENT_MAX + 1):
        rows[row.player].append(row)
    return [_item(who, token, ms, rows[who.id]) for (who, token), ms in zip(absent, read, strict=True)]


def _item(who: Player, token: str, read_ms: int, rows: Sequence[Any]) -> Item:
    free, locked, version, active_ms = 0, 0, 0, 0
    if rows:
        free, locked, version, active_ms = rows[0].free, rows[0].locked, rows[0].version, rows[0].active_ms
    still_open = [_open(row) for row in rows if row.state == "reserved"]
    ended = sorted((row for row in rows if row.state in {"settled", "voided"}), key=lambda row: row.id, reverse=True)
    since = 0
    if len(ended) > RECENT_MAX:
        del ended[RECENT_MAX:]
        since = ms_of(ended[-1].id) + 1
    middle = read_ms // BUCKET_MS
    buckets = [middle - 1, middle, middle + 1]
    lines: dict[int, list[str]] = {bucket: [] for bucket in buckets}
    for row in reversed(ended):
        lines.setdefault(ms_of(row.id) // BUCKET_MS, []).append(_ended(row))
    return Item(
        who.shard,
        (who.key, *(who.ended_key(bucket) for bucket in buckets)),
        (
            token,
            str(free),
            str(locked),
            str(version),
            str(active_ms),
            str(since),
            "\n".join(still_open),
            *("\n".join(lines[bucket]) for bucket in buckets),
        ),
    )


def _open(row: Any) -> str:
    """As `reserve.lua` writes it."""
    digest = Facts(row.game, row.edge_bps, row.agent).digest
    return f"{row.id} {row.stake} {digest} {row.reserved_free} {row.reserved_locked} {row.reserved_ms}"


def _ended(row: Any) -> str:
    """As `end.lua` writes it."""
    verb, units = ("S", row.payout) if row.state == "settled" else ("V", row.stake)
    return f"{_open(row)} {verb} {units} {row.ended_free} {row.ended_ms}"
