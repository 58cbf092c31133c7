"""`celery -A workers.main worker|beat|flower`: the application with every task and signal."""

import tasks.heartbeat
import tasks.maintenance
import tasks.tx_monitor  # noqa: F401
import workers.signals  # noqa: F401
from tasks.app import app

app.conf.worker_consumer = "workers.signals:KeepingConsumer"

__all__ = ["app"]
