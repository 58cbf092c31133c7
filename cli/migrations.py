"""`tallyrail migrate`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from cli.output import say
from config import settings
from core import db
from core.errors import NotFoundError
from ledger.assets import sync_assets

ROOT = Path(__file__).resolve().parent.parent


def migrate() -> None:
    """Upgrade to head as the schema's owner, then add the registry's assets as everybody else."""
    ini = ROOT / "alembic.ini"
    if not ini.is_file():
        raise NotFoundError(f"the migrations were not shipped with this installation: {ini} does not exist")
    config = Config(ini)
    url = settings.servers().owner_url
    before = _revision(url)
    command.upgrade(config, "head")
    head = ScriptDirectory.from_config(config).get_current_head()
    say(f"The schema is at {head}." if before == head else f"The schema went from {before or 'nothing'} to {head}.")
    with db.transaction() as session:
        added = sync_assets(session)
    say(f"The ledger knows {added} more assets." if added else "The ledger knows every asset of the registry.")


def _revision(url: str) -> str | None:
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return None if found is None else str(found)
