"""Choosing dead letters, and doing one thing with many: planned first, then in short transactions."""

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import unified_diff
from itertools import islice
from typing import Any
from uuid import UUID

import typer
from pydantic import ValidationError
from sqlalchemy.orm import Session

from cli.output import pretty, say
from core import db, jobs
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.jobs import Job, JobStatus
from domain.dead_letter import service

CHUNK = 200
"""Letters a transaction: short enough to hold no lock for long, long enough not to pay a commit for each."""
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Filters:
    task: str | None = None
    tenant: str | None = None
    kind: str | None = None
    since: datetime | None = None

    def given(self) -> bool:
        return any(part is not None for part in (self.task, self.tenant, self.kind, self.since))

    def find(self, session: Session, limit: int) -> Sequence[Job]:
        return service.find(session, task=self.task, tenant=self.tenant, kind=self.kind, since=self.since, limit=limit)


@dataclass(frozen=True, slots=True)
class Letter:
    id: UUID
    task: str
    tenant: str
    kind: str

    @classmethod
    def of(cls, job: Job) -> "Letter":
        return cls(job.id, job.task, job.tenant, str((job.last_error or {}).get("kind", "unknown")))


@dataclass(slots=True)
class Chosen:
    """What a command is about to touch, and what it leaves alone and why."""

    letters: list[Letter] = field(default_factory=list)
    left: dict[UUID, str] = field(default_factory=dict)
    more: bool = False
    """There are more than the limit let through."""


def choose(ids: Sequence[UUID], filters: Filters, *, every: bool, limit: int, runnable: bool) -> Chosen:
    """The letters, in the order of their ids. Raises NotFoundError for an id that no job has, and chooses nothing."""
    if bool(ids) + (filters.given() or every) != 1:
        raise typer.BadParameter("name letters by their ids, or choose them by filters, or take --all")
    chosen = Chosen()
    with db.transaction() as session:
        if ids:
            found = [_get(session, job_id) for job_id in sorted(set(ids))]
        else:
            found = list(filters.find(session, limit + 1))
            chosen.more, found = len(found) > limit, found[:limit]
    for job in found:
        if job.current is not JobStatus.DEAD:
            chosen.left[job.id] = f"it is {job.status}, not dead"
        elif runnable and job.queue == UNREADABLE:
            chosen.left[job.id] = "it is a message without a job: there is nothing to run"
        else:
            chosen.letters.append(Letter.of(job))
    return chosen


def _get(session: Session, job_id: UUID) -> Job:
    job = jobs.get(session, job_id)
    if job is None:
        raise NotFoundError(f"there is no job {job_id}")
    return job


@dataclass(frozen=True, slots=True)
class Edit:
    """New arguments for one letter, which its task understands."""

    before: Mapping[str, Any]
    after: dict[str, Any]

    @property
    def diff(self) -> str:
        lines = unified_diff(
            pretty(self.before).splitlines(), pretty(self.after).splitlines(), "before", "after", lineterm=""
        )
        return "\n".join(lines)


def edit(job_id: UUID, text: str) -> Edit:
    """Raises InvalidRequestError unless the text is JSON that the letter's task takes as its arguments."""
    try:
        after = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise InvalidRequestError(f"--args is not JSON: {error}", field="args") from None
    if not isinstance(after, dict):
        raise InvalidRequestError("--args must be a JSON object: the arguments by name", field="args")
    with db.transaction() as session:
        job = _get(session, job_id)
    spec = _tasks().get(job.task)
    if spec is None:
        raise InvalidRequestError(f"there is no task {job.task!r} in this version", field="task")
    try:
        spec.validate(after)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise InvalidRequestError(f"{job.task} does not take these arguments: {faults}", field="args") from None
    return Edit(dict(job.args), after)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _tasks() -> Mapping[str, Any]:
    """Every task of this version. Slow to import, hence only here."""
    import tasks
    from tasks.base import TASKS

    for module in pkgutil.iter_modules(tasks.__path__):
        importlib.import_module(f"tasks.{module.name}")
    return TASKS


Act = Callable[[Session, UUID, timedelta], object]
"""Does the thing to one letter. The span is how long after now it may run."""


def act(chosen: Chosen, one: Act, *, pause: timedelta = timedelta(0)) -> int:
    """Do it to each letter, a chunk at a time, and say how many. A letter that somebody else was quicker with is left.

    Each chunk is committed by itself, so an interruption loses at most one: the same command does the rest.
    """
    done, total = 0, len(chosen.letters)
    remaining = iter(chosen.letters)
    started = 0
    try:
        for chunk in _chunks(remaining):
            left: dict[UUID, str] = {}
            with db.transaction() as session:
                for place, letter in enumerate(chunk, start=started):
                    try:
                        one(session, letter.id, pause * place)
                    except (ConflictError, NotFoundError) as error:  # raised before anything was written
                        left[letter.id] = str(error)
            started += len(chunk)
            done += len(chunk) - len(left)
            chosen.left |= left
            if total > CHUNK:
                say(f"{started} of {total}")
    except BaseException:
        say(f"Stopped: {done} of {total} are done. The same command does the rest.")
        raise
    return done


def _chunks(letters: Iterator[Letter]) -> Iterator[list[Letter]]:
    while chunk := list(islice(letters, CHUNK)):
        yield chunk
