"""The supervisor, over real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local import leftovers
from local.process import Process, StartError
from local.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]

SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
# It speaks before it has its child: once its holder is killed, nobody reads and a word would end it.
PARENT = SLEEPER.replace("time.sleep", "import subprocess; subprocess.Popen(['sleep', '60']); time.sleep")
DEAF_PARENT = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + PARENT

SUPERVISE = """
import sys
from pathlib import Path
from local import leftovers
from local.logs import Console
from local.process import Process
from local.supervisor import Supervisor
say = Console(["quick", "slow"])
pid_file = Path(sys.argv[1])
leftovers.clear(pid_file, lambda line: say("start", line))
supervisor = Supervisor(
    [
        Process("slow", [sys.executable, "-c", sys.argv[2]], stop_timeout=5),
        Process("quick", [sys.executable, "-c", sys.argv[2]], stop_timeout=5),
    ],
    sink=say,
    pid_file=pid_file,
)
with supervisor.signals():
    supervisor.start_all()
    say("pids", " ".join(str(supervisor.process(name).pid) for name in ("slow", "quick")))
    supervisor.wait()
    supervisor.stop()
say("start", "stopped")
"""


class Lines:
    """A sink that tests can read."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def has(self, part: str) -> bool:
        return any(part in line for _, line in list(self.lines))


def eventually(holds: Callable[[], bool], within: float = 10.0) -> bool:
    ends = time.monotonic() + within
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def program(name: str, code: str, **options: object) -> Process:
    process = Process(name, [sys.executable, "-c", code], **options)  # type: ignore[arg-type]
    process.ready = lambda: "ready" in process.tail
    return process


