"""What holds for a deposit: the request's own terms, and where it states none, its asset's. Kept with the deposit."""

from dataclasses import dataclass

from config.assets import Asset, Disposal, registry
from core.errors import InvalidRequestError
from core.money import UNITS_MAX
from domain.deposit.states import Reason

TOLERANCE_MAX = 10_000
CONFIRMATIONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Value:
    """What a payment must be worth: units of a currency (cents of `iso4217:USD`), whatever it is paid in."""

    currency: str
    units: int


@dataclass(frozen=True, slots=True)
class Terms:
    """As they are kept: an asset's policy that changes later changes no deposit that was asked for before."""

    tolerance_bps: int
    accepts: list[str]
    """The reasons that don't keep it from being credited."""


def terms(
    asset: Asset,
    *,
    tolerance_bps: int | None,
    underpaid: Disposal | None,
    overpaid: Disposal | None,
    late: Disposal | None,
) -> Terms:
    """Raises InvalidRequestError for what can't be."""
    tolerance = asset.tolerance_bps if tolerance_bps is None else tolerance_bps
    if not is_whole(tolerance) or not 0 <= tolerance <= TOLERANCE_MAX:
        raise InvalidRequestError(f"the tolerance is 0 to {TOLERANCE_MAX} basis points", field="tolerance_bps")
    chosen = {
        Reason.UNDERPAID: underpaid or asset.underpaid,
        Reason.OVERPAID: overpaid or asset.overpaid,
        Reason.LATE: late or asset.late,
    }
    for reason, disposal in chosen.items():
        if disposal not in ("credit", "suspend"):
            raise InvalidRequestError("what does not fit is credited or suspended", field=reason.value)
    return Terms(tolerance, [reason.value for reason, disposal in chosen.items() if disposal == "credit"])


def unexpected(asset: Asset) -> list[str]:
    """The same for money that nobody asked for."""
    return [Reason.UNEXPECTED.value] if asset.unexpected == "credit" else []


def check_expected(asset: Asset, units: int | None, value: Value | None, confirmations: int | None) -> None:
    """Raises InvalidRequestError unless so much can be expected."""
    if units is not None:
        _check_units(units, "units")
        if units < asset.units_min:
            raise InvalidRequestError(f"the smallest deposit of {asset.id} is {asset.units_min} units", field="units")
    if value is not None:
        if units is not None:
            raise InvalidRequestError("a payment is expected in units or by its value, not both", field="value")
        _check_units(value.units, "value")
        if value.currency not in registry().assets or value.currency == asset.id:
            raise InvalidRequestError(f"{asset.id} has no value in {value.currency[:200]!r}", field="value")
    if confirmations is not None and (not is_whole(confirmations) or not 1 <= confirmations <= CONFIRMATIONS_MAX):
        raise InvalidRequestError(f"confirmations are 1 to {CONFIRMATIONS_MAX} blocks", field="confirmations")


def _check_units(units: int, field: str) -> None:
    if not is_whole(units) or not 0 < units <= UNITS_MAX:
        raise InvalidRequestError("units are an integer above zero of at most 38 digits", field=field)


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
