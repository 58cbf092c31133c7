"""What Prometheus reads. Requests are counted in this process; queues and money are read from the database."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api import fiat_metrics, hot_metrics, node_metrics, onchain_metrics, payout_metrics, rate_metrics, webhook_metrics
from core import db, jobs
from core.hot import status as hot
from domain.deposit.service import ChainStatus
from ledger import audit

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
READ_EVERY = 2.0
"""Seconds for which what was read of the database is told again: however many ask, it is asked no more often."""

CountDeposits = Callable[[], Mapping[str, int]]
ReadChains = Callable[[], Iterable[ChainStatus]]


class Metrics:
    """One registry an app, so that several may live in one process."""

    def __init__(self, count_deposits: CountDeposits, read_chains: ReadChains) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._requests = Histogram(
            "tallyrail_http_request_seconds",
            "Requests by route template and status",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.webhooks = webhook_metrics.WebhookCounts(self.registry)
        self.registry.register(DatabaseCollector(count_deposits, read_chains))
        self._known: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        # Any word may come as a method; only those that lead somewhere become a label of their own.
        labels = (method if route != "unmatched" else "OTHER", route, status)
        histogram = self._known.get(labels)
        if histogram is None:
            histogram = self._known[labels] = self._requests.labels(*map(str, labels))
        histogram.observe(seconds)


class DatabaseCollector(Collector):
    """Queues, deposits and the books, as the database knows them: the same from whichever process is asked."""

    def __init__(self, count_deposits: CountDeposits, read_chains: ReadChains) -> None:
        self._count_deposits = count_deposits
        self._read_chains = read_chains
        self._lock = Lock()
        self._read_at = float("-inf")
        self._families: list[Metric] = []

    def describe(self) -> list[Metric]:
        return []  # so that registering asks nothing of the database

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() > self._read_at + READ_EVERY:
                self._families = self._read()
                self._read_at = time.monotonic()
            yield from self._families

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily("tallyrail_database_up", "1 if the figures below could be read")
        try:
            with db.transaction() as session:
                depths = jobs.depths(session)
                books = audit.status(session)
                nodes = node_metrics.families(session)
                rates = rate_metrics.families(session)
                fiat = fiat_metrics.families(session)
                payouts = [*payout_metrics.families(session), *onchain_metrics.families(session)]
                hot_status = hot.read(session)
                hot_families = hot_metrics.families(session, hot_status)
                webhooks = webhook_metrics.families(session)
            deposits = self._count_deposits()
            chains = list(self._read_chains())
        except SQLAlchemyError:
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        by_status = GaugeMetricFamily("tallyrail_jobs", "Jobs by queue and status", labels=["queue", "status"])
        oldest = GaugeMetricFamily(
            "tallyrail_jobs_oldest_due_seconds", "How long the oldest due job has waited", labels=["queue"]
        )
        for depth in depths:
            # `dead` is what waits as a dead letter.
            for status, count in (("waiting", depth.waiting), ("running", depth.running), ("dead", depth.dead)):
                by_status.add_metric([depth.queue, status], count)
            oldest.add_metric([depth.queue], depth.oldest_due.total_seconds())
        by_state = GaugeMetricFamily("tallyrail_deposits", "Deposits by state", labels=["state"])
        for state, count in deposits.items():
            by_state.add_metric([state], count)
        # Redis is asked when no transaction is open any more.
        hot_families += hot_metrics.waiting(hot_status)
        work = (up, by_status, oldest, by_state)
        return [*work, *_chains(chains), *nodes, *rates, *fiat, *payouts, *_books(books), *hot_families, *webhooks]


def _chains(statuses: Iterable[ChainStatus]) -> list[GaugeMetricFamily]:
    gaps = GaugeMetricFamily("tallyrail_chain_gap_blocks", "Blocks that the scan has passed over", labels=["chain"])
    lags = GaugeMetricFamily("tallyrail_chain_lag_blocks", "Blocks still to be scanned", labels=["chain"])
    ages = GaugeMetricFamily(
        "tallyrail_chain_head_age_seconds", "How old the newest block is that a node told of", labels=["chain"]
    )
    stopped = GaugeMetricFamily("tallyrail_chain_stopped", "1 if the scan waits for a person", labels=["chain"])
    for status in statuses:
        gaps.add_metric([status.chain], status.gap_blocks)
        stopped.add_metric([status.chain], status.is_stopped)
        if status.lag_blocks is not None:
            lags.add_metric([status.chain], status.lag_blocks)
        if status.head_age is not None:
            ages.add_metric([status.chain], status.head_age.total_seconds())
    return [gaps, lags, ages, stopped]


def _books(status: audit.Status) -> list[GaugeMetricFamily]:
    wrong = GaugeMetricFamily(
        "tallyrail_ledger_violations", "Rows of the books found wrong and not proved right since", labels=["rule"]
    )
    counts = {violation.rule: violation.count for violation in status.violations}
    for rule in (*audit.RULES, *(counts.keys() - set(audit.RULES))):
        wrong.add_metric([rule], counts.get(rule, 0))
    ages = GaugeMetricFamily(
        "tallyrail_ledger_audit_age_seconds", "Since the last audit of the books was finished", labels=["kind"]
    )
    for kind, since in (("incremental", status.since_incremental), ("full", status.since_full)):
        ages.add_metric([kind], float("inf") if since is None else since.total_seconds())
    waiting = GaugeMetricFamily("tallyrail_ledger_unsealed_journals", "Journals that no seal covers yet")
    waiting.add_metric([], status.unsealed.journals)
    oldest = GaugeMetricFamily(
        "tallyrail_ledger_unsealed_oldest_seconds", "How long the oldest of them has waited for its seal"
    )
    oldest.add_metric([], status.unsealed.oldest.total_seconds())
    return [wrong, ages, waiting, oldest]
