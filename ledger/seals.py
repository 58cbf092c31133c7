"""The hash chain: beside the books, so that posting does nothing for it.

A journal's leaf is the SHA-256 of its form, a text with all that it says (docs/ledger-audit.md, byte by byte). Its
link is the SHA-256 of the link before it and its leaf. Every number belongs to one of four chains, `number % SHARDS`.
An exported head proves all that its chain held: whoever changes a journal would have to change every link after it, and
the export.

Sealing in three steps: the numbers given out so far are noted (`settle`), everybody who might still book one of them is
waited for, and what they booked is linked (`seal`).
"""

# ruff: noqa: S608  # statements are put together from constants of this module

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db
from ledger.violations import Violation, found

SHARDS = 4
"""For ever: it says in which chain a number is."""
CHUNK = 2_000
"""Journals that one transaction seals."""
SETTLE_TIMEOUT = timedelta(seconds=20)
"""How long a run waits for those who were posting when it began. Longer ones are left to the next run."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of one shard's chain at one moment."""

    shard: int
    seal: int
    """How many seals the shard had."""
    number: int
    """The last journal's."""
    journals: int
    """How many journals the chain holds."""
    hash: str
    """The last link, in hex."""
    sealed_at: datetime


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The journals that no seal covers yet. Counted to COUNT_MAX, so that asking stays cheap."""

    journals: int
    oldest: timedelta
    """Since the first of them was booked; zero if there is none."""


COUNT_MAX = 100_000

# In one statement, so that the snapshot comes first and our own transaction's id second: whoever took a number below
# the highest that the snapshot sees has an id already, so a lower one than ours. (The snapshot's own xmax would not do:
# it is one more than the last id that *ended*, and a transaction with a higher id may hold a lower number.)
_MARK = text(
    "SELECT coalesce((SELECT max(number) FROM ledger_journals), 0) AS number, pg_current_xact_id()::text AS mark"
)
_ENDED = text("SELECT pg_snapshot_xmin(pg_current_snapshot()) > CAST(:mark AS xid8)")


def settle(timeout: timedelta = SETTLE_TIMEOUT) -> int | None:
    """A journal number up to which nothing can be booked any more. None: somebody still posts after `timeout`.

    Every transaction that could hold such a number is waited for, with none of ours open. Posting locks an account, and
    so has a transaction id, before it takes a number. No id outlives this call, so none can meet another cluster's.
    """
    with db.transaction() as session:
        number, mark = session.execute(_MARK).one()
    ends = time.monotonic() + timeout.total_seconds()
    pause = timedelta(milliseconds=5)
    while True:
        with db.single_statement() as connection:
            if connection.scalar(_ENDED, {"mark": mark}):
                return int(number)
        if time.monotonic() > ends:
            return None
        time.sleep(pause.total_seconds())
        pause = min(pause * 2, timedelta(milliseconds=200))


def seal(upto: int, *, budget: timedelta = timedelta(days=1)) -> tuple[int, bool]:
    """Seal what is booked up to `upto`, which `settle` gave, in transactions of its own.

    Returns how many journals were sealed, and whether that is all of them: after `budget` it ends at the next chunk.
    """
    ends = time.monotonic() + budget.total_seconds()
    sealed = 0
    for shard in range(SHARDS):
        chunk = CHUNK
        while chunk == CHUNK:
            if time.monotonic() > ends:
                return sealed, False
            with db.transaction() as session:
                chunk = int(
                    session.execute(
                        text("SELECT ledger_seal(:shard, :upto, :most)"),
                        {"shard": shard, "upto": upto, "most": CHUNK},
                    ).scalar_one()
                )
            sealed += chunk
    return sealed, True


_LAST = "(SELECT max(last_number) FROM ledger_seals WHERE shard = {shard})"
_LASTS = f"ARRAY[{', '.join(f'coalesce({_LAST.format(shard=shard)}, 0)' for shard in range(SHARDS))}]"
# Each shard's last number is looked up once, into an array; then the books are read from the lowest of them.
_OPEN = f"""
    SELECT j.number, j.booked_at
    FROM (SELECT {_LASTS} AS lasts) s
    CROSS JOIN LATERAL (
        SELECT number, booked_at FROM ledger_journals
        WHERE number > (SELECT min(last) FROM unnest(s.lasts) AS u (last)) AND number > s.lasts[number % {SHARDS} + 1]
        ORDER BY number LIMIT :most
    ) j"""


def unsealed(session: Session) -> Unsealed:
    """What waits for the next seal."""
    row = session.execute(
        text(f"SELECT count(*) AS journals, clock_timestamp() - min(booked_at) AS oldest FROM ({_OPEN}) o"),
        {"most": COUNT_MAX},
    ).one()
    return Unsealed(row.journals, max(row.oldest or timedelta(0), timedelta(0)))


def sealed_upto(session: Session) -> int:
    """The highest number below which every journal is sealed; 0 before the first seal."""
    return int(
        session.execute(
            text(f"""
                SELECT least((SELECT number - 1 FROM ({_OPEN}) o ORDER BY number LIMIT 1),
                             coalesce((SELECT max(last) FROM unnest({_LASTS}) AS u (last)), 0))"""),
            {"most": 1},
        ).scalar_one()
    )


def heads(session: Session) -> list[Head]:
    """The end of each shard's chain, by shard; a shard that holds nothing has none. Keep them outside the database."""
    rows = session.execute(
        text("""
            SELECT s.* FROM generate_series(0, :shards - 1) AS n (shard) CROSS JOIN LATERAL (
                SELECT * FROM ledger_seals WHERE shard = n.shard ORDER BY ordinal DESC LIMIT 1) s
            ORDER BY s.shard"""),
        {"shards": SHARDS},
    )
    return [Head(r.shard, r.ordinal, r.last_number, r.journals, bytes(r.head).hex(), r.sealed_at) for r in rows]


