"""One heartbeat task for each queue: a finished one proves database, relay, broker and worker at once."""

from sqlalchemy.orm import Session

from config.queues import QUEUES
from domain.health import service
from tasks.base import task


def _register(queue: str) -> None:
    @task(f"{queue}.heartbeat")
    def heartbeat(session: Session) -> None:
        service.beat(session, queue)


for _queue in QUEUES:
    _register(_queue)
