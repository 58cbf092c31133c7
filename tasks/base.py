"""`@task`: makes a function of ids into durable work.

A task's function is written as if it ran alone and once. This module takes its jobs by lease, runs each in its own
transaction or transactions, and turns an error into the right next step. Two shapes:

- first parameter `session`: a *local step*. The function runs inside the transaction that also ends its job, so that
  what it did and that it is done are one commit.
- otherwise: a *step with an outside call*. The function opens its own `transaction()`s, none of them around the call.
  It may run again after any of them, and its first one must find out how far it came.
"""

import inspect
import os
import random
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, get_type_hints
from uuid import UUID

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from config import settings
from config.queues import queue_of
from core import db, jobs
from core.errors import InvalidRequestError, InvariantError, OutcomeUnknownError, PermanentError, TransientError
from core.jobs import LeasedJob, LeaseLostError, transaction
from domain.dead_letter import service as dead_letters
from tasks.app import app
from tasks.leases import keeper

__all__ = ["TASKS", "TaskSpec", "task", "transaction"]

log = structlog.stdlib.get_logger(__name__)

F = TypeVar("F", bound=Callable[..., None])


class _Args(BaseModel):
    # Only what JSON can say is coerced ("<uuid>" to UUID); unknown or missing arguments are errors.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)


@dataclass(frozen=True)
class TaskSpec:
    """One task: its name, its function and the shape of its arguments."""

    name: str
    function: Callable[..., None]
    arguments: type[BaseModel]
    takes_session: bool

    def validate(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function wants them. Raises pydantic.ValidationError."""
        made = self.arguments.model_validate(args)
        return {name: getattr(made, name) for name in type(made).model_fields}


TASKS: dict[str, TaskSpec] = {}
"""Every task that this process knows, by name."""


def task(name: str) -> Callable[[F], F]:
    """Register a function as the task `name`, whose prefix is its queue. The function itself stays callable."""
    queue = queue_of(name)
    if queue is None:
        raise ValueError(f"the task {name!r} names no queue of config.queues")
    if name in TASKS:
        raise ValueError(f"there are two tasks {name!r}")

    def register(function: F) -> F:
        parameters = inspect.signature(function).parameters
        hints = get_type_hints(function)
        takes_session = next(iter(parameters), None) == "session"
        fields: dict[str, Any] = {
            key: (hints[key], ... if parameter.default is parameter.empty else parameter.default)
            for key, parameter in parameters.items()
            if key != "session"
        }
        arguments = create_model(f"{function.__name__}_arguments", __base__=_Args, **fields)
        spec = TaskSpec(name, function, arguments, takes_session)
        TASKS[name] = spec

        def run(ids: list[str]) -> None:
            try:
                parsed = [UUID(job_id) for job_id in ids]
            except (ValueError, TypeError, AttributeError) as error:
                with db.transaction() as session:
                    dead_letters.keep_message(
                        session, task=name, raw=repr(ids), error=describe(error, kind="permanent")
                    )
                raise
            run_jobs(spec, parsed)

        limit = int(queue.time_limit.total_seconds())
        app.task(name=name, time_limit=limit, soft_time_limit=limit * 9 // 10)(run)
        return function

    return register


def worker_name() -> str:
    """Who holds a lease, for people: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def run_jobs(spec: TaskSpec, ids: Sequence[UUID]) -> None:
    """Take what is still to be taken of these jobs and run each, so that one bad job harms no other."""
    with db.single_statement() as connection:
        leased = jobs.lease(connection, task=spec.name, ids=ids, worker=worker_name())
    if len(leased) < len(ids):
        log.debug("jobs.taken_elsewhere", task=spec.name, asked=len(ids), taken=len(leased))
    with keeper.holding(leased) as batch:
        for job in leased:
            if batch.begin(job):
                _run_one(spec, job)
                batch.end()


def _run_one(spec: TaskSpec, job: LeasedJob) -> None:
    token = jobs.current.set(job)
    with structlog.contextvars.bound_contextvars(
        job_id=str(job.id), task=job.task, tenant=job.tenant, correlation_id=job.correlation_id, attempt=job.attempts
    ):
        try:
            _attempt(spec, job)
        except LeaseLostError:
            log.warning("job.fenced")  # another run has it; nothing of this one was committed
        except Exception as error:  # noqa: BLE001  # every error of a job ends in its row, and nowhere else
            _record_failure(job, error)
        finally:
            jobs.current.reset(token)


def _attempt(spec: TaskSpec, job: LeasedJob) -> None:
    try:
        args = spec.validate(job.args)
    except ValidationError as error:
        raise PermanentError(f"the arguments can't be understood: {_first_of(error)}") from error
    if spec.takes_session:
        with db.transaction() as session:
            spec.function(session, **args)
            jobs.finish(session, job)
    else:
        spec.function(**args)
        with db.transaction() as session:
            jobs.finish(session, job)


def _first_of(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'arguments'}: {first['msg']}"


def _record_failure(job: LeasedJob, error: Exception) -> None:
    """Retry, or bury. If even this can't be written, the lease runs out and the sweeper brings the job back."""
    kind, retried = _classify(error)
    last_error = describe(error, kind=kind, attempt=job.attempts)
    dead = not retried or job.attempts >= job.attempts_max
    try:
        with db.transaction() as session:
            if dead:
                jobs.bury(session, job, error=last_error)
            else:
                jobs.retry(session, job, delay=_delay(job.attempts, error), error=last_error)
    except SQLAlchemyError:
        log.exception("job.failure_not_recorded")
    if dead:
        log.error("job.dead", kind=kind, error=str(error), exc_info=error)
    else:
        log.warning("job.retry", kind=kind, error=str(error))


# The kind of an error, and whether its job may run again. The first that fits decides.
KINDS: tuple[tuple[type[Exception], str, bool], ...] = (
    (TransientError, "transient", True),
    (PermanentError, "permanent", False),
    (OutcomeUnknownError, "outcome_unknown", True),  # to look it up: the step's first transaction finds the intent
    (InvariantError, "invariant", False),
    (InvalidRequestError, "refused", False),  # by the state of something, such as a closed account
    (SoftTimeLimitExceeded, "timeout", True),
    (OperationalError, "database", True),  # PostgreSQL away or restarted: what was not committed did not happen
    (Exception, "unexpected", True),
)


def _classify(error: Exception) -> tuple[str, bool]:
    return next((kind, retried) for fits, kind, retried in KINDS if isinstance(error, fits))


def describe(error: BaseException, *, kind: str, attempt: int = 0) -> dict[str, Any]:
    """An error as the row keeps it."""
    return {
        "kind": kind,
        "type": type(error).__qualname__,
        "message": _keepable(str(error)[:2_000]),
        "traceback": _keepable("".join(traceback.format_exception(error))[-8_000:]),
        "attempt": attempt,
        "at": datetime.now(UTC).isoformat(),
    }


def _keepable(words: str) -> str:
    """PostgreSQL keeps neither U+0000 nor half a surrogate pair, and an error may quote anything."""
    return words.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()


RETRY_AFTER_MAX = timedelta(hours=1)
"""However long the other side wishes us to wait."""


def _delay(attempts: int, error: Exception) -> timedelta:
    """Exponential, with full jitter above the half, so that what failed together doesn't come back together."""
    chosen = settings.jobs()
    whole: timedelta = min(chosen.backoff_base * 2 ** min(attempts - 1, 30), chosen.backoff_max)
    delay: timedelta = whole * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
    wished = error.retry_after if isinstance(error, TransientError) else None
    return max(delay, min(wished, RETRY_AFTER_MAX)) if wished is not None else delay
