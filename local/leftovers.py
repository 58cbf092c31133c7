"""Which processes a stack has, written down, so that the next start can end those that an unclean end left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from local.process import Process

RUN_VARIABLE = "TALLYRAIL_RUN"
"""In every child's environment. Tells our orphans from strangers that happen to have an old number of ours."""
GRACE = 10.0


def record(path: Path, run: str, processes: Iterable[Process]) -> None:
    """Write down what runs now, whole or not at all."""
    rows = [
        {"name": process.name, "pid": pid, "started": started_at(pid), "signal": int(process.stop_signal)}
        for process in processes
        if (pid := process.pid) is not None and process.alive()
    ]
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"boot": _boot(), "run": run, "processes": rows}))
    part.replace(path)


def clear(path: Path, say: Callable[[str], None]) -> int:
    """End what the file names and still runs: asked first, killed after a grace time. Returns how many there were."""
    try:
        noted = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):  # a torn file is of an older, non-atomic time: nothing to go by
        return 0
    if noted.get("boot") != _boot():  # the machine was restarted: those numbers mean nothing now
        return 0
    left: dict[int, int] = {}
    for row in noted["processes"]:
        if started_at(row["pid"]) == row["started"] is not None:
            say(f"{row['name']} (process {row['pid']}) was left behind by an earlier run: ending it")
            left[row["pid"]] = row["signal"]
    for pid in _orphans(noted["run"], {row["pid"] for row in noted["processes"]}):
        if pid not in left:
            say(f"process {pid} was left behind by a dead parent of an earlier run: ending it")
            left[pid] = signal.SIGKILL  # without its parent there is nothing it could finish in order
    for pid, number in left.items():
        _kill(pid, number)
    ends = time.monotonic() + GRACE
    while (alive := [pid for pid in left if started_at(pid)]) and time.monotonic() < ends:
        time.sleep(0.05)
    for pid in alive:
        _kill(pid, signal.SIGKILL)
    path.unlink(missing_ok=True)
    return len(left)


def started_at(pid: int) -> str | None:
    """When the process started, as the system tells it, or None if there is none: with the number, its identity."""
    if not sys.platform.startswith("linux"):
        done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return done.stdout.strip() or None
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on: the second may hold anything, blanks and brackets included."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _orphans(run: str, sessions: set[int]) -> list[int]:
    """Processes of that run in the session of a recorded one, which outlived it: such as a dead worker's children."""
    if not sys.platform.startswith("linux"):
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        fields = _stat(int(entry.name))
        if fields is None or fields[0] in "ZX" or int(fields[3]) not in sessions:
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{RUN_VARIABLE}={run}".encode() in environment:
            found.append(int(entry.name))
    return found


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
        if number == signal.SIGKILL and os.getpgid(pid) == pid:
            os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
