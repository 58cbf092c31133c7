"""A rule of the books that does not hold, and how it is found: one statement, which names the first wrong row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    row: str
    """The first wrong row."""
    message: str
    count: int
    """How many rows break the rule."""

    def __str__(self) -> str:
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"{self.rule}: {self.row}: {self.message}{more}"


def found(session: Session, checks: Mapping[str, str], parameters: Mapping[str, Any]) -> list[Violation]:
    """Run each check, a query for (place, position, row, message) of every wrong row, and keep the first."""
    wrong = []
    for rule, check in checks.items():
        query = f"SELECT row, message, count(*) OVER () AS rows FROM ({check}) c ORDER BY place, position, row LIMIT 1"  # noqa: S608  # constants
        first = session.execute(text(query), parameters).one_or_none()
        if first is not None:
            wrong.append(Violation(rule, first.row, first.message, first.rows))
    return wrong


def merged(parts: Iterable[Violation]) -> list[Violation]:
    """One violation a rule, out of those of several ranges in their order: the first row, and all counted."""
    rules: dict[str, Violation] = {}
    for part in parts:
        first = rules.get(part.rule, Violation(part.rule, part.row, part.message, 0))
        rules[part.rule] = Violation(first.rule, first.row, first.message, first.count + part.count)
    return list(rules.values())
