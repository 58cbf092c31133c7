"""Files that are made from code and kept for readers: `python -m local.check_generated [--write]`.

Without --write it changes nothing, names each file that differs from what the code says, and exits with status 1.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import domain
from core.machine import Machine

ROOT = Path(__file__).resolve().parent.parent


def generated() -> Iterator[tuple[Path, str]]:
    """Each file with what it has to hold: the states.md of every slice of the domain that has a machine."""
    for found in pkgutil.iter_modules(domain.__path__):
        folder = Path(domain.__path__[0]) / found.name
        if found.ispkg and (folder / "states.py").exists():
            yield folder / "states.md", _states(f"domain.{found.name}.states")


def _states(module: str) -> str:
    machines: list[Machine[StrEnum]] = [
        value for value in vars(importlib.import_module(module)).values() if isinstance(value, Machine)
    ]
    parts = [f"<!-- Made from states.py by local/check_generated.py --write. -->\n\n# States: {module.split('.')[1]}\n"]
    for machine in machines:
        title = f"\n## {machine.name}\n" if len(machines) > 1 else ""
        parts.append(f"{title}\n```mermaid\n{machine.mermaid()}\n```\n")
    return "".join(parts)


def main(arguments: list[str]) -> int:
    write = arguments == ["--write"]
    if arguments and not write:
        print("usage: python -m local.check_generated [--write]", file=sys.stderr)
        return 2
    differing = [
        (path, wanted) for path, wanted in generated() if not path.exists() or path.read_text("utf-8") != wanted
    ]
    for path, wanted in differing:
        if write:
            path.write_text(wanted, "utf-8")
        print(f"{path.relative_to(ROOT)} {'written' if write else 'differs from the code: run with --write'}")
    return 0 if write or not differing else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
