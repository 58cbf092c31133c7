"""Compiled contracts for the development chain. Sources beside them; README.md says how to compile again."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Artifact:
    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    """0x and hex: the creation code, to which the constructor's arguments are appended."""


@cache
def load(name: str) -> Artifact:
    """The contract of this name, whose source lies beside it."""
    content = json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
    return Artifact(name=content["name"], abi=content["abi"], bytecode=content["bytecode"])
