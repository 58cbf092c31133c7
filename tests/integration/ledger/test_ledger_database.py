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
        for change in (*REWRITES, "TRUNCATE ledger_assets CASCADE"):
            refuses(subtests, connect[user], change, "is append-only: book a reversal instead of|kept for ever")


def test_the_apps_role_writes_the_books_through_their_functions_only(connect: Users, subtests: pytest.Subtests) -> None:
    for change in (
        "INSERT INTO ledger_accounts (tenant, code, asset, kind, normal_side) VALUES ('t', 'c', 'a', 'asset', 'debit')",
        "INSERT INTO ledger_journals (id) VALUES (gen_random_uuid())",
        "INSERT INTO ledger_entries (journal_number, position) VALUES (1, 0)",
        "UPDATE ledger_accounts SET balance = balance",
        "UPDATE ledger_accounts SET held = 0",
        "UPDATE ledger_accounts SET floor = NULL",
        "UPDATE ledger_accounts SET state = 'open'",
        "DELETE FROM ledger_freezes",
        "INSERT INTO ledger_freezes (tenant, code, asset, holder, change_id) VALUES ('t', 'c', 'a', 'h', 1)",
        "SELECT FROM ledger_accounts FOR UPDATE",
        "DELETE FROM ledger_accounts",
        "TRUNCATE ledger_accounts CASCADE",
        "UPDATE ledger_assets SET scale = 2",
        "DELETE FROM ledger_assets",
        "UPDATE alembic_version SET version_num = 'x'",
        "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "DROP TRIGGER ledger_entries_whole ON ledger_entries",
        "SET session_replication_role = replica",
        "CREATE TABLE mine (id int)",
        "SELECT ledger_let_go(1)",
        "SELECT ledger_standing('open', '{}')",
        "SELECT nextval('ledger_journals_number_seq')",
    ):
        refuses(subtests, connect["app"], change, "permission denied|must be owner")


def test_a_schema_of_the_callers_cant_stand_in_for_ours(connect: Users, books: str) -> None:
    """The functions run with the owner's rights, so what their names mean must not be the caller's to choose."""
    app = connect["app"]
    app.execute("SET search_path TO pg_temp")
    app.execute("CREATE TEMP TABLE ledger_accounts (id bigint)")
    assert app.execute("SELECT public.ledger_lock(%s, %s, %s)", [books, ALICE, ETH]).fetchone() == ("",)
    paths = app.execute(
        """SELECT oid::regprocedure::text, proconfig::text FROM pg_proc
           WHERE prosecdef AND pronamespace = 'public'::regnamespace"""
    ).fetchall()
    assert len(paths) >= 4
    assert [name for name, path in paths if "search_path=public, pg_temp" not in (path or "")] == []


def test_a_locked_balance_waits(connect: Users, books: str) -> None:
    app, owner = connect["app"], connect["owner"]
    app.execute("SELECT ledger_lock(%s, %s, %s)", [books, ALICE, ETH])
    with pytest.raises(psycopg.errors.LockNotAvailable):
        owner.execute(f"SELECT FROM ledger_accounts WHERE code = '{ALICE}' FOR NO KEY UPDATE NOWAIT")


def test_entries_made_by_the_owners_hand_must_be_a_whole_and_balanced_journal(
    books: str, connect: Users, subtests: pytest.Subtests
) -> None:
    book(books, "open:1", b.move(CUSTODY, BOB, 1), b.move(CUSTODY, BOB, 1, USDT), b.move(CUSTODY, ALICE, 1, USDT))
    other = b.new_tenant()
    book(other, "open:1", b.move(CUSTODY, "user:carol:available", 1))
    for rows, error in (
        ([(ALICE, ETH, 5, 0)], "does not balance"),
        ([(ALICE, ETH, -5, 0), (BOB, ETH, 4, 1)], "does not balance"),
        ([(ALICE, ETH, -5, 0), (BOB, USDT, 5, 1)], "does not balance"),
        ([(ALICE, ETH, -5, 0), ("user:carol:available", ETH, 5, 1)], "does not balance"),
        ([(ALICE, ETH, 0, 0), (BOB, ETH, 0, 1)], "does not balance"),
        ([(ALICE, ETH, -5, 0), (BOB, ETH, 6, 1), (ALICE, ETH, -6, 2), (BOB, ETH, 5, 3)], "does not balance"),
        ([(ALICE, ETH, -5, 1), (BOB, ETH, 5, 2)], "does not balance"),
        ([(ALICE, ETH, -5, 2), (BOB, ETH, 5, 3)], "written once and whole"),
        ([(ALICE, ETH, -5, 0), (BOB, ETH, 5, 1), (ALICE, ETH, -5, 4), (BOB, ETH, 5, 5)], "written once and whole"),
        ([(ALICE, ETH, -5, 0), (BOB, ETH, 5, 0)], "pk_ledger_entries"),
    ):
        with subtests.test(rows=rows), pytest.raises(psycopg.errors.IntegrityError, match=error):
            by_hand(connect["owner"], rows)
        connect["owner"].rollback()
    by_hand(connect["owner"], [(ALICE, ETH, -5, 0), (BOB, ETH, 5, 1)])  # a right one passes