def check_heads(session: Session, exported: Sequence[Head]) -> list[Violation]:
    """Does the chain still contain these heads? No history that was cut off or written anew does, however well.

    It shows that the chain goes through them; that the chain fits the books, `check_chain` shows.
    """
    wrong = []
    for head in sorted(exported, key=lambda head: (head.number, head.shard)):
        row = session.execute(
            text("""
                SELECT l.hash, s.ordinal, s.journals FROM (SELECT) none
                LEFT JOIN ledger_links l ON l.number = :number
                LEFT JOIN ledger_seals s ON s.shard = :shard AND s.last_number = :number"""),
            {"number": head.number, "shard": head.shard},
        ).one()
        message = None
        if row.hash is None:
            message = "the chain has no such link any more: its end was cut off"
        elif bytes(row.hash).hex() != head.hash:
            message = f"it was {head.hash} when exported, and is {bytes(row.hash).hex()}: history up to it was changed"
        elif (row.ordinal, row.journals) != (head.seal, head.journals):
            message = f"it was seal {head.seal} over {head.journals} journals, and is {row.ordinal} over {row.journals}"
        if message is not None:
            wrong.append(Violation("exported heads", f"shard {head.shard} at number {head.number}", message, 1))
    return wrong[:1] and [Violation(wrong[0].rule, wrong[0].row, wrong[0].message, len(wrong))]


# Not by a function of the database, which whoever changes rows could change as well.
_LEAF = """sha256(convert_to(json_build_array(
    1, j.number, j.id, j.tenant, j.reference, encode(j.content_hash, 'hex'), j.category,
    CAST(extract(epoch FROM j.effective_at) * 1000000 AS bigint),
    CAST(extract(epoch FROM j.booked_at) * 1000000 AS bigint),
    j.correlation_id, j.job_id, j.subject, j.metadata, j.reverses,
    (SELECT json_agg(json_build_array(e.position, e.account_id, a.code, a.asset, CAST(e.units AS text),
                                      CAST(e.balance AS text), e.version) ORDER BY e.position)
     FROM ledger_entries e LEFT JOIN ledger_accounts a ON a.id = e.account_id WHERE e.journal_number = j.number)
)::text, 'UTF8'))"""

