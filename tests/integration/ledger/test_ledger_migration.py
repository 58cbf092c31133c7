"""The schema is what the migrations make, from empty, whoever runs them and however many at once."""

import io
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core.db import APP_ROLE, Base
from ledger import accounts, freezes
from ledger.balances import account, balance, entries
from ledger.invariants import verify
from ledger.posting import Journal, Posting, post
from local.postgres import Postgres
from migrations.models import all_models

ROOT = Path(__file__).parents[3]


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[str]:
    """The name of a database with nothing in it."""
    name = f"empty_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url_of("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER tallyrail_owner")
        yield name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def alembic(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": url, "DATABASE_OWNER_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def with_driver(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:")


def upgrade(url: str) -> None:
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = with_driver(url)
    command.upgrade(config, "head")


BOOKS_OF_0003 = """
    INSERT INTO ledger_assets (id, scale) VALUES ('iso4217:EUR', 2);
    INSERT INTO ledger_accounts (tenant, code, asset, kind, normal_side, floor, balance, version) VALUES
        ('t', 'custody:bank:de', 'iso4217:EUR', 'asset', 'debit', NULL, -100, 1),
        ('t', 'user:1:available', 'iso4217:EUR', 'liability', 'credit', 0, 70, 2),
        ('t', 'user:2:available', 'iso4217:EUR', 'liability', 'credit', 0, 30, 1);
    INSERT INTO ledger_journals (id, tenant, reference, content_hash, category, effective_at, booked_at) VALUES
        ('00000000-0000-7000-8000-00000000000b', 't', 'first', '', 'x',
         now() - interval '3 days', now() - interval '2 days'),
        ('00000000-0000-7000-8000-00000000000a', 't', 'second', '', 'x',
         now() - interval '1 day', now() - interval '1 day');
    INSERT INTO ledger_entries (journal_id, account_id, asset, units, balance, version, position)
    SELECT '00000000-0000-7000-8000-00000000000b', id, asset, units, units, 1, place
    FROM ledger_accounts JOIN (VALUES ('custody:bank:de', -100, 0), ('user:1:available', 100, 1))
         AS v (of_code, units, place) ON code = of_code ORDER BY place;
    INSERT INTO ledger_entries (journal_id, account_id, asset, units, balance, version, position)
    SELECT '00000000-0000-7000-8000-00000000000a', id, asset, units, after, version, place
    FROM ledger_accounts JOIN (VALUES ('user:1:available', -30, 70, 0), ('user:2:available', 30, 30, 1))
         AS v (of_code, units, after, place) ON code = of_code ORDER BY place;
"""


def test_books_of_the_older_schema_are_carried_over_and_posted_to(postgres: Postgres, empty: str) -> None:
    url = postgres.url_of("tallyrail_owner", empty)
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = with_driver(url)
    command.upgrade(config, "0003")
    with psycopg.connect(url) as owner:
        owner.execute(BOOKS_OF_0003)
    command.upgrade(config, "head")
    engine = create_engine(with_driver(url), poolclass=NullPool)
    with Session(engine) as session:
        assert verify(session) == []
        [first, second] = entries(session, "t", "user:1:available").rows[::-1]
        assert [(first.number, first.reference, first.balance), (second.number, second.reference, second.balance)] == [
            (1, "first", 100),
            (2, "second", 70),
        ]
        move = Posting(source="user:1:available", destination="custody:bank:de", asset="iso4217:EUR", units=70)
        assert post(session, Journal(tenant="t", reference="third", category="x", postings=[move])).created
        assert balance(session, "t", "custody:bank:de", "iso4217:EUR") == 30
        assert verify(session) == []


FROZEN_IN_0020 = """
    INSERT INTO ledger_assets (id, scale) VALUES ('iso4217:EUR', 2);
    INSERT INTO ledger_accounts (tenant, code, asset, stripe, stripes, kind, normal_side, state)
    SELECT 't', code, 'iso4217:EUR', stripe, stripes, kind, side, state
    FROM (VALUES ('user:1:available', 0, 1, 'liability', 'credit', 'frozen'),
                 ('user:2:available', 0, 1, 'liability', 'credit', 'frozen'),
                 ('user:3:available', 0, 1, 'liability', 'credit', 'closed'),
                 ('user:4:available', 0, 1, 'liability', 'credit', 'closed'),
                 ('user:5:available', 0, 1, 'liability', 'credit', 'open'),
                 ('user:6:available', 0, 1, 'liability', 'credit', 'frozen'),
                 ('house:fees', 0, 2, 'income', 'credit', 'frozen'),
                 ('house:fees', 1, 2, 'income', 'credit', 'frozen')) v (code, stripe, stripes, kind, side, state);
    INSERT INTO ledger_account_changes (tenant, code, asset, change, before, after, reason, actor, at)
    SELECT 't', code, 'iso4217:EUR', change, jsonb_build_object('state', before), jsonb_build_object('state', after),
           'r', actor, now()
    FROM (VALUES ('user:1:available', 'freeze', 'open', 'frozen', 'tx_monitor'),
                 ('user:2:available', 'freeze', 'open', 'frozen', 'tx_monitor'),
                 ('user:2:available', 'unfreeze', 'frozen', 'open', 'ann'),
                 ('user:2:available', 'freeze', 'open', 'frozen', 'ann'),
                 ('user:3:available', 'freeze', 'open', 'frozen', 'ann'),
                 ('user:3:available', 'close', 'frozen', 'closed', 'bob'),
                 ('user:4:available', 'freeze', 'open', 'frozen', 'ann'),
                 ('user:4:available', 'unfreeze', 'frozen', 'open', 'ann'),
                 ('user:4:available', 'close', 'open', 'closed', 'bob'),
                 ('user:5:available', 'freeze', 'open', 'frozen', 'tx_monitor'),
                 ('user:5:available', 'unfreeze', 'frozen', 'open', 'ann'),
                 ('user:6:available', 'freeze', 'open', 'frozen', 'tx_monitor'),
                 ('house:fees', 'freeze', 'open', 'frozen', 'ann')) v (code, change, before, after, actor);
    INSERT INTO deposits (id, tenant, chain, asset, account, mode, address, chain_tx, state, metadata, tolerance_bps,
                          incarnation, confirmations_seen, units_recovered, units_short, freezes,
                          deadline_at, created_at, updated_at)
    SELECT ('00000000-0000-7000-8000-00000000000' || n)::uuid, 't', 'eip155:1', 'iso4217:EUR', account, 'tx', 'a', n,
           'watching', '{}', 0, 1, 0, 0, 7, freezes, now(), now(), now()
    FROM (VALUES (1, 'user:1:available', true), (2, 'user:1:available', true), (3, 'user:1:available', false),
                 (4, 'user:2:available', true), (5, 'user:5:available', true)) v (n, account, freezes);
"""


def test_who_froze_an_account_before_is_carried_over_and_back(postgres: Postgres, empty: str) -> None:
    url = postgres.url_of("tallyrail_owner", empty)
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = with_driver(url)
    command.upgrade(config, "0020")
    with psycopg.connect(url) as owner:
        owner.execute(FROZEN_IN_0020)
    command.upgrade(config, "head")
    engine = create_engine(with_driver(url), poolclass=NullPool)
    first, second = (f"deposit:00000000-0000-7000-8000-00000000000{n}" for n in (1, 2))
    held = {
        "user:1:available": [first, second],
        "user:2:available": ["person:ann"],
        "user:3:available": ["person:ann"],
        "user:4:available": [],
        "user:5:available": [],
        "user:6:available": ["person:tx_monitor"],
        "house:fees": ["person:ann"],
    }
    with Session(engine) as session:
        found = {code: [freeze.holder for freeze in freezes.of_account(session, "t", code)] for code in held}
        assert found == held
        assert verify(session) == []
        for code, state in (("user:3:available", "frozen"), ("user:4:available", "open")):
            accounts.reopen(session, tenant="t", code=code, asset="iso4217:EUR", reason="r", actor="ann")
            assert account(session, "t", code)[0].state == state
        session.rollback()
    command.downgrade(config, "0020")
    with psycopg.connect(url) as owner:
        assert owner.execute("SELECT id::text FROM deposits WHERE freezes ORDER BY id").fetchall() == [
            (holder.removeprefix("deposit:"),) for holder in (first, second)
        ]
        frozen = "SELECT ledger_control('t', 'user:1:available', 'iso4217:EUR', 'unfreeze', '{}', 'r', 'ann')"
        assert owner.execute(frozen).fetchone() is not None


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_two_upgrades_at_once_from_empty_both_succeed(postgres: Postgres, empty: str) -> None:
    url = postgres.url_of("tallyrail_owner", empty)
    for code, output in [finish(process) for process in [alembic(url, "upgrade", "head") for _ in range(2)]]:
        assert code == 0, output
    engine = create_engine(with_driver(url), poolclass=NullPool)
    with engine.connect() as connection:
        assert_in_step(connection)
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = with_driver(url)
    command.downgrade(config, "base")
    with psycopg.connect(url) as left:
        assert left.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'ledger%%'").fetchone() == (0,)


def assert_in_step(connection: object) -> None:
    all_models()
    context = MigrationContext.configure(
        connection,  # type: ignore[arg-type]
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "table" or str(name).startswith("ledger_"),
            "include_object": lambda item, _name, kind, *_: kind != "table" or item.name.startswith("ledger_"),
        },
    )
    assert compare_metadata(context, Base.metadata) == []


def test_the_statements_can_be_printed_for_a_person_to_run() -> None:
    printed = io.StringIO()
    command.upgrade(Config(ROOT / "alembic.ini", output_buffer=printed), "head", sql=True)
    assert "CREATE TABLE ledger_entries" in printed.getvalue()


def test_a_user_who_may_not_make_or_grant_the_role_is_told_what_to_do(postgres: Postgres, empty: str) -> None:
    administrator = postgres.url_of("postgres", empty)
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        connection.execute("GRANT CREATE ON SCHEMA public TO plain")
        plain = f"postgresql://plain:plain@127.0.0.1:{postgres.port}/{empty}"
        try:
            with pytest.raises(DBAPIError, match=f"HINT: .*GRANT {APP_ROLE} TO plain;"):
                upgrade(plain)
            connection.execute(f"ALTER ROLE {APP_ROLE} RENAME TO elsewhere")
            try:
                with pytest.raises(DBAPIError, match=f"CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO plain;"):
                    upgrade(plain)
            finally:
                connection.execute(f"ALTER ROLE elsewhere RENAME TO {APP_ROLE}")
            connection.execute(f"GRANT {APP_ROLE} TO plain")
            upgrade(plain)
        finally:
            connection.execute("DROP OWNED BY plain CASCADE")
            connection.execute("DROP ROLE plain")


def test_an_owner_who_may_make_roles_makes_the_missing_one(postgres: Postgres, empty: str) -> None:
    with psycopg.connect(postgres.url_of("postgres", empty), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {APP_ROLE} RENAME TO elsewhere")
        try:
            url = postgres.url_of("tallyrail_owner", empty)
            upgrade(url)
            with psycopg.connect(url, options=f"-c role={APP_ROLE}") as app:
                assert app.execute("SELECT count(*) FROM ledger_entries").fetchone() == (0,)
        finally:
            connection.execute(f"DROP OWNED BY {APP_ROLE} CASCADE")
            connection.execute(f"DROP ROLE {APP_ROLE}")
            connection.execute(f"ALTER ROLE elsewhere RENAME TO {APP_ROLE}")


def test_the_app_can_use_what_later_migrations_make(postgres: Postgres, template: str) -> None:
    with psycopg.connect(postgres.url_of("tallyrail_owner", template)) as owner:
        owner.execute("CREATE TABLE later (id bigserial PRIMARY KEY, name text)")
        owner.execute(f"SET LOCAL ROLE {APP_ROLE}")
        owner.execute("INSERT INTO later (name) VALUES ('a')")
        owner.execute("UPDATE later SET name = 'b'")
        assert owner.execute("DELETE FROM later RETURNING name").fetchall() == [("b",)]
        owner.rollback()
