"""State machines as tables: state -> event -> state. What the table doesn't say can't happen."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from core.errors import InvariantError

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True)
class Machine(Generic[S]):
    """One table per concern. `then` is the only way a state changes."""

    name: str
    initial: S
    edges: Mapping[S, Mapping[str, S]]

    def then(self, state: S, event: str) -> S:
        """The state after the event. Raises InvariantError if the table has no such edge: our code is wrong."""
        try:
            return self.edges[state][event]
        except KeyError:
            raise InvariantError(f"{self.name}: no way from {state} by {event!r}") from None

    def can(self, state: S, event: str) -> bool:
        return event in self.edges.get(state, {})

    def states(self) -> list[S]:
        """Every state in the order in which the table first names it."""
        seen: dict[S, None] = {self.initial: None}
        for state, events in self.edges.items():
            seen[state] = None
            seen.update(dict.fromkeys(events.values()))
        return list(seen)

    def terminal(self) -> set[S]:
        return {state for state in self.states() if not self.edges.get(state)}

    def mermaid(self) -> str:
        """The diagram kept beside the table; `make check` compares the two."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        for state, events in self.edges.items():
            lines += [f"    {state} --> {after}: {event}" for event, after in events.items()]
        lines += [f"    {state} --> [*]" for state in self.states() if state in self.terminal()]
        return "\n".join(lines)
