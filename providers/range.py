"""How much may go at once, whatever the kind of provider."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Units that one order or payout may have, both ends included."""

    units_min: int
    units_max: int
