"""What a fiat gateway is: somebody who takes money from payers for us, by card, bank transfer or wallet.

The domain sees this module and no adapter. An adapter speaks its provider's wire format over core.http and keeps to
what tests/conformance/test_gateways.py asks of all:

- Amounts come and go as integers in the currency's smallest unit, whatever the provider writes. An amount that is no
  whole number of units is an answer that can't be understood.
- A call that moves or promises money *returns* what became of it (`Standing`), so that no blanket retry swallows an
  unknown outcome. Only reading raises TransientError.
- What a status that we have never seen means is unknown, not failed.
- Nothing of payers or their cards is returned or logged.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from providers.range import Range
from providers.standing import Standing

__all__ = [
    "Abilities",
    "Gateway",
    "LineKind",
    "Made",
    "Method",
    "Notice",
    "Order",
    "OrderRequest",
    "OrderState",
    "Range",
    "Refund",
    "RefundRequest",
    "RefundState",
    "Refunded",
    "SettlementLine",
    "Standing",
]


class OrderState(StrEnum):
    """Of an order at the provider, as far as it says so."""

    OPEN = "open"
    """The payer may still pay."""
    PAID = "paid"
    """Paid once, though it may have gone back since: see the amounts."""
    FAILED = "failed"
    """Nothing was paid, and nothing can be any more."""
    EXPIRED = "expired"
    """As failed, because its time was up."""


class Method(StrEnum):
    """How somebody pays."""

    CARD = "card"
    BANK_TRANSFER = "bank_transfer"
    """To an account number that is made for this order."""
    UPI = "upi"
    WALLET = "wallet"
    ANY = "any"
    """The provider's page asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """An order to be made. `reference` is ours, unique for ever, at most 36 of [A-Za-z0-9-]: it is also the key."""

    reference: str
    currency: str
    """Such as `iso4217:NGN`."""
    units: int
    method: Method = Method.ANY
    description: str
    expires_at: datetime
    return_url: str | None
    """Where the payer's browser goes afterwards. That it came back proves nothing."""
    email: str | None = field(default=None, repr=False)
    """Of the payer, where a provider insists on one. Sent, never stored."""
    webhook_url: str | None = None
    """Of ours, for providers that want it with each order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a provider says of one order. Amounts are totals since its beginning, so that they can be told in any order.

    Of the money: `paid_units` came in; of it `refunded_units` went back to the payer, `disputed_units` are withheld or
    may be taken while a dispute runs, `charged_back_units` were taken for good.
    """

    reference: str
    """Ours."""
    provider_ref: str
    """What the provider calls it: what it is looked up by where `reference` doesn't serve."""
    state: OrderState
    currency: str
    units: int
    """What was asked for."""
    paid_units: int = 0
    fee_units: int | None = None
    """What the provider keeps of it, in the same currency. None: it hasn't said."""
    refunded_units: int = 0
    disputed_units: int = 0
    charged_back_units: int = 0
    page_url: str | None = None
    """Where the payer pays."""
    instructions: Mapping[str, str] = field(default_factory=dict)
    """What the payer is told for a bank transfer: bank, account_number, account_name, expires_at, note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of `create`. `order` if accepted; `why` in the provider's code and words otherwise."""

    standing: Standing
    order: Order | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """Money back to the payer. `reference` is ours, as an order's; it is the key."""

    reference: str
    order_reference: str
    provider_ref: str
    currency: str
    units: int
    reason: str


class RefundState(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    """The money is still ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    reference: str
    provider_ref: str
    state: RefundState
    currency: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """What became of `refund`."""

    standing: Standing
    refund: Refund | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What an authentic webhook is about. At least one of `reference` and `provider_ref` is given."""

    reference: str | None
    provider_ref: str | None
    kind: str
    """In the provider's words, for people."""
    order: Order | None = None
    """What it says of the order, if it says all of it. None: ask (`find`)."""


class LineKind(StrEnum):
    PAYMENT = "payment"
    REFUND = "refund"
    CHARGEBACK = "chargeback"
    CHARGEBACK_REVERSED = "chargeback_reversed"
    FEE = "fee"
    """That belongs to no order."""
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLine:
    """One line of what a provider pays out to us. `units` is signed: what it adds to the payout before the fee."""

    id: str
    """The provider's, unique among its lines."""
    settlement: str
    """Which payout it is part of."""
    kind: LineKind
    reference: str | None
    provider_ref: str | None
    currency: str
    units: int
    fee_units: int
    settled_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a gateway can do, as its provider documents it and our contract with it allows."""

    currencies: Mapping[str, Range]
    methods: frozenset[Method]
    signs_webhooks: bool
    """The body is covered by the signature. If not, a webhook is only a hint: the order is fetched again."""
    refunds: bool
    settlements: bool
    finds_unused: bool = True
    """`find` knows an order that was made and that nobody has tried to pay yet."""
    refunds_once: bool = True
    """A refund that is asked for again under its reference is never made twice, however late the first one turns up.
    If not, one whose outcome is unknown and that `find_refund` doesn't know is a person's."""


class Gateway(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """`stripe`: what it is called in rows, URLs and settings."""

    @property
    def abilities(self) -> Abilities: ...

    def create(self, request: OrderRequest) -> Made:
        """Ask for an order. Where the provider isn't idempotent by `reference`, look it up before asking again."""

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:
        """What the provider says of the order now. None: it certainly knows none.

        `made_at`: about when it was asked for, as some look things up by day. Raises TransientError, also while they
        don't take our credentials, and PermanentError.
        """

    def refund(self, request: RefundRequest) -> Refunded:
        """Raises nothing that money depends on: see Standing."""

    def find_refund(self, request: RefundRequest, *, refund_ref: str | None) -> Refund | None:
        """What became of one. None: the provider certainly knows none of that reference."""

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:
        """What an authentic webhook says. Empty: about nothing of ours.

        Raises PermanentError if it is unreadable, TransientError if it must be asked whose it is, and nobody answers.
        """

    def settlements(self, since: datetime, until: datetime) -> Iterator[SettlementLine]:
        """All lines of that time, however many pages. Raises TransientError, PermanentError."""
