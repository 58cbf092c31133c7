"""What gateways that write amounts as decimals share: reading answers exactly, writing requests exactly, judging calls.

An amount is never a float: core.http hands out numbers with a point as their text, and `dumps` writes a Decimal as a
JSON number digit by digit.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import RefusedError, Reply
from providers.fiat import fields
from providers.fiat.base import Standing

T = TypeVar("T")

NOT_FOUND = 404
_AMOUNT = re.compile(r"(-?)([0-9]{1,25})(?:\.([0-9]{1,25}))?(?:[eE]([+-]?[0-9]{1,2}))?")


class UnreadableError(PermanentError):
    """The answer has not what its documentation promises, so that nothing can be said of the money. For a person."""


def currency_of(code: object) -> str:
    """`NGN` as `iso4217:NGN`. Raises UnreadableError if it is none, or no chains file describes it."""
    try:
        currency = fields.currency({"currency": code})
        fields.scale(currency)
    except PermanentError as error:
        raise UnreadableError(str(error)) from None
    return currency


def units(amount: object, currency: str) -> int:
    """An amount as Reply.json() gives it, in the currency's units. Raises UnreadableError if it is no whole number."""
    written = str(amount) if isinstance(amount, int) and not isinstance(amount, bool) else amount
    match = _AMOUNT.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise UnreadableError("the provider's answer has no amount where one belongs")
    sign, whole, fraction, exponent = (part or "" for part in match.groups())
    digits = int(whole + fraction)
    shift = int(exponent or 0) - len(fraction) + fields.scale(currency)
    power = int(10 ** abs(shift))
    if shift >= 0:
        digits *= power
    else:
        digits, rest = divmod(digits, power)
        if rest:
            raise UnreadableError(f"the provider speaks of a fraction of the smallest unit of {currency}")
    if digits > fields.UNITS_MAX:
        raise UnreadableError("the provider's answer has an amount beyond all amounts")
    return -digits if sign else digits


def price(amount: object, currency: str, name: str = "amount") -> int:
    """The same of what can't be less than nothing: paid, refunded, disputed, a fee. `name`: theirs, for the error."""
    found = units(amount, currency)
    if found < 0:
        raise UnreadableError(f"the provider's answer has a negative {name}")
    return found


def amount(of_units: int, currency: str) -> Decimal:
    """What `units` reads, with all its places: 1500 kobo are 15.00."""
    digits = tuple(map(int, str(abs(of_units))))
    return Decimal((int(of_units < 0), digits, -fields.scale(currency)))


def dumps(value: object) -> str:
    """Compact JSON as json.dumps writes it, and Decimals as numbers with each of their digits."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{dumps(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def maybe(value: object, *names: str) -> Any:
    """value["a"]["b"], or None if it isn't there."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def field(value: object, *names: str) -> Any:
    """The same. Raises UnreadableError if it isn't there, or null."""
    found = maybe(value, *names)
    if found is None:
        raise UnreadableError(f"the provider's answer has no {'.'.join(names)}")
    return found


def text(value: object, *names: str) -> str:
    """The same of a string that isn't empty, or of an integer as a string: ids are written either way."""
    found = field(value, *names)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not (isinstance(found, str) and found):
        raise UnreadableError(f"the provider's answer has no text {'.'.join(names)}")
    return found


def rows(value: object, *names: str) -> Sequence[Any]:
    """The same of a list, which may be missing or null: then it is empty."""
    found = maybe(value, *names)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise UnreadableError(f"the provider's answer has no list {'.'.join(names)}")
    return found


def moment(value: object) -> datetime:
    """ISO 8601, in UTC where it names no zone. Raises UnreadableError."""
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise UnreadableError("the provider's answer has no time where one belongs") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def missing(error: RefusedError) -> None:
    """Nothing, if the refusal says that there is no such thing (404). Raises it otherwise."""
    if error.reply.status != NOT_FOUND:
        raise error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call that asks a provider to do something. `body`: its JSON, if it was accepted."""

    standing: Standing
    body: Any = None
    why: str | None = None


def before(ask: Callable[[], T]) -> T | Outcome:
    """A look-up before something is asked for, or what its failure proves of what was not asked for then."""
    try:
        return ask()
    except TransientError as error:
        return Outcome(Standing.NOT_SENT, why=str(error))
    except UnreadableError as error:  # something is there
        return Outcome(Standing.UNKNOWN, why=str(error))
    except PermanentError as error:
        return Outcome(Standing.REJECTED, why=str(error))


def attempt(send: Callable[[], Reply], why: Callable[[Mapping[str, Any]], Sequence[object]]) -> Outcome:
    """One try. `why`: the provider's code and words, of the object that a refusal has."""
    try:
        return Outcome(Standing.ACCEPTED, send().json())
    except TransientError as error:
        return Outcome(Standing.NOT_SENT, why=str(error))
    except OutcomeUnknownError as error:
        return Outcome(Standing.UNKNOWN, why=str(error))
    except RefusedError as error:
        return Outcome(Standing.REJECTED, why=fields.why(error.reply.status, *why(fields.error(error))))
    except PermanentError as error:  # it can't even be asked
        return Outcome(Standing.REJECTED, why=str(error))
