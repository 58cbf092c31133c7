"""The whole platform as a stranger meets it: the demo, from nothing to balanced books, and nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import ROOT


@pytest.mark.timeout(300)
def test_the_demo_ends_with_balanced_books_and_leaves_nothing_running(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    done = subprocess.run(
        [sys.executable, "-m", "local.demo", "--data", str(data)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = data / "run" / "stack.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text()[-8_000:] if log.exists() else "")
    assert "The books balance" in done.stdout
    assert "10 winners" in done.stdout
    assert "3 webhooks, each sent twice" in done.stdout
    assert "omar saw it and agrees" in done.stdout
    assert "8 deposits and 27 balances" in done.stdout
    left = subprocess.run(["pgrep", "-f", str(data)], capture_output=True, text=True, check=False).stdout.split()
    assert left == []
