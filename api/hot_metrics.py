"""What Prometheus reads of the hot store: which generation, how far the books are behind it, and what it left open."""

from prometheus_client.core import GaugeMetricFamily
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from core import breaks
from core.hot import status
from core.hot.client import client
from core.hot.status import Status


def families(session: Session, now: Status) -> list[GaugeMetricFamily]:
    """From the database alone."""
    generation = GaugeMetricFamily("tallyrail_hot_generation", "Number of the generation: grows by one with each turn")
    generation.add_metric([], now.generation.number)
    is_open = GaugeMetricFamily("tallyrail_hot_open", "1 for the mode that is decided in now", labels=["mode"])
    for mode, is_it in now.open_by_mode.items():
        is_open.add_metric([mode], is_it)
    turned = GaugeMetricFamily("tallyrail_hot_turn_age_seconds", "Since a turn began or ended")
    turned.add_metric([], now.since_change.total_seconds())
    deciders = GaugeMetricFamily("tallyrail_hot_deciders", "Processes that decide, or died lately")
    deciders.add_metric([], now.deciders)
    open_breaks = GaugeMetricFamily("tallyrail_breaks", "Breaks that nobody has explained", labels=["kind"])
    for kind, count in ({status.GAP: 0, status.ORPHAN: 0, status.CONFLICT: 0} | breaks.count_open(session)).items():
        open_breaks.add_metric([kind], count)
    return [generation, is_open, turned, deciders, open_breaks]


def waiting(now: Status) -> list[GaugeMetricFamily]:
    """With what Redis knows. Without it there are no figures, and none are made up."""
    events = GaugeMetricFamily("tallyrail_hot_waiting_events", "Events that the books don't have yet", labels=["shard"])
    lag = GaugeMetricFamily(
        "tallyrail_hot_lag_seconds", "Since the books last moved, where events wait for them", labels=["shard"]
    )
    try:
        found = status.waiting(client(), now)
    except RedisError:
        return [events, lag]
    for shard, count in found.items():
        events.add_metric([str(shard)], count)
        lag.add_metric([str(shard)], now.since_applied[shard].total_seconds() if count else 0)
    return [events, lag]
