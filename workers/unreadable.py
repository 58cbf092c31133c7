"""Messages that no task understands. Nobody but the relay sends any, so each is evidence, and is kept."""

import structlog

from core import db
from domain.dead_letter import service as dead_letters

log = structlog.stdlib.get_logger(__name__)


def keep(task: str, raw: str, reason: BaseException) -> None:
    """Keep the message as a dead letter of its own."""
    error = {"kind": "permanent", "type": type(reason).__qualname__, "message": str(reason)[:2_000]}
    with db.transaction() as session:
        dead_letters.keep_message(session, task=task, raw=raw.replace("\x00", "\\x00"), error=error)
    log.error("message.unreadable", task=task, error=str(reason)[:200])