def session_of(pid: int) -> list[int]:
    """The processes still in the session of a (possibly dead) process."""
    found = subprocess.run(["ps", "-o", "pid=", "--sid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split() if leftovers.started_at(int(word))]


def supervise(pid_file: Path, code: str) -> tuple[subprocess.Popen[str], list[int]]:
    holder = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(pid_file), code],
        env={**os.environ, "PYTHONPATH": str(ROOT), leftovers.RUN_VARIABLE: "test"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert holder.stdout is not None
    for line in holder.stdout:
        if line.startswith("pids"):
            return holder, [int(word) for word in line.split("|")[1].split()]
    pytest.fail("the supervisor did not start its children")


def test_a_dead_child_is_started_again_after_a_growing_pause_and_it_is_said() -> None:
    lines = Lines()
    supervisor = Supervisor([program("child", SLEEPER)], sink=lines)
    supervisor.start_all()
    try:
        first = supervisor.process("child").pid
        supervisor.kill("child")
        assert eventually(lambda: lines.has("child was killed by SIGKILL; starting it again in 0.5 s"))
        assert eventually(lambda: lines.has("child was started again"))
        assert supervisor.process("child").pid != first
        supervisor.kill("child", signal.SIGTERM)
        assert eventually(lambda: lines.has("child was killed by SIGTERM; starting it again in 1 s"))
    finally:
        supervisor.stop()
    assert not supervisor.names()


def test_children_of_a_killed_child_go_before_it_is_started_again() -> None:
    lines = Lines()
    supervisor = Supervisor([program("parent", PARENT)], sink=lines)
    supervisor.start_all()
    try:
        parent = supervisor.process("parent").pid
        assert parent
        assert eventually(lambda: len(session_of(parent)) == 2)
        supervisor.kill("parent")
        assert eventually(lambda: lines.has("parent was started again"))
        assert session_of(parent) == []
    finally:
        supervisor.stop()


def test_stops_in_reverse_order_and_kills_what_does_not_end() -> None:
    order = Lines()
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    print('ending', flush=True)\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(60)"
    )
    deaf = program("deaf", DEAF, stop_timeout=0.3)
    supervisor = Supervisor([program("first", code), deaf, program("last", code)], sink=order)
    supervisor.start_all()
    pid = deaf.pid
    assert pid
    supervisor.stop()
    ends = [(name, line) for name, line in order.lines if line != "ready"]
    assert ends == [
        ("last", "ending"),
        ("supervisor", "deaf did not end within 0.3 s and was killed"),
        ("first", "ending"),
    ]
    assert session_of(pid) == []


def test_a_child_that_can_not_start_says_why_in_one_sentence() -> None:
    supervisor = Supervisor([program("broken", "import nonsense")], sink=Lines())
    try:
        with pytest.raises(StartError, match="broken did not start: ModuleNotFoundError: No module named 'nonsense'"):
            supervisor.start_all()
    finally:
        supervisor.stop()


def test_one_child_can_be_halted_and_resumed() -> None:
    supervisor = Supervisor([program("child", SLEEPER)], sink=Lines())
    supervisor.start_all()
    try:
        supervisor.halt("child")
        time.sleep(0.2)
        assert not supervisor.process("child").alive()
        supervisor.resume("child")
        assert supervisor.process("child").alive()
        before = supervisor.process("child").pid
        supervisor.restart("child")
        assert supervisor.process("child").pid != before
        with pytest.raises(KeyError, match="there are: child"):
            supervisor.halt("other")
    finally:
        supervisor.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_everything_in_order(tmp_path: Path, number: signal.Signals) -> None:
    holder, pids = supervise(tmp_path / "pids.json", SLEEPER)
    with holder:
        holder.send_signal(number)
        assert holder.stdout is not None
        assert "start | stopped" in " ".join(holder.stdout.read().split())
        assert holder.wait(timeout=10) == 0
    assert [session_of(pid) for pid in pids] == [[], []]
    assert not (tmp_path / "pids.json").exists()


def test_a_second_ctrl_c_does_not_wait_for_the_grace_time(tmp_path: Path) -> None:
    holder, pids = supervise(tmp_path / "pids.json", DEAF)
    with holder:
        began = time.monotonic()
        holder.send_signal(signal.SIGINT)
        time.sleep(0.3)
        holder.send_signal(signal.SIGINT)
        assert holder.wait(timeout=10) == 0
        assert time.monotonic() - began < 4
    assert [session_of(pid) for pid in pids] == [[], []]


def test_kill_of_the_supervisor_and_a_new_start_leave_nothing_behind(tmp_path: Path) -> None:
    """Children that ignore the kernel's signal, and a grandchild that never gets one."""
    holder, pids = supervise(tmp_path / "pids.json", DEAF_PARENT)
    with holder:
        assert eventually(lambda: [len(session_of(pid)) for pid in pids] == [2, 2])
        holder.kill()
    # One leader is lost altogether: nothing but its session tells whose its child was.
    os.kill(pids[0], signal.SIGKILL)
    assert eventually(lambda: len(session_of(pids[0])) == 1)
    leftovers_before = [pid for leader in pids for pid in session_of(leader)]
    assert len(leftovers_before) == 3
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leftovers, "GRACE", 0.3)
        noted = (tmp_path / "pids.json").read_text()
        run = noted.split('"run": "')[1].split('"')[0]
        # The stack gives its run to all children; here they have the one of `supervise`.
        (tmp_path / "pids.json").write_text(noted.replace(run, "test"))
        assert leftovers.clear(tmp_path / "pids.json", said.append) == 3
    assert eventually(lambda: [session_of(pid) for pid in pids] == [[], []])
    assert len(said) == 3
    assert "was left behind by an earlier run" in said[0]


def test_children_that_obey_are_gone_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    holder, pids = supervise(tmp_path / "pids.json", SLEEPER)
    with holder:
        holder.kill()
    assert eventually(lambda: [session_of(pid) for pid in pids] == [[], []])


def test_a_stranger_with_an_old_number_is_spared(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, start_new_session=True) as stranger:
        process = Process("ours", ["true"])
        process._popen = stranger
        leftovers.record(tmp_path / "pids.json", "run", [process])
        noted = (tmp_path / "pids.json").read_text()
        started = leftovers.started_at(stranger.pid)
        assert started
        (tmp_path / "pids.json").write_text(noted.replace(f'"{started}"', '"1"'))
        assert leftovers.clear(tmp_path / "pids.json", lambda _: None) == 0
        assert stranger.poll() is None
        stranger.kill()
