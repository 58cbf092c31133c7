"""What Prometheus reads of the nodes of each chain, and of the deposits that they, or rates, hold up."""

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.orm import Session

from core import clock
from domain.deposit import service as deposits


def families(session: Session) -> list[GaugeMetricFamily]:
    return [*_waiting(session), *_nodes(session)]


def _waiting(session: Session) -> list[GaugeMetricFamily]:
    count = GaugeMetricFamily(
        "tallyrail_deposits_waiting",
        "Deposits not booked for want of agreement of nodes, of a second node or of a rate",
        labels=["chain", "for"],
    )
    oldest = GaugeMetricFamily(
        "tallyrail_deposits_waiting_oldest_seconds", "How long the oldest of them has waited", labels=["chain", "for"]
    )
    now = clock.now()
    for waiting in deposits.count_waiting(session):
        count.add_metric([waiting.chain, waiting.what], waiting.count)
        oldest.add_metric([waiting.chain, waiting.what], max((now - waiting.since).total_seconds(), 0))
    return [count, oldest]


def _nodes(session: Session) -> list[GaugeMetricFamily]:
    up = GaugeMetricFamily("tallyrail_chain_node_up", "1 if the node answers any process", labels=["chain", "node"])
    latency = GaugeMetricFamily(
        "tallyrail_chain_node_latency_ms", "Mean latency of its answers, moving", labels=["chain", "node"]
    )
    trouble = GaugeMetricFamily(
        "tallyrail_chain_node_trouble",
        "1 for what is wrong with what it answers: lags, stalled, disagrees, wrong_chain",
        labels=["chain", "node", "trouble"],
    )
    for node in deposits.node_states(session):
        up.add_metric([node.chain, node.label], node.up)
        if node.latency_ms is not None:
            latency.add_metric([node.chain, node.label], node.latency_ms)
        if node.trouble is not None:
            trouble.add_metric([node.chain, node.label, node.trouble], 1)
    return [up, latency, trouble]
