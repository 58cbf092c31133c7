"""What Prometheus reads of payouts."""

from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.orm import Session

from core import clock
from domain.payout import service as payouts
from domain.payout.service import Wait


def families(session: Session) -> list[Metric]:
    found = payouts.figures(session)
    now = clock.now()
    states = GaugeMetricFamily("tallyrail_payouts", "Payouts that may still leave, by state", labels=["state"])
    for state, count in found.by_state.items():
        states.add_metric([state], count)
    unknown = GaugeMetricFamily(
        "tallyrail_payout_unknown_oldest_seconds",
        "For how long nobody has known whether a provider has the oldest such payout, 0 if there is none",
    )
    unknown.add_metric([], _age(now, found.unknown_since))
    submitted = GaugeMetricFamily(
        "tallyrail_payout_submitted_oldest_seconds", "How long ago the oldest that a provider has was sent, 0 if none"
    )
    submitted.add_metric([], _age(now, found.submitted_since))
    broken = GaugeMetricFamily(
        "tallyrail_payout_break_oldest_seconds", "How long the oldest break about payouts has been open, 0 if none is"
    )
    broken.add_metric([], _age(now, payouts.oldest_break(session)))
    refused = CounterMetricFamily(
        "tallyrail_payout_refusals", "Payouts that this process has refused, by why", labels=["reason"]
    )
    for reason, count in payouts.refusals().items():
        refused.add_metric([reason], count)
    labels = ["for"]
    waiting = GaugeMetricFamily("tallyrail_payouts_waiting", "Approved payouts that can't be sent yet", labels=labels)
    oldest = GaugeMetricFamily(
        "tallyrail_payouts_waiting_oldest_seconds", "How long the oldest of them has waited", labels=labels
    )
    for reason in Wait:
        count, since = found.waiting.get(reason, (0, None))
        waiting.add_metric([reason], count)
        oldest.add_metric([reason], _age(now, since))
    down = GaugeMetricFamily("tallyrail_payout_provider_down", "1 if the last calls got no answer", labels=["provider"])
    stopped = GaugeMetricFamily("tallyrail_payout_provider_stopped", "1 if a person stopped it", labels=["provider"])
    balance = GaugeMetricFamily(
        "tallyrail_payout_provider_balance_units",
        "What could be sent there when it was last asked, in the currency's smallest unit",
        labels=["provider", "currency"],
    )
    for row in found.providers:
        down.add_metric([row.name], payouts.is_down(row, now))
        stopped.add_metric([row.name], row.stopped_by is not None)
        for currency, known in row.balances.items():
            balance.add_metric([row.name, currency], int(known["units"]))
    return [states, unknown, submitted, broken, refused, waiting, oldest, down, stopped, balance]


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
