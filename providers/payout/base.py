"""What a payout provider is: somebody who sends money for us to a bank account, a UPI id or an account of theirs.

The domain sees this module and no adapter. An adapter speaks its provider's wire format over core.http and keeps to
what tests/conformance/test_payout_providers.py asks of all:

- Amounts come and go as integers in the currency's smallest unit, whatever the provider writes.
- `send` *returns* what became of it (`Standing`), so that no blanket retry swallows an unknown outcome. Only reading
  raises TransientError.
- REJECTED is said only where the provider has proven that it made nothing of this reference. "Duplicate reference" is
  no refusal: it means that there is one, so it is looked up, or UNKNOWN.
- What a status that we have never seen means is unknown: such a remittance is pending.
- Nothing of beneficiaries is logged, nor said in an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Protocol

from providers.range import Range
from providers.standing import Standing

__all__ = [
    "Abilities",
    "Bank",
    "Destination",
    "Hours",
    "Kind",
    "Notice",
    "PayoutProvider",
    "PayoutRequest",
    "Range",
    "Refusal",
    "Remittance",
    "RemittanceState",
    "Sent",
    "Standing",
    "StatementKind",
    "StatementLine",
]


class Kind(StrEnum):
    """Of destinations. What fields each has: `Destination`."""

    BANK_NG = "bank_ng"
    """Nigeria: `bank_code` (of the bank list), `number` (NUBAN, 10 digits)."""
    BANK_IN = "bank_in"
    """India: `bank_code` (IFSC), `number`."""
    UPI = "upi"
    """`number` is the UPI id (VPA), `name@handle`."""
    IBAN = "iban"
    """`number` is the IBAN without spaces."""
    STRIPE = "stripe"
    """`number` is a connected account, `acct_...`, which pays out to its own bank or card."""
    CHAIN = "chain"
    """`number` is an address of the chain of the asset. No payout provider takes it: the signer does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where money goes. None of it may be logged."""

    kind: Kind
    number: str = field(repr=False)
    bank_code: str | None = None
    holder: str | None = field(default=None, repr=False)
    """Whose it is, as they wrote it."""
    tag: str | None = field(default=None, repr=False)
    """A memo, for chains whose exchanges want one."""


class RemittanceState(StrEnum):
    """Of what we asked a provider to send."""

    PENDING = "pending"
    """Under way, or in a state that we don't know."""
    PAID = "paid"
    FAILED = "failed"
    """It did not leave, or it certainly will not."""
    RETURNED = "returned"
    """It left, and is back with the provider, whole."""


class Refusal(StrEnum):
    """Why a provider doesn't send it, so far as that says what to do next."""

    DESTINATION = "destination"
    """Closed, frozen, wrong: no provider can."""
    FUNDS = "funds"
    """We have too little there."""
    LIMIT = "limit"
    """More than it takes at once, in a day or to this destination."""
    PROVIDER = "provider"
    """Its own or the bank's trouble: later, or another provider."""
    REQUEST = "request"
    """It doesn't understand what we ask: our adapter is wrong, or our contract doesn't allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRequest:
    """What to send. `reference` is ours, unique for ever, at most 36 of [A-Za-z0-9-]: it is also the key."""

    reference: str
    currency: str
    """Such as `iso4217:NGN`."""
    units: int
    destination: Destination
    narration: str
    """What the beneficiary reads, in ASCII letters, digits and spaces; adapters cut it to what the provider takes."""
    purpose: str = "payout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remittance:
    """What a provider says of one payout."""

    reference: str
    provider_ref: str
    state: RemittanceState
    currency: str
    units: int
    fee_units: int | None = None
    """What the provider takes of us on top, in the same currency. None: it hasn't said."""
    refusal: Refusal | None = None
    """If it failed or was returned."""
    why: str | None = None
    """Likewise: in the provider's code, never a beneficiary's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of `send`. `remittance` if accepted; `refusal` and `why` if rejected."""

    standing: Standing
    remittance: Remittance | None = None
    refusal: Refusal | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What an authentic webhook is about. At least one of `reference` and `provider_ref` is given."""

    reference: str | None
    provider_ref: str | None
    kind: str
    remittance: Remittance | None = None
    """What it says, if it says all of it. None: ask (`find`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    code: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """When a provider sends. Days: 0 is Monday. In the named time zone, `begin` <= t < `end`; equal: the whole day."""

    zone: str
    days: frozenset[int]
    begin: time
    end: time


class StatementKind(StrEnum):
    PAYOUT = "payout"
    RETURN = "return"
    FEE = "fee"
    OTHER = "other"
    """Top-ups, corrections: what belongs to no payout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One line of what happened to our balance there. `units` is signed: what it adds to the balance."""

    id: str
    """The provider's, unique among its lines."""
    kind: StatementKind
    reference: str | None
    provider_ref: str | None
    currency: str
    units: int
    fee_units: int
    booked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a provider can do, as it documents it and our contract with it allows."""

    currencies: Mapping[str, Range]
    kinds: frozenset[Kind]
    signs_webhooks: bool
    key_window: timedelta | None
    """So long after a reference was first sent, sending it again with the same body makes no second payout. None: for
    ever. Zero: never rely on it."""
    absent_after: timedelta | None
    """So long after a reference was last sent, that `find` knows none proves that there is none. None: never."""
    per_second: int
    """Requests that it takes."""
    statements: bool
    enquires: frozenset[Kind]
    """Kinds whose holder's name it tells."""
    hours: Hours | None = None
    """None: always."""


class PayoutProvider(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """`razorpayx`: what it is called in rows, URLs and settings."""

    @property
    def abilities(self) -> Abilities: ...

    def send(self, request: PayoutRequest) -> Sent:
        """Ask for it, once. Raises nothing that money depends on: see Standing."""

    def find(self, reference: str, *, provider_ref: str | None, sent_at: datetime) -> Remittance | None:
        """What the provider says of it now. None: it knows none of that reference, so far.

        `sent_at`: about when it was first sent, as some look things up by day. Raises TransientError, PermanentError.
        """

    def balance(self, currency: str) -> int:
        """Units that can be sent now. Raises TransientError, PermanentError."""

    def holder(self, destination: Destination) -> str | None:
        """Whose account it is, as its bank says. None: there is no such account.

        Raises TransientError, and PermanentError where this provider can't be asked that.
        """

    def banks(self, kind: Kind) -> Sequence[Bank]:
        """All banks that it sends to. Empty where bank codes follow a rule, such as IFSC. Raises TransientError."""

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:
        """What an authentic webhook says. Empty: about nothing of ours. Raises PermanentError if it is unreadable."""

    def statement(self, since: datetime, until: datetime) -> Iterator[StatementLine]:
        """All lines of that time, however many pages. Raises TransientError, PermanentError."""
