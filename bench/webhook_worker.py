"""`celery -A bench.webhook_worker`: the real worker, with a gateway to which every webhook is about nothing of ours.

So what is timed is the way of a webhook to its handling, and not a provider's answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.fiat import registry
from providers.fiat.base import Notice
from workers.main import app

__all__ = ["app"]


class _Gateway:
    name = "razorpay"

    def notices(self, _body: bytes, _headers: Mapping[str, str]) -> Sequence[Notice]:
        return ()


def _get(_name: str) -> Any:
    return _Gateway()


registry.get = _get  # type: ignore[assignment]  # what the task asks for by this name