_CHAIN = {
    "chain is unbroken": f"""
        SELECT number AS place, 0 AS position,
               coalesce('journal ' || j.id, 'journal with number ' || number)
               || ' of shard ' || number % {SHARDS} AS row,
               CASE WHEN j.id IS NULL THEN 'it was sealed, and is gone'
                    WHEN l.hash IS NULL THEN 'it stands before the last seal of its shard, and has no link'
                    ELSE 'its content and link ' || coalesce(CAST(l.former AS text), '0')
                         || ' do not give its link: what is booked is not what was sealed' END AS message
        FROM (SELECT j.number, j.id, {_LEAF} AS leaf
              FROM ledger_journals j WHERE j.number > :after AND j.number <= :upto) j
        FULL JOIN (
            SELECT c.number, c.hash, coalesce(c.former, b.number) AS former,
                   coalesce(c.before, b.hash,
                            sha256(convert_to('tallyrail ledger shard ' || c.shard, 'UTF8'))) AS before
            FROM (SELECT number, number % {SHARDS} AS shard, hash,
                         lag(number) OVER w AS former, lag(hash) OVER w AS before
                  FROM ledger_links WHERE number > :after AND number <= :upto
                  WINDOW w AS (PARTITION BY number % {SHARDS} ORDER BY number)) c
            LEFT JOIN LATERAL (
                SELECT p.number, p.hash FROM ledger_links p
                WHERE c.before IS NULL AND p.number <= :after AND p.number % {SHARDS} = c.shard
                ORDER BY p.number DESC LIMIT 1) b ON true
        ) l USING (number)
        WHERE j.id IS NULL OR l.hash <> sha256(l.before || j.leaf)
           OR (l.hash IS NULL AND number <= (SELECT max(last_number) FROM ledger_seals WHERE shard = number % {SHARDS}))
        """,
    "seals are whole": f"""
        SELECT s.last_number AS place, s.shard AS position, 'seal ' || s.shard || '.' || s.ordinal AS row,
               CASE WHEN p.ordinal IS NULL AND s.ordinal <> 1 THEN 'there is no seal before it'
                    WHEN l.hash IS DISTINCT FROM s.head THEN 'its head is not the link of number ' || s.last_number
                    ELSE 'it says ' || s.journals - coalesce(p.journals, 0) || ' journals from number '
                         || s.first_number || ', and there are ' || n.links || ' links'
                         || coalesce(' from number ' || n.low, '') END AS message
        FROM ledger_seals s
        LEFT JOIN ledger_seals p ON p.shard = s.shard AND p.ordinal = s.ordinal - 1
        LEFT JOIN ledger_links l ON l.number = s.last_number
        CROSS JOIN LATERAL (
            SELECT count(*) AS links, min(number) AS low FROM ledger_links
            WHERE number > coalesce(p.last_number, 0) AND number <= s.last_number AND number % {SHARDS} = s.shard) n
        WHERE s.last_number > :after AND s.last_number <= :upto AND (
            (p.ordinal IS NULL AND s.ordinal <> 1) OR l.hash IS DISTINCT FROM s.head
            OR s.journals - coalesce(p.journals, 0) <> n.links OR s.first_number IS DISTINCT FROM n.low)""",
}
_ENDS = {
    "seals cover the chain": f"""
        SELECT l.number AS place, n.shard AS position, 'link ' || l.number || ' of shard ' || n.shard AS row,
               'it stands behind the last seal of its shard' AS message
        FROM generate_series(0, {SHARDS - 1}) AS n (shard)
        CROSS JOIN LATERAL (
            SELECT number FROM ledger_links
            WHERE number % {SHARDS} = n.shard AND number > coalesce(
                (SELECT max(last_number) FROM ledger_seals WHERE shard = n.shard), 0)
            ORDER BY number LIMIT 1) l""",
}


RULES = (*_CHAIN, *_ENDS)


def check_chain(session: Session, after: int, upto: int) -> list[Violation]:
    """Do the journals with `after < number <= upto` give the links that they were sealed with?"""
    return found(session, _CHAIN, {"after": after, "upto": upto})


def check_ends(session: Session) -> list[Violation]:
    """Do the seals reach as far as the links?"""
    return found(session, _ENDS, {})