def test_no_entries_leave_an_account_out_of_its_bounds(books: str, connect: Users) -> None:
    book(books, "open:1", b.move(CUSTODY, BOB, 1))
    owner = connect["owner"]
    owner.execute(f"UPDATE ledger_accounts SET balance = -1, version = 100 WHERE code = '{ALICE}'")
    with pytest.raises(psycopg.errors.IntegrityError, match="below its floor"):
        by_hand(owner, [(ALICE, ETH, -11, 0), (BOB, ETH, 11, 1)])


def test_no_entry_is_ahead_of_its_account(books: str, connect: Users) -> None:
    book(books, "open:1", b.move(CUSTODY, BOB, 1))
    with pytest.raises(psycopg.errors.IntegrityError, match="does not balance"):
        by_hand(connect["owner"], [(ALICE, ETH, -5, 0), (BOB, ETH, 5, 1)], version=500)


def test_nothing_is_added_to_a_journal_later(books: str, connect: Users) -> None:
    book(books, "open:1", b.move(CUSTODY, BOB, 1))
    for (first, second), error in (((2, 3), "written once and whole"), ((0, 1), "pk_ledger_entries")):
        with pytest.raises(psycopg.errors.IntegrityError, match=error):
            by_hand(connect["owner"], [(ALICE, ETH, -5, first), (BOB, ETH, 5, second)], journal=1)
        connect["owner"].rollback()


def test_accounts_keep_their_constraints(books: str, connect: Users, subtests: pytest.Subtests) -> None:
    book(books, "undo:1", b.move("user:alice:owed", CUSTODY, 5))
    owed = "WHERE code = 'user:alice:owed'"
    for change, constraint in (
        (f"UPDATE ledger_accounts SET floor = 11 WHERE code = '{ALICE}'", "its bounds is impossible"),
        (f"UPDATE ledger_accounts SET held = 11 WHERE code = '{ALICE}'", "its bounds is impossible"),
        (f"UPDATE ledger_accounts SET ceiling = 9 WHERE code = '{ALICE}'", "its bounds is impossible"),
        # Debit-normal: what is owed shows 5, and stands at -5.
        (f"UPDATE ledger_accounts SET ceiling = 4 {owed}", "its bounds is impossible"),
        (f"UPDATE ledger_accounts SET floor = 6 {owed}", "its bounds is impossible"),
        (f"UPDATE ledger_accounts SET held = -1 WHERE code = '{ALICE}'", "its held is impossible"),
        (f"UPDATE ledger_accounts SET floor = 5, ceiling = 4 {owed}", "its floor is impossible"),
        (f"UPDATE ledger_accounts SET state = 'closed' WHERE code = '{ALICE}'", "its closed is impossible"),
        (f"UPDATE ledger_accounts SET state = 'gone' WHERE code = '{ALICE}'", "its state is impossible"),
        (f"UPDATE ledger_accounts SET floor = 0 WHERE code = '{CUSTODY}' AND stripe = 3", "its striped is impossible"),
        ("UPDATE ledger_accounts SET kind = 'gold'", "its kind is impossible"),
        ("UPDATE ledger_accounts SET normal_side = 'left'", "its normal_side is impossible"),
        (f"UPDATE ledger_accounts SET stripe = 1 WHERE code = '{ALICE}'", "its stripe is impossible"),
        (
            f"{OPEN} SELECT tenant, code, asset, kind, normal_side FROM ledger_accounts WHERE code = '{ALICE}'",
            "uq_ledger_accounts_tenant_code_asset_stripe",
        ),
        (f"{OPEN} VALUES ('t', 'c', 'unknown', 'asset', 'debit')", "fk_ledger_accounts_asset"),
        ("DELETE FROM ledger_accounts", "accounts are kept for ever"),
    ):
        refuses(subtests, connect["owner"], change, constraint)


def by_hand(
    connection: psycopg.Connection,
    rows: Sequence[tuple[str, str, int, int]],
    journal: int | None = None,
    version: int | None = None,
) -> None:
    """Insert entries without the ledger's code: (code, asset, units, position), with versions that nobody has."""
    if journal is None:
        journal = 1_000_000
        connection.execute(
            """INSERT INTO ledger_journals
                   (id, number, tenant, reference, content_hash, category, effective_at, booked_at)
               OVERRIDING SYSTEM VALUE
               SELECT gen_random_uuid(), %s, tenant, 'by hand', '', 'x', now(), now()
               FROM ledger_accounts WHERE code = %s LIMIT 1""",
            [journal, rows[0][0]],
        )
    connection.execute("UPDATE ledger_accounts SET version = 400")
    for_each = ", ".join(
        f"((SELECT min(id) FROM ledger_accounts WHERE code = '{code}' AND asset = '{asset}'), "
        f"{units}, {(version or 200) + position}, {position})"
        for code, asset, units, position in rows
    )
    connection.execute(
        f"""INSERT INTO ledger_entries (journal_number, account_id, units, balance, version, position, booked_at)
            SELECT {journal}, id, units, 0, version, position, now()
            FROM (VALUES {for_each}) AS v (id, units, version, position)"""
    )
