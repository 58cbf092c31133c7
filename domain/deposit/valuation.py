"""What an asset is worth, for deposits expected by value. Rates are another slice's: tasks bring them along."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Protocol

from sqlalchemy.orm import Session

from domain.deposit.models import Deposit


class Rate(Protocol):
    """`numerator` smallest units of the currency for `denominator` smallest units of the asset."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...
    @property
    def observed_at(self) -> datetime: ...
    @property
    def source(self) -> str: ...


Valuer = Callable[[Session, str, str, datetime], Rate | None]
"""(session, asset, currency, moment) -> what was known of that moment; None if nothing usable was."""


def _nothing_is_known(session: Session, asset: str, currency: str, at: datetime) -> Rate | None:  # noqa: ARG001
    return None


_valuer: Valuer = _nothing_is_known


def use_rates(valuer: Valuer) -> None:
    """Where this process takes its rates from. Without any, deposits by value wait."""
    global _valuer  # noqa: PLW0603  # one source a process
    _valuer = valuer


def rate_of(session: Session, deposit: Deposit, at: datetime) -> Rate | None:
    """The rate of that moment for a deposit that is expected by value."""
    return None if deposit.value_currency is None else _valuer(session, deposit.asset, deposit.value_currency, at)


def rates_of(session: Session, deposits: Collection[Deposit], at: datetime) -> dict[str, Rate]:
    """The rates of that moment that these deposits, all of one asset, are expected in; by currency."""
    wanted = {(deposit.asset, deposit.value_currency) for deposit in deposits if deposit.value_currency is not None}
    found = {currency: _valuer(session, asset, currency, at) for asset, currency in sorted(wanted)}
    return {currency: rate for currency, rate in found.items() if rate is not None}
