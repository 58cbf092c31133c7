"""The tables are as the models say, and go away again."""

import psycopg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from core import db
from core.db import Base
from domain.fiat_payment import models
from tests.conftest import ROOT

TABLES = {name for name in Base.metadata.tables if name.startswith("fiat_")}


def test_models_and_tables_are_in_step(database_url: str) -> None:
    assert models.FiatPayment.__tablename__ in TABLES
    with db.engine().connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "table" or str(name) in TABLES,
                "include_object": lambda item, _name, kind, *_: kind != "table" or item.name in TABLES,
            },
        )
        assert compare_metadata(context, Base.metadata) == []


def test_it_goes_down_and_up_again(database_url: str, superuser_url: str) -> None:
    def tables() -> set[str]:
        with psycopg.connect(superuser_url) as connection:
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'fiat_%'").fetchall()
            return {row[0] for row in rows}

    assert tables() == TABLES
    config = Config(ROOT / "alembic.ini")
    command.downgrade(config, "0019")
    assert tables() == set()
    command.upgrade(config, "0020")
    assert tables() == TABLES
