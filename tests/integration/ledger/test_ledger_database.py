"""What the database refuses by itself, whoever asks and whatever our code does."""

from collections.abc import Iterator, Sequence

import psycopg
import pytest

from core.db import APP_ROLE
from local.postgres import Postgres
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, USDT, book

Users = dict[str, psycopg.Connection]
OPEN = "INSERT INTO ledger_accounts (tenant, code, asset, kind, normal_side)"
REWRITES = (
    "UPDATE ledger_journals SET category = 'x'",
    "DELETE FROM ledger_journals",
    "TRUNCATE ledger_journals CASCADE",
    "UPDATE ledger_entries SET units = units",
    "UPDATE ledger_entries SET units = 0 WHERE false",
    "DELETE FROM ledger_entries",
    "TRUNCATE ledger_entries",
)


@pytest.fixture
def connect(postgres: Postgres, database_url: str, books: str) -> Iterator[Users]:
    """A connection for each kind of user, beside books that hold one journal."""
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 10))
    database = database_url.rsplit("/", 1)[1]
    made = {
        "app": psycopg.connect(postgres.url_of("tallyrail_login", database), options=f"-c role={APP_ROLE}"),
        "owner": psycopg.connect(postgres.url_of("tallyrail_owner", database)),
        "superuser": psycopg.connect(postgres.url_of("postgres", database)),
    }
    yield made
    for connection in made.values():
        connection.close()


def refuses(subtests: pytest.Subtests, connection: psycopg.Connection, change: str, match: str) -> None:
    with (
        subtests.test(change, user=connection.info.user),
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.IntegrityError), match=match),
    ):
        connection.execute(change)
    connection.rollback()


def test_the_apps_role_has_no_privilege_to_rewrite_the_books(connect: Users, subtests: pytest.Subtests) -> None:
    for change in REWRITES:
        refuses(subtests, connect["app"], change, "permission denied for table ledger_")


def test_triggers_refuse_to_rewrite_the_books_for_everybody(connect: Users, subtests: pytest.Subtests) -> None:
    for user in ("owner", "superuser"):
        for change in (*REWRITES, "TRUNCATE ledger_accounts CASCADE", "TRUNCATE ledger_assets CASCADE"):
            refuses(subtests, connect[user], change, "is append-only: book a reversal instead of")


def test_the_apps_role_may_move_balances_and_nothing_else(connect: Users, subtests: pytest.Subtests) -> None:
    for change in (
        "UPDATE ledger_accounts SET floor = NULL",
        "UPDATE ledger_accounts SET code = 'user:eve:available'",
        "UPDATE ledger_accounts SET normal_side = 'debit'",
        "DELETE FROM ledger_accounts",
        "TRUNCATE ledger_accounts CASCADE",
        "UPDATE ledger_assets SET scale = 2",
        "DELETE FROM ledger_assets",
        "UPDATE alembic_version SET version_num = 'x'",
        "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "DROP TRIGGER ledger_entries_whole ON ledger_entries",
        "SET session_replication_role = replica",
        "CREATE TABLE mine (id int)",
    ):
        refuses(subtests, connect["app"], change, "permission denied|must be owner")


def test_hand_made_entries_must_be_a_whole_and_balanced_journal(
    books: str, connect: Users, subtests: pytest.Subtests
) -> None:
    book(books, "open:1", b.move(CUSTODY, BOB, 1), b.move(CUSTODY, BOB, 1, USDT), b.move(CUSTODY, ALICE, 1, USDT))
    for rows, error in (
        ([(ALICE, ETH, 5, 0)], "does not balance"),
        ([(ALICE, ETH, -5, 0), (BOB, ETH, 4, 1)], "does not balance"),
        ([(ALICE, ETH, -5, 0), (BOB, USDT, 5, 1)], "does not balance"),
        ([(ALICE, ETH, -5, 1), (BOB, ETH, 5, 2)], "written once and whole"),
        ([(ALICE, ETH, -5, 0), (BOB, ETH, 5, 2)], "written once and whole"),
        ([(ALICE, ETH, -5, 0), (BOB, ETH, 5, 0)], "uq_ledger_entries_journal_id_position"),
        ([(ALICE, ETH, 0, 0), (BOB, ETH, 0, 1)], "ck_ledger_entries_units"),
    ):
        with subtests.test(rows=rows), pytest.raises(psycopg.errors.IntegrityError, match=error):
            by_hand(connect["app"], rows)
        connect["app"].rollback()
    by_hand(connect["app"], [(ALICE, ETH, -5, 0), (BOB, ETH, 5, 1)])  # a right one passes


