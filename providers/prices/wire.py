"""Reading what sources send. None of it is trusted: what is no price, or of no time, is as if it were not there."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from core.errors import OutcomeUnknownError, PermanentError, TransientError
from providers.prices.base import Pair, Price
from providers.prices.symbols import Symbols

DIGITS_MAX = 38
Found = tuple[str, datetime] | None
"""A price, and when it held."""


class MalformedError(Exception):
    """The source answered with something else than it documents."""


def decimal_text(value: object) -> str | None:
    """A price above zero as plain decimal text, from the text or the whole number that JSON had; None for all else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    if not found.is_finite() or found <= 0 or abs(found.adjusted()) >= DIGITS_MAX:
        return None
    return f"{found:f}"


def moment(seconds: object, *, per_second: int = 1) -> datetime | None:
    """A Unix time as whole seconds, or as so many parts of one; None for what is none."""
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit():
        seconds = int(seconds[:20])
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        return None
    try:
        return datetime.fromtimestamp(seconds // per_second, UTC)
    except (OverflowError, ValueError, OSError):
        return None


@contextmanager
def failures(source: str) -> Iterator[None]:
    """Whatever goes wrong with a question about prices proves nothing and may be asked again."""
    try:
        yield
    except (PermanentError, OutcomeUnknownError) as error:
        raise TransientError(str(error)) from None
    except MalformedError as error:
        raise TransientError(f"{source} told {error}") from None


def told(source: str, pairs: Collection[Pair], symbols: Symbols, find: Callable[[str], Found]) -> Mapping[Pair, Price]:
    """The prices that `find` has of these pairs' symbols. Raises TransientError if it has none at all."""
    prices = {}
    for pair in pairs:
        symbol = symbols.of(pair)
        found = None if symbol is None else find(symbol)
        if found is not None:
            prices[pair] = Price(pair, *found)
    if pairs and not prices:
        raise TransientError(f"{source} told none of the prices that it was asked for")
    return prices
