"""What a round of prices is worth. Pure: no database, no clock.

The rate is the median of all fresh prices. A price far from it doesn't count as a source and not into the spread, but
the median isn't taken a second time without it: of three sources, one of them lying, the first median always lies
between the two honest ones, and the second may not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from domain.rates.reasons import Dropped, Reason

BPS = 10_000


@dataclass(frozen=True, slots=True)
class Told:
    """A source's price, of smallest units in smallest units."""

    value: Fraction
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class Rules:
    age_max: timedelta
    sources_min: int
    outlier_bps: int
    spread_bps: int
    jump_bps: int
    jump_rounds: int


@dataclass(frozen=True, slots=True)
class Jump:
    """Where it jumped to, and for how many rounds it has been there."""

    value: Fraction
    rounds: int


@dataclass(frozen=True, slots=True)
class Verdict:
    value: Fraction | None
    """The median, usable or not; None if nobody told a fresh price."""
    reason: Reason | None
    """Why it can't be used; None: it can."""
    sources: tuple[str, ...]
    """Those that count, in order of their names."""
    dropped: Mapping[str, Dropped]
    spread_bps: int | None
    """Rounded up. None without sources that count."""
    jump: Jump | None = None
    """To be handed in with the next round."""


def median(values: Collection[Fraction]) -> Fraction:
    """The middle one, or the mean of the two in the middle. At least one value."""
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2


def judge(
    prices: Mapping[str, Told],
    *,
    asked_at: datetime,
    rules: Rules,
    last: Collection[Fraction] = (),
    jump: Jump | None = None,
) -> Verdict:
    """What one pair's prices, by source, come to.

    `last` are the rates that it may go on from: the last usable one and an override that holds. Without any the first
    agreement of enough sources is believed. `jump` is the last verdict's.
    """
    stale = {name for name, told in prices.items() if told.observed_at < asked_at - rules.age_max}
    fresh = {name: told.value for name, told in prices.items() if name not in stale}
    dropped = dict.fromkeys(sorted(stale), Dropped.STALE)
    if not fresh:
        return Verdict(None, Reason.STALE if len(stale) >= rules.sources_min else Reason.TOO_FEW, (), dropped, None)
    middle = median(fresh.values())
    kept = {name: value for name, value in fresh.items() if _is_within(value, middle, rules.outlier_bps)}
    dropped |= dict.fromkeys(sorted(fresh.keys() - kept.keys()), Dropped.OUTLIER)
    spread = _spread(kept.values(), middle) if kept else None
    reason, jumped = _reason(
        rules, kept=len(kept), stale=len(stale), spread=spread, middle=middle, last=last, jump=jump
    )
    return Verdict(middle, reason, tuple(sorted(kept)), dropped, spread, jumped)


def _reason(
    rules: Rules,
    *,
    kept: int,
    stale: int,
    spread: int | None,
    middle: Fraction,
    last: Collection[Fraction],
    jump: Jump | None,
) -> tuple[Reason | None, Jump | None]:
    if spread is None or kept < rules.sources_min:
        return (Reason.STALE if kept + stale >= rules.sources_min else Reason.TOO_FEW), None
    if spread > rules.spread_bps:
        return Reason.SPREAD, None
    if not last or any(_is_within(middle, anchor, rules.jump_bps) for anchor in last):
        return None, None
    held = jump.rounds + 1 if jump is not None and _is_within(middle, jump.value, rules.jump_bps) else 1
    if held >= rules.jump_rounds:
        return None, None
    # Where it jumped first stays the measure: what runs away step by step has not held anywhere.
    return Reason.JUMP, Jump(jump.value if jump is not None and held > 1 else middle, held)


def _is_within(value: Fraction, measure: Fraction, bps: int) -> bool:
    return abs(value - measure) * BPS <= measure * bps


def _spread(values: Collection[Fraction], middle: Fraction) -> int:
    """From the lowest to the highest, in hundredths of a percent of the middle, rounded up."""
    exact = (max(values) - min(values)) * BPS / middle
    return -(-exact.numerator // exact.denominator)