def test_nothing_is_added_to_a_journal_later(books: str, connect: Users) -> None:
    posted = book(books, "open:1", b.move(CUSTODY, BOB, 1))
    for (first, second), error in (
        ((2, 3), "written once and whole"),
        ((0, 1), "uq_ledger_entries_journal_id_position"),
    ):
        with pytest.raises(psycopg.errors.IntegrityError, match=error):
            by_hand(connect["app"], [(ALICE, ETH, -5, first), (BOB, ETH, 5, second)], str(posted.id))
        connect["app"].rollback()


def test_an_entry_is_in_its_accounts_asset(books: str, connect: Users) -> None:
    book(books, "open:1", b.move(CUSTODY, BOB, 1))
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="fk_ledger_entries_account_id_asset"):
        by_hand(connect["app"], [(ALICE, ETH, -5, 0), (BOB, ETH, 5, 1)], written=USDT)


def test_accounts_keep_their_constraints(books: str, connect: Users, subtests: pytest.Subtests) -> None:
    book(books, "undo:1", b.move("user:alice:owed", CUSTODY, 5))
    for change, constraint in (
        (f"UPDATE ledger_accounts SET balance = -1 WHERE code = '{ALICE}'", "ck_ledger_accounts_floor"),
        # Debit-normal: what is owed is below its floor when the raw balance is above zero.
        ("UPDATE ledger_accounts SET balance = 1 WHERE code = 'user:alice:owed'", "ck_ledger_accounts_floor"),
        ("UPDATE ledger_accounts SET version = -1", "ck_ledger_accounts_version"),
        (
            f"{OPEN} SELECT tenant, code, asset, kind, normal_side FROM ledger_accounts WHERE code = '{ALICE}'",
            "uq_ledger_accounts_tenant_code_asset",
        ),
        (f"{OPEN} VALUES ('t', 'c', '{ETH}', 'gold', 'debit')", "ck_ledger_accounts_kind"),
        (f"{OPEN} VALUES ('t', 'c', 'unknown', 'asset', 'debit')", "fk_ledger_accounts_asset"),
    ):
        refuses(subtests, connect["app"], change, constraint)


def by_hand(
    connection: psycopg.Connection,
    rows: Sequence[tuple[str, str, int, int]],
    journal: str = "00000000-0000-7000-8000-000000000001",
    written: str | None = None,
) -> None:
    """Insert entries without the ledger's code: (code, asset, units, position). `written`: another asset to claim."""
    connection.execute(
        """INSERT INTO ledger_journals (id, tenant, reference, content_hash, category, effective_at, booked_at)
           VALUES (%s, 't', 'by hand', '', 'x', now(), now()) ON CONFLICT DO NOTHING""",
        [journal],
    )
    values = ", ".join(
        f"((SELECT id FROM ledger_accounts WHERE code = '{code}' AND asset = '{asset}'), "
        f"'{written or asset}', {units}, {100 + position}, {position})"
        for code, asset, units, position in rows
    )
    connection.execute(
        f"""INSERT INTO ledger_entries (journal_id, account_id, asset, units, balance, version, position)
            SELECT '{journal}', id, asset, units, 0, version, position
            FROM (VALUES {values}) AS v (id, asset, units, version, position)"""
    )
