"""What Prometheus reads of payments by card, bank and wallet."""

from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.orm import Session

from core import clock
from domain.fiat_payment import service as payments
from domain.fiat_payment.service import HoldReason


def families(session: Session) -> list[GaugeMetricFamily]:
    found = payments.figures(session)
    now = clock.now()
    states = GaugeMetricFamily(
        "tallyrail_fiat_payments", "Payments that may still become something, by state", labels=["state"]
    )
    for state, count in found.by_state.items():
        states.add_metric([state], count)
    held = GaugeMetricFamily("tallyrail_fiat_payments_held", "Payments that wait for a person", labels=["reason"])
    for reason in HoldReason:
        held.add_metric([reason], found.held.get(reason, 0))
    unknown = GaugeMetricFamily(
        "tallyrail_fiat_unknown_oldest_seconds",
        "For how long it has not been known whether a gateway has an order or a refund; of the oldest, 0 if none",
    )
    unknown.add_metric([], _age(now, found.unknown_since))
    waiting = GaugeMetricFamily(
        "tallyrail_fiat_payments_waiting_oldest_seconds",
        "How long the oldest paid payment has waited for a rate, 0 if none does",
    )
    waiting.add_metric([], _age(now, found.waiting_since))
    down = GaugeMetricFamily("tallyrail_fiat_gateway_down", "1 if the last calls got no answer", labels=["gateway"])
    for gateway, is_down in found.down.items():
        down.add_metric([gateway], is_down)
    refused = GaugeMetricFamily(
        "tallyrail_fiat_gateway_refused", "1 if it refused our credentials within 15 minutes", labels=["gateway"]
    )
    for gateway, is_refused in found.refused.items():
        refused.add_metric([gateway], is_refused)
    return [states, held, unknown, waiting, down, refused]


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
