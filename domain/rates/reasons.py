"""Why a rate can't be used, and why a price was not."""

from enum import StrEnum

from core.errors import TransientError


class Reason(StrEnum):
    TOO_FEW = "too_few_sources"
    """Fewer sources than it takes told a price that the others bear out."""
    STALE = "stale"
    """There would be enough if their prices were not too old; or no round has been finished for too long."""
    SPREAD = "spread"
    """The sources that count are too far from each other."""
    JUMP = "jump"
    """Too far from the last usable rate, and not there for long."""
    UNKNOWN = "unknown"
    """Nobody is asked for such a rate, and no route leads there."""
    REMOVED = "removed"
    """It was asked for until somebody took the pair out of the configuration."""


class Dropped(StrEnum):
    STALE = "stale"
    OUTLIER = "outlier"


class RateUnusableError(TransientError):
    """No rate that money may be moved by now. Whatever needs it waits, and tries again."""

    def __init__(self, asset: str, currency: str, reason: Reason) -> None:
        super().__init__(f"the rate of {asset} in {currency} can't be used: {reason.value.replace('_', ' ')}")
        self.asset = asset
        self.currency = currency
        self.reason = reason
