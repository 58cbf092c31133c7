"""What a source of prices is. The domain sees this module and no adapter."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pair:
    """`asset` and `currency` are ids of the registry: how many of the currency one asset costs."""

    asset: str
    currency: str


@dataclass(frozen=True, slots=True)
class Price:
    """As a source told it. `price` is decimal text, never a float: of one whole asset, in whole currency."""

    pair: Pair
    price: str
    observed_at: datetime
    """When the source says that it held. If it doesn't say, when it was asked."""


class Source(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str: ...

    def knows(self, pair: Pair) -> bool:
        """Whether the source quotes this pair, as its configuration says. Asks nobody."""

    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        """Of those that it knows, in as few requests as it takes. One that it can't tell now is left out.

        Raises TransientError if nothing can be had.
        """
