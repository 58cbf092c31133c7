"""What other slices have for this one: brought along by whoever wires it, as slices don't know each other."""

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.orm import Session

from core.errors import InvariantError


class Owner(Protocol):
    def __call__(self, session: Session, reference: str, /) -> str | None:
        """The tenant in whose name a reference was made; None: nobody knows it."""


class Tell(Protocol):
    def __call__(self, session: Session, *, provider: str, reference: str) -> None:
        """The provider would now say something else of this reference. Writes a job, and calls nobody."""


@dataclass(frozen=True, slots=True)
class Ports:
    owner: Owner
    tell: Tell


_ports: list[Ports] = []


def use(ports: Ports) -> None:
    _ports[:] = [ports]


def ports() -> Ports:
    if not _ports:
        raise InvariantError("nobody has said who asks for transfers on chains")
    return _ports[0]
