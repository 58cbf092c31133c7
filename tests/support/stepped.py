"""The steps at which a process can be killed: just before and just after each commit and each reading of a chain."""

from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from chains.base import ChainReader

Step = Callable[[], None]


def at_commits(step: Step) -> None:
    """Of this process, from now on."""

    @event.listens_for(Engine, "commit")
    def before(_: Connection) -> None:
        step()

    @event.listens_for(Session, "after_commit")
    def after(_: Session) -> None:
        step()


def stepped(reader: ChainReader, step: Step) -> ChainReader:
    """The reader, whose every call is two steps."""
    return cast("ChainReader", _SteppedReader(reader, step))


class _SteppedReader:
    def __init__(self, reader: ChainReader, step: Step) -> None:
        self._reader = reader
        self._step = step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._step()
            answer = found(*args, **kwargs)
            self._step()
            return answer

        return call
