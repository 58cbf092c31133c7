"""Where the children's lines go: to the terminal under the child's name, or to a file."""

import itertools
import os
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Console:
    """Prints each line behind its name, in one column and one colour a name."""

    def __init__(self, names: Iterable[str] = (), stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._free = itertools.cycle(COLOURS)
        self._colours: dict[str, int] = {}
        self._width = max((len(name) for name in names), default=18)
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        with self._lock:
            self._width = max(self._width, len(name))
            label = f"{name:<{self._width}} |"
            if self._colour:
                colour = self._colours.setdefault(name, next(self._free))
                label = f"\x1b[{colour}m{label}\x1b[0m"
            try:
                self._stream.write(f"{label} {line}\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads any more; that must not stop the children


class LogFile:
    """Appends each line, with its time and name, to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(f"{datetime.now(UTC):%H:%M:%S.%f} {name:<18} | {line}\n")

    def close(self) -> None:
        with self._lock:
            self._file.close()
