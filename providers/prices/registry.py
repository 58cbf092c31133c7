"""Which sources of prices a deployment asks. Adapters are imported when they are first asked for."""

from collections.abc import Sequence

from providers.prices.base import Source


def sources() -> Sequence[Source]:
    """Those that PRICE_SOURCES names."""
    return ()
