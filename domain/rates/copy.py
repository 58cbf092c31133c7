"""A copy of the rates in Redis, for whoever only wants to show them. No money is moved by it, and it may be away."""

import json
from collections.abc import Iterable

import structlog
from redis.exceptions import RedisError

from core import redis
from domain.rates.fractions import price
from domain.rates.settings import rates as settings
from domain.rates.standing import Standing

log = structlog.stdlib.get_logger(__name__)

KEY = "tallyrail:rates"
"""A hash: `<asset> <currency>` to a JSON object. It goes by itself when nobody refreshes it."""


def publish(standings: Iterable[Standing]) -> None:
    """Lay the whole copy down, or leave the old one to its end."""
    fields = {f"{standing.asset} {standing.currency}": json.dumps(_told(standing)) for standing in standings}
    chosen = settings()
    try:
        with redis.client().pipeline(transaction=True) as pipe:
            pipe.delete(KEY)
            for pair, told in fields.items():
                pipe.hset(KEY, pair, told)
            pipe.pexpire(KEY, chosen.age_max + chosen.every)
            pipe.execute()
    except RedisError as error:
        log.warning("rate.copy_failed", error=str(error) or type(error).__name__)


def _told(standing: Standing) -> dict[str, object]:
    rate = standing.rate
    return {
        "usable": standing.usable,
        "reason": standing.reason,
        "since": standing.since.isoformat(),
        "price": None if rate is None else price(rate),
        "numerator": None if rate is None else str(rate.numerator),
        "denominator": None if rate is None else str(rate.denominator),
        "observed_at": None if rate is None else rate.observed_at.isoformat(),
        "override": standing.expires_at is not None,
    }
