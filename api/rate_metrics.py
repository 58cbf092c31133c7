"""What Prometheus reads of rates: which can be used, how old they are, how far their sources are apart."""

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.orm import Session

from domain.rates import service as rates

LABELS = ("asset", "currency")


def families(session: Session) -> list[Metric]:
    """Of each pair that sources are asked about, or that a person has set."""
    usable = GaugeMetricFamily("tallyrail_rate_usable", "1 if money may be moved by this rate now", labels=LABELS)
    age = GaugeMetricFamily("tallyrail_rate_age_seconds", "How old the last usable rate is", labels=LABELS)
    spread = GaugeMetricFamily(
        "tallyrail_rate_spread_bps", "Between the sources that agree, in hundredths of a percent", labels=LABELS
    )
    sources = GaugeMetricFamily("tallyrail_rate_sources", "Sources that agree", labels=LABELS)
    override = GaugeMetricFamily("tallyrail_rate_override", "1 while a person's rate holds", labels=LABELS)
    changes = CounterMetricFamily(
        "tallyrail_rate_changes", "How often it became usable or unusable, or for another reason", labels=LABELS
    )
    for standing in rates.standings(session):
        pair = (standing.asset, standing.currency)
        usable.add_metric(pair, standing.usable)
        sources.add_metric(pair, standing.sources)
        override.add_metric(pair, standing.expires_at is not None)
        changes.add_metric(pair, standing.changes)
        if standing.age is not None:
            age.add_metric(pair, standing.age.total_seconds())
        if standing.spread_bps is not None:
            spread.add_metric(pair, standing.spread_bps)
    return [usable, age, spread, sources, override, changes]
