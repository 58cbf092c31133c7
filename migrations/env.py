"""How migrations run: as the schema's owner, one at a time, each in its own transaction."""

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from config import settings
from core.db import Base
from migrations.models import all_models

LOCK = 0x7461_6C6C_7972_6169  # "tallyrai": two upgrades at once, such as of two replicas that start, run one after the other

all_models()


def configure(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        compare_type=True,
        transaction_per_migration=True,
        literal_binds=connection is None,
    )


def run() -> None:
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    # A given URL is for tests and tools; deployments have settings.
    url = context.config.attributes.get("url") or settings.servers().owner_url
    engine = create_engine(url, poolclass=pool.NullPool, connect_args={"application_name": "tallyrail-migrations"})
    with engine.connect() as connection:
        # A session's lock: it must outlive the transaction of each migration. It goes when the connection does.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        connection.commit()
        configure(connection)
        run()
    engine.dispose()


if context.is_offline_mode():
    configure(None)
    run()
else:
    run_online()
