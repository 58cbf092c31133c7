"""Messages that no task understands. Nobody but the relay sends any, so each is evidence, and is kept."""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core import db
from domain.dead_letter import service as dead_letters

log = structlog.stdlib.get_logger(__name__)


def keep(task: str, raw: str, reason: BaseException) -> None:
    """Keep the message as a dead letter of its own."""
    error = {"kind": "permanent", "type": type(reason).__qualname__, "message": str(reason)[:2_000]}
    try:
        with db.transaction() as session:
            dead_letters.keep_message(session, task=task, raw=raw, error=error)
    except SQLAlchemyError:
        log.exception("message.not_kept", raw=raw[:8_000])  # the log is the next best place; the worker reads on
    log.error("message.unreadable", task=task, error=str(reason)[:200])
