"""Clients that post to other stripes of an account than each other."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from core import db
from ledger import balances
from ledger.balances import JournalRecord
from ledger.chart import STRIPES
from ledger.posting import Journal, post


@contextmanager
def three_clients() -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        found: dict[int, Connection] = {}
        while len(found) < 3:
            connection = stack.enter_context(db.engine().connect())
            # Which stripe a session posts to is the ledger's business: see ledger_post.
            found[connection.execute(text("SELECT pg_backend_pid()")).scalar_one() % STRIPES] = connection
            connection.commit()
        yield list(found.values())


def posted_by(client: Connection, journal: Journal) -> JournalRecord:
    """Post it in a transaction of this client's own."""
    with Session(client) as session:
        post(session, journal)
        session.commit()
        made = balances.journal(session, journal.tenant, reference=journal.reference)
        session.commit()
    assert made is not None
    return made
