"""`celery -A tests.support.worker`: the real worker, which also knows the tests' tasks."""

import tests.support.probes  # noqa: F401
from workers.main import app

__all__ = ["app"]
