"""Do the migrations make exactly the tables that the models declare? Asked of a fresh PostgreSQL."""

import os
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from local.postgres import Postgres
from local.processes import ROOT


def main() -> int:
    config = Config(ROOT / "alembic.ini")
    heads = ScriptDirectory.from_config(config).get_heads()
    if len(heads) != 1:
        print(f"migrations: there are {len(heads)} heads, {', '.join(heads)}: put them in one line", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="tallyrail-check-") as folder, Postgres(Path(folder)) as server:
        os.environ.update(
            DATABASE_URL=server.url, DATABASE_OWNER_URL=server.owner_url, REDIS_URL="redis://127.0.0.1:1/0"
        )
        command.upgrade(config, "head")
        try:
            command.check(config)
        except CommandError as error:
            print(f"migrations: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
