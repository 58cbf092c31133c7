"""One round: every source is asked at once, with no transaction open, and what they tell is judged and kept."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from fractions import Fraction

import structlog
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from config.assets import registry
from core import clock
from core.errors import InvalidRequestError, TransientError
from core.jobs import transaction
from domain.rates import copy, queries
from domain.rates.fractions import fraction
from domain.rates.judging import Jump, Rules, Told, Verdict, judge
from domain.rates.models import AssetPrice, AssetRate, RateChange, RatePair
from domain.rates.overrides import AHEAD_MAX
from domain.rates.reasons import Reason
from domain.rates.settings import RatesSettings
from domain.rates.settings import rates as settings
from domain.rates.standing import standings
from providers.prices.base import Pair, Price, Source

log = structlog.stdlib.get_logger(__name__)

ACTOR = "sources"
USD = "iso4217:USD"
Prices = Mapping[Pair, Mapping[str, Told]]
"""By pair and source."""


def refresh(sources: Sequence[Source]) -> None:
    """Ask, judge, keep, and lay a copy into Redis. Safe to run any number of times, also twice at once."""
    wanted = wanted_pairs(sources)
    if not wanted:
        return
    asked_at = clock.now()
    prices = ask(sources, wanted)
    with transaction() as session:
        record(session, wanted, prices, asked_at=asked_at)
        standing = standings(session)
    copy.publish(standing)


def wanted_pairs(sources: Collection[Source]) -> list[Pair]:
    """RATE_PAIRS, or what enough sources know: each asset in dollars, and the dollar in each currency."""
    chosen, assets = settings(), registry().assets
    if not sources:
        return []
    if chosen.pairs is None:
        known = (Pair(USD, asset) if asset.startswith("iso4217:") else Pair(asset, USD) for asset in sorted(assets))
        return [pair for pair in known if sum(source.knows(pair) for source in sources) >= chosen.sources_min]
    pairs = [Pair(*pair) for pair in sorted(set(chosen.pairs))]
    for pair in pairs:
        if pair.asset == pair.currency or not {pair.asset, pair.currency} <= assets.keys():
            log.error("rate.pair_unknown", asset=pair.asset, currency=pair.currency)
    return [pair for pair in pairs if pair.asset != pair.currency and {pair.asset, pair.currency} <= assets.keys()]


# --- asking ------------------------------------------------------------------------------------------------------


def ask(sources: Sequence[Source], pairs: Collection[Pair]) -> Prices:
    """What each source tells of these pairs. One that fails, or takes longer than RATE_WAIT, tells nothing."""
    found: dict[Pair, dict[str, Told]] = {pair: {} for pair in pairs}
    pool = ThreadPoolExecutor(len(sources), thread_name_prefix="prices")
    asked = {
        source.name: pool.submit(source.prices, [pair for pair in pairs if source.knows(pair)])
        for source in sources
        if any(source.knows(pair) for pair in pairs)
    }
    wait(asked.values(), timeout=settings().wait.total_seconds())
    # Whoever is late ends by the timeouts of its requests; nobody waits for that.
    pool.shutdown(wait=False, cancel_futures=True)
    for name, answer in asked.items():
        if not answer.done():
            log.warning("rate.source_late", source=name)
            continue
        try:
            prices = answer.result()
            told = {pair: _checked(name, pair, prices[pair]) for pair in found.keys() & prices.keys()}
        except TransientError as error:
            log.warning("rate.source_failed", source=name, error=str(error))
        except Exception:  # one source's defect must not keep the others from being heard
            log.exception("rate.source_broken", source=name)
        else:
            for pair, each in told.items():
                if each is not None:
                    found[pair][name] = each
    return found


def _checked(source: str, pair: Pair, price: Price) -> Told | None:
    """What an adapter says, which is not trusted any more than its source."""
    try:
        return _told(pair, price)
    except InvalidRequestError as error:
        log.warning("rate.price_refused", source=source, asset=pair.asset, currency=pair.currency, error=str(error))
        return None


def _told(pair: Pair, price: Price) -> Told:
    if price.pair != pair:
        raise InvalidRequestError("it is the price of another pair")
    if price.observed_at.tzinfo is None or price.observed_at > clock.now() + AHEAD_MAX:
        raise InvalidRequestError("its time is yet to come")
    return Told(Fraction(*fraction(pair.asset, pair.currency, price.price)), price.observed_at)


# --- keeping -----------------------------------------------------------------------------------------------------


def record(session: Session, wanted: Collection[Pair], prices: Prices, *, asked_at: datetime) -> None:
    """Judge and keep a round. A pair that a later round was recorded for stays as that one left it."""
    known = queries.lock_pairs(session)
    chosen = settings()
    for pair in sorted(wanted, key=lambda each: (each.asset, each.currency)):
        row = known.pop((pair.asset, pair.currency), None)
        if row is None or row.asked_at < asked_at:
            _record_pair(session, pair, row, prices.get(pair, {}), asked_at=asked_at, rules=_rules(chosen))
    for row in known.values():
        if row.asked_at < asked_at:
            _note(session, Pair(row.asset, row.currency), Reason.REMOVED, asked_at)
            session.delete(row)
    session.flush()


def _rules(chosen: RatesSettings) -> Rules:
    return Rules(
        age_max=chosen.age_max,
        sources_min=chosen.sources_min,
        outlier_bps=chosen.outlier_bps,
        spread_bps=chosen.spread_bps,
        jump_bps=chosen.jump_bps,
        jump_rounds=chosen.jump_rounds,
    )


def _record_pair(
    session: Session, pair: Pair, row: RatePair | None, prices: Mapping[str, Told], *, asked_at: datetime, rules: Rules
) -> None:
    verdict = judge(
        prices,
        asked_at=asked_at,
        rules=rules,
        last=_anchors(session, pair, row, asked_at),
        jump=None if row is None else _jump(row),
    )
    _keep_prices(session, pair, prices, verdict, asked_at)
    if row is None:
        row = RatePair(asset=pair.asset, currency=pair.currency, changes=0)
        session.add(row)
    if row.changes == 0 or row.reason != verdict.reason:
        row.changes += 1
        row.since = asked_at
        row.usable, row.reason = verdict.reason is None, verdict.reason
        _note(session, pair, verdict.reason, asked_at)
    row.asked_at = asked_at
    row.sources, row.spread_bps = len(verdict.sources), verdict.spread_bps
    jump = verdict.jump
    row.jump_numerator, row.jump_denominator = (None, None) if jump is None else jump.value.as_integer_ratio()
    row.jump_rounds = 0 if jump is None else jump.rounds
    if verdict.reason is None and verdict.value is not None:
        row.numerator, row.denominator = verdict.value.as_integer_ratio()
        row.observed_at = asked_at
        session.add(_rate(pair, verdict, verdict.value, asked_at))


def _anchors(session: Session, pair: Pair, row: RatePair | None, at: datetime) -> list[Fraction]:
    """What it may go on from without a jump."""
    found = []
    if row is not None and row.numerator is not None and row.denominator is not None:
        found.append(Fraction(row.numerator, row.denominator))
    override = queries.override(session, pair.asset, pair.currency, at=at)
    if found and override is not None:
        found.append(Fraction(override.numerator, override.denominator))
    return found


def _jump(row: RatePair) -> Jump | None:
    if row.jump_numerator is None or row.jump_denominator is None:
        return None
    return Jump(Fraction(row.jump_numerator, row.jump_denominator), row.jump_rounds)


def _keep_prices(
    session: Session, pair: Pair, prices: Mapping[str, Told], verdict: Verdict, asked_at: datetime
) -> None:
    rows = [
        {
            "asset": pair.asset,
            "currency": pair.currency,
            "source": source,
            "numerator": told.value.numerator,
            "denominator": told.value.denominator,
            "observed_at": told.observed_at,
            "asked_at": asked_at,
            "dropped": verdict.dropped.get(source),
        }
        for source, told in sorted(prices.items())
    ]
    if rows:
        session.execute(insert(AssetPrice), rows)


def _rate(pair: Pair, verdict: Verdict, value: Fraction, asked_at: datetime) -> AssetRate:
    return AssetRate(
        asset=pair.asset,
        currency=pair.currency,
        numerator=value.numerator,
        denominator=value.denominator,
        observed_at=asked_at,
        source=", ".join(verdict.sources),
        actor=ACTOR,
        created_at=clock.now(),
    )


def _note(session: Session, pair: Pair, reason: Reason | None, at: datetime) -> None:
    session.add(RateChange(asset=pair.asset, currency=pair.currency, usable=reason is None, reason=reason, at=at))
    if reason is None:
        log.info("rate.usable", asset=pair.asset, currency=pair.currency)
    else:
        log.warning("rate.unusable", asset=pair.asset, currency=pair.currency, reason=reason.value)


def remove_old(session: Session, *, limit: int) -> int:
    """Remove what sources told longer than RATE_KEEP ago, and the medians of it. Returns the most rows of a kind."""
    before = clock.now() - max(settings().keep, timedelta(days=7))
    old = select(AssetPrice.id).where(AssetPrice.asked_at < before).order_by(AssetPrice.asked_at).limit(limit)
    gone = len(session.scalars(delete(AssetPrice).where(AssetPrice.id.in_(old)).returning(AssetPrice.id)).all())
    return max(gone, queries.remove_old_rates(session, before=before, limit=limit))
