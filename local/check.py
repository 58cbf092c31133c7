"""`make check`: everything that can be said about the code without running it. Stops at the first that fails."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHECKS = (
    ("format", ["ruff", "format", "--check", "."]),
    ("lint", ["ruff", "check", "."]),
    ("types", ["mypy"]),
    ("import rules", ["lint-imports", "--no-logo"]),
    ("migrations", ["python", "-m", "local.check_migrations"]),
    ("generated files", ["python", "-m", "local.check_generated"]),
)
"""What it is, and the command. Each name is a program of the environment; `python` runs a module of ours."""


def main() -> int:
    programs = Path(sys.executable).parent
    for name, (program, *arguments) in CHECKS:
        print(f"== {name}: {' '.join([program, *arguments])}", flush=True)
        began = time.monotonic()
        status = subprocess.run([programs / program, *arguments], cwd=ROOT, check=False).returncode
        if status != 0:
            print(f"== {name} failed", flush=True)
            return 1
        print(f"== {name} passed in {time.monotonic() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
