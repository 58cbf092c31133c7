"""What other slices have for payouts: brought along by whoever calls, as slices don't know each other."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from providers.payout.base import Destination, Kind


class Quote(Protocol):
    """A promise of what `units_in` become. `rate`: whole assets got for a whole one given, without the spread."""

    @property
    def id(self) -> UUID: ...
    @property
    def from_asset(self) -> str: ...
    @property
    def to_asset(self) -> str: ...
    @property
    def units_in(self) -> int: ...
    @property
    def units_out(self) -> int: ...
    @property
    def spread_units(self) -> int: ...
    @property
    def remainder(self) -> int: ...
    @property
    def rate(self) -> Fraction: ...
    @property
    def rate_at(self) -> datetime: ...


class MomentRate(Protocol):
    """`numerator` smallest units of what is got for `denominator` smallest units of what is given."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


class Taken(Protocol):
    """An entry of the destination book. `state`: pending, verified, refused or removed."""

    @property
    def id(self) -> UUID: ...
    @property
    def account(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def chain(self) -> str | None: ...
    @property
    def destination(self) -> Destination: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def masked(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def failure(self) -> str | None: ...
    @property
    def verified_at(self) -> datetime | None: ...


class Take(Protocol):
    def __call__(self, session: Session, beneficiary_id: UUID, /, *, tenant: str) -> Taken:
        """The entry, which nobody changes until the transaction ends. Raises NotFoundError, ConflictError (removed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDestination:
    """A destination that the request brings along: it is looked for in the account's book, and added if need be."""

    destination: Destination
    chain: str | None = None


class Add(Protocol):
    def __call__(self, session: Session, new: NewDestination, /, *, tenant: str, account: str, actor: str) -> UUID:
        """The id of the entry, found or added. Raises InvalidRequestError with the field at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    take: Take
    add: Add
    consume: Callable[[Session, UUID, str, str], Quote]
    """(session, quote, tenant, subject) -> the quote, used up. Raises NotFoundError, ConflictError."""
    rate: Callable[[Session, str, str], MomentRate]
    """(session, given, got) -> the rate of now. Raises TransientError while none is usable, InvalidRequestError if
    there can't be any."""
    unsettled: Callable[[Session, str, str, str], int]
    """(session, tenant, account, asset) -> units that deposits have credited and that may still be undone."""
