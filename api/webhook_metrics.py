"""What Prometheus reads of webhooks that came in: what was answered in this process, and what waits in the database."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.orm import Session

from api.hot.webhooks import RESULTS
from domain.webhook import service
from domain.webhook.settings import webhook
from domain.webhook.states import ReceiptState

OPEN = (ReceiptState.RECEIVED, ReceiptState.WAITING)


class WebhookCounts:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = Counter(
            "tallyrail_webhooks",
            "Webhooks by what became of them: accepted, repeated, forged, outside (of the allow-list), failed",
            ["provider", "result"],
            registry=registry,
        )

    def begin(self, providers: Iterable[str]) -> None:
        """From 0: a rate can't be told of a series that begins with 1."""
        for provider in providers:
            for result in RESULTS:
                self._counts.labels(provider, result)

    def count(self, provider: str, result: str) -> None:
        self._counts.labels(provider, result).inc()


def families(session: Session) -> list[GaugeMetricFamily]:
    """From the database alone."""
    labels = ["provider", "state"]
    counts = GaugeMetricFamily("tallyrail_webhooks_open", "Webhooks that are kept and not handled", labels=labels)
    oldest = GaugeMetricFamily(
        "tallyrail_webhooks_oldest_seconds", "How long ago the oldest of them came", labels=labels
    )
    found = {(each.provider, each.state): each for each in service.unsettled(session)}
    providers = {provider for provider, _ in found} | webhook().secrets.keys()
    for provider in sorted(providers):
        for state in OPEN:
            each = found.get((provider, state))
            counts.add_metric([provider, state], each.count if each else 0)
            oldest.add_metric([provider, state], each.oldest.total_seconds() if each else 0)
    return [counts, oldest]
