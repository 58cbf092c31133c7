"""`celery -A workers.main worker|beat|flower`: the application with every task and signal."""

import importlib
import pkgutil

import tasks
import workers.signals  # noqa: F401  # connects its receivers
from tasks.app import app

for _module in pkgutil.iter_modules(tasks.__path__):
    importlib.import_module(f"tasks.{_module.name}")

app.conf.worker_consumer = "workers.signals:KeepingConsumer"
app.conf.broker_transport = "workers.transport:Transport"

__all__ = ["app"]
