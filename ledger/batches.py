"""Posting thousands of journals in a few statements, each as `posting.post` would one after the other.

A journal that can't be booked is reported by name and does not sink the others, unless all or nothing is asked for.
Few writers with large batches beat many: two batches at once wait for each other where they share an account.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import db
from core.errors import InvalidRequestError, TallyrailError, TransientError
from core.ids import new_id
from ledger import calls
from ledger.calls import Scalar
from ledger.errors import BatchRefusedError
from ledger.posting import RACE, Journal, Posted, again, check, keys_of, scalar_of, settled

JOURNALS_MAX, POSTINGS_MAX = 1_000, 5_000
"""To a statement: what bounds the memory of a batch, here and in the database."""
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one journal: either `posted` or why not."""

    reference: str
    posted: Posted | None
    error: TallyrailError | None = None


def post_all(session: Session, journals: Sequence[Journal], *, whole: bool = False) -> list[Outcome]:
    """Book the journals in the caller's transaction, in order; an outcome for each, in the same order.

    `whole`: all or nothing. If any can't be booked, raises BatchRefusedError, with nothing written.
    """
    connection = session.connection()
    if not whole:
        return _outcomes(connection, journals)
    with connection.begin_nested():
        made = _outcomes(connection, journals)
        refused = [(one.reference, one.error) for one in made if one.error is not None]
        if refused:
            raise BatchRefusedError(refused, len(made))
    return made


def book_all(journals: Sequence[Journal], *, whole: bool = False) -> list[Outcome]:
    """Book the journals in a transaction of its own, as `post_all` does."""

    def once() -> list[Outcome]:
        with db.transaction() as session:
            return post_all(session, journals, whole=whole)

    return again(once)


def _outcomes(connection: Connection, journals: Sequence[Journal]) -> list[Outcome]:
    results: dict[int, Posted | TallyrailError] = {}
    sound = []
    for place, journal in enumerate(journals):
        try:
            check(journal)
        except InvalidRequestError as error:
            results[place] = error
        else:
            sound.append(place)
    for run in _runs(journals, sound):
        _post_run(connection, {place: journals[place] for place in run}, results)
    return [
        Outcome(journal.reference, result, None)
        if isinstance(result, Posted)
        else Outcome(journal.reference, None, result)
        for journal, result in zip(journals, (results[place] for place in range(len(journals))), strict=True)
    ]


def _runs(journals: Sequence[Journal], places: Sequence[int]) -> Iterator[list[int]]:
    """What may go in one statement: journals of one tenant, in order, none of which may be a repeat of another."""
    tenants: dict[str, list[int]] = {}
    for place in places:
        tenants.setdefault(journals[place].tenant, []).append(place)
    for of_tenant in tenants.values():
        run: list[int] = []
        seen: set[object] = set()
        moves = 0
        for place in of_tenant:
            journal = journals[place]
            names = {journal.reference} if journal.reverses is None else {journal.reference, journal.reverses}
            full = len(run) == JOURNALS_MAX or moves + len(journal.postings) > POSTINGS_MAX
            if run and (full or not seen.isdisjoint(names)):
                yield run
                run, seen, moves = [], set(), 0
            run.append(place)
            seen |= names
            moves += len(journal.postings)
        if run:
            yield run


def _post_run(connection: Connection, pending: dict[int, Journal], results: dict[int, Posted | TallyrailError]) -> None:
    for _ in range(_ATTEMPTS):
        try:
            with connection.begin_nested() as savepoint:
                found, opened = _attempt(connection, pending)
                refused = {place: result for place, result in found.items() if isinstance(result, TallyrailError)}
                if refused and opened:
                    # Accounts were opened, perhaps for these: without them, then. The others don't depend on them.
                    savepoint.rollback()
                    results |= refused
                    pending = {place: journal for place, journal in pending.items() if place not in refused}
                    continue
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != RACE:
                raise
            continue
        results |= found
        return
    raise TransientError("the references and accounts of a batch changed under every attempt to book it")


def _attempt(connection: Connection, pending: dict[int, Journal]) -> tuple[dict[int, Posted | TallyrailError], bool]:
    """What became of each, and whether accounts had to be opened."""
    scalar = scalar_of(connection)
    journals, places = list(pending.values()), list(pending)
    if not journals:
        return {}, False
    tenant, keys, ids = journals[0].tenant, keys_of(journals), [new_id() for _ in journals]
    answer = calls.post(scalar, tenant, journals, ids, keys)
    opened = False
    if isinstance(answer, dict):
        unknown = {asset for _, asset in keys}
        unknown -= calls.known_assets(scalar, unknown)
        strangers: dict[int, Posted | TallyrailError] = {
            place: _stranger(scalar, journal, unknown)
            for place, journal in pending.items()
            if any(move.asset in unknown for move in journal.postings)
        }
        if strangers:
            return strangers, True
        codes = list(keys)
        calls.open_accounts(scalar, tenant, [codes[place - 1] for place in answer["missing"]])
        opened = True
        answer = calls.post(scalar, tenant, journals, ids, keys)
        if isinstance(answer, dict):
            raise TransientError("the accounts of a batch can't be opened")
    made: dict[int, Posted | TallyrailError] = {
        place: Posted(journal_id, created=True) for place, journal_id in zip(places, ids, strict=True)
    }
    codes = list(keys)
    for problem in sorted(answer or (), key=lambda found: "id" in found):  # that it is booked has the last word
        place = places[problem["journal"] - 1]
        made[place] = settled(pending[place], problem, codes)
    return made, opened


def _stranger(scalar: Scalar, journal: Journal, unknown: Collection[str]) -> Posted | TallyrailError:
    """What to say of a journal in an unknown asset: that its reference is booked with other content comes first."""
    keys = keys_of([journal])
    answer = calls.post(scalar, journal.tenant, [journal], [new_id()], keys)
    if isinstance(answer, list):
        return settled(journal, min(answer, key=lambda found: "id" not in found), list(keys))
    asset = next(move.asset for move in journal.postings if move.asset in unknown)
    return InvalidRequestError(f"the asset {asset[:200]!r} is unknown", field="asset")
