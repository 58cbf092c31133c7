"""What Prometheus reads of payouts on chains."""

from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.orm import Session

from core import clock
from domain.onchain import service as onchain


def families(session: Session) -> list[GaugeMetricFamily]:
    found = onchain.figures(session)
    now = clock.now()
    labels = ["chain", "state"]
    states = GaugeMetricFamily("tallyrail_onchain_transfers", "Transfers of ours that may still pay", labels=labels)
    oldest = GaugeMetricFamily(
        "tallyrail_onchain_oldest_seconds", "How long ago the oldest of them was asked for", labels=labels
    )
    for (chain, state), (count, since) in found.open.items():
        states.add_metric([chain, state], count)
        oldest.add_metric([chain, state], _age(now, since))
    coin = GaugeMetricFamily(
        "tallyrail_onchain_wallet_coin_units",
        "What the wallet had of its chain's coin when last asked",
        labels=["chain"],
    )
    fee = GaugeMetricFamily(
        "tallyrail_onchain_wallet_fee_units", "What the last transfer costs at most, in that coin", labels=["chain"]
    )
    for wallet in found.wallets:
        if wallet.coin_units is not None:
            coin.add_metric([wallet.chain], wallet.coin_units)
        if wallet.fee_units is not None:
            fee.add_metric([wallet.chain], wallet.fee_units)
    return [states, oldest, coin, fee]


def _age(now: datetime, since: datetime) -> float:
    return max((now - since).total_seconds(), 0.0)
