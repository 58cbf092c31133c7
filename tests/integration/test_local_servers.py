"""The embedded servers: real ones, durable, and never left behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from local import identity
from local.anvil import Anvil, RpcError
from local.identity import NOBODY
from local.postgres import Postgres
from local.process import LAUNCH, StartError
from local.server import Server, free_port
from local.valkey import Valkey

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys, time
from local.postgres import Postgres
from local.valkey import Valkey
servers = [Postgres(sys.argv[1] + "/postgres").start(), Valkey(sys.argv[1] + "/valkey").start()]
print(*(server.process.pid for server in servers), flush=True)
if sys.argv[2] == "hold":
    time.sleep(60)
for server in servers:
    server.stop()
"""


def new_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="tallyrail-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


folder = pytest.fixture(new_folder)
# For tests that mind no earlier data: making a database cluster anew costs more than the rest of a test.
used = pytest.fixture(new_folder, scope="module")


def eventually(holds: Callable[[], bool], within: float = 10.0) -> bool:
    ends = time.monotonic() + within
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def hold(folder: Path, mode: str, before: list[str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*(before or []), sys.executable, "-c", HOLD, str(folder), mode],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_postgres_keeps_its_data_port_and_passwords_over_a_restart(used: Path) -> None:
    with Postgres(used / "postgres") as server:
        first_url = server.url
        with psycopg.connect(server.owner_url) as connection:
            connection.execute("CREATE TABLE kept (note text)")
            connection.execute("INSERT INTO kept VALUES ('here')")
    assert not server.alive()
    with Postgres(used / "postgres") as server, psycopg.connect(server.owner_url) as connection:
        assert server.url == first_url
        assert connection.execute("SELECT note FROM kept").fetchone() == ("here",)
        settings = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            for name in ("fsync", "synchronous_commit", "max_connections", "listen_addresses")
        }
    assert settings == {
        "fsync": ("on",), "synchronous_commit": ("on",), "max_connections": ("200",),
        "listen_addresses": ("127.0.0.1",),
    }  # fmt: skip
    assert (used / "postgres" / "tallyrail_login.password").stat().st_mode & 0o777 == 0o600


def test_postgres_lets_nobody_in_without_the_password(used: Path) -> None:
    with Postgres(used / "postgres") as server:
        assert server._password("tallyrail_login") in server.url
        wrong = server.url.replace(server._password("tallyrail_login"), "guess")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        with psycopg.connect(server.url, options="-c role=tallyrail_app") as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("tallyrail_app",)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("CREATE ROLE thief")


def test_postgres_starts_after_being_killed_though_its_number_went_to_another(used: Path) -> None:
    server = Postgres(used / "postgres").start()
    pid_file = used / "postgres" / "cluster" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    assert server.process is not None
    server.process.signal(signal.SIGKILL)
    assert eventually(lambda: not server.alive())
    server.stop()
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]))
    with Postgres(used / "postgres") as again, psycopg.connect(again.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_valkey_keeps_what_it_answered_though_killed(folder: Path) -> None:
    server = Valkey(folder / "valkey").start()
    url = server.url
    with Redis.from_url(url) as client:
        client.set("kept", "here")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert server.process is not None
    server.process.signal(signal.SIGKILL)
    assert eventually(lambda: not server.alive())
    server.stop()
    with Valkey(folder / "valkey") as again, Redis.from_url(again.url) as client:
        assert again.url == url
        assert client.get("kept") == b"here"


def test_anvil_mines_forgets_in_a_reorg_and_keeps_its_chain(folder: Path) -> None:
    with Anvil(folder / "anvil", chain_id=1337, automine=False) as node:
        payer, payee = node.rpc("eth_accounts")[:2]
        payment = {"from": payer, "to": payee, "value": "0x1"}
        dropped = node.rpc("eth_sendTransaction", payment)
        node.drop(dropped)
        sent = node.rpc("eth_sendTransaction", payment)
        assert node.rpc("eth_getTransactionReceipt", sent) is None
        node.mine(3)
        assert node.rpc("eth_getTransactionReceipt", sent)["status"] == "0x1"
        assert int(node.rpc("eth_getBlockByNumber", "finalized", False)["number"], 16) == 1
        node.reorg(3)
        assert node.rpc("eth_getTransactionReceipt", sent) is None
        stranger = "0x" + "11" * 20
        node.impersonate(stranger)
        node.rpc("anvil_setBalance", stranger, hex(10**18))
        node.rpc("eth_sendTransaction", {"from": stranger, "to": payee, "value": "0x1"})
        with pytest.raises(RpcError, match="eth_nonsense"):
            node.rpc("eth_nonsense")
    with Anvil(folder / "anvil", chain_id=1337) as again:
        assert int(again.rpc("eth_blockNumber"), 16) == 3
    (folder / "anvil" / "state.json").write_text('{"torn": ')
    with Anvil(folder / "anvil", chain_id=1337) as afresh:
        assert int(afresh.rpc("eth_blockNumber"), 16) == 0


def test_servers_end_when_their_holder_is_killed(used: Path) -> None:
    with hold(used, "hold") as holder:
        assert holder.stdout is not None
        pids = [int(pid) for pid in holder.stdout.readline().split()]
        holder.kill()
    assert len(pids) == 2
    assert eventually(lambda: all(gone(pid) for pid in pids))
    # In good order, and not just gone.
    assert not (used / "postgres" / "cluster" / "postmaster.pid").exists()


def test_servers_run_for_a_user_who_is_not_root(folder: Path) -> None:
    if os.geteuid() != 0:
        with hold(folder, "stop") as holder:
            assert holder.wait(timeout=30) == 0
        return
    launch = [sys.executable, "-I", "-S", str(LAUNCH)]
    other = [*launch, "--user", f"{NOBODY}:{NOBODY}", "--"]
    # Only where this environment can be entered by others; else as nobody in a namespace.
    if subprocess.run([*other, sys.executable, "-c", "import psycopg"], capture_output=True, check=False).returncode:
        other = [*launch, "--map", str(NOBODY), "--"]
    else:
        os.chown(folder, NOBODY, NOBODY)
    with hold(folder, "stop", other) as holder:
        assert holder.wait(timeout=30) == 0
    # And root can take the same folder over.
    with Postgres(folder / "postgres") as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_postgres_runs_as_nobody_where_namespaces_are_forbidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        return  # an ordinary user needs no namespace
    works = identity._works
    monkeypatch.setattr(identity, "_works", lambda options, *rest: "--map" not in options and works(options, *rest))
    for _ in range(2):
        with Postgres(folder / "postgres") as server, psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert (folder / "postgres" / "cluster").stat().st_uid == NOBODY


def test_postgres_runs_under_a_folder_that_only_its_owner_may_enter(used: Path) -> None:
    used.chmod(0o700)
    with Postgres(used / "postgres") as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("kind", [Postgres, Valkey])
def test_a_taken_port_is_refused_if_asked_for_and_else_replaced(
    folder: Path, kind: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Valkey(folder / "other") as other:
        with pytest.raises(StartError, match=f"port {other.port}, asked for by .*, is taken"):
            kind(folder / "mine", port=other.port).start()
        # Taken between our look and the server's own attempt.
        answers = iter([other.port])
        monkeypatch.setattr("local.server.free_port", lambda wanted=None: next(answers, None) or free_port(wanted))
        with kind(folder / "mine") as server:
            assert server.port != other.port


def test_two_servers_on_one_folder_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.server.LOCK_TIMEOUT", 0.1)
    with Valkey(folder / "valkey"), pytest.raises(StartError, match="another valkey server is running on"):
        Valkey(folder / "valkey").start()
