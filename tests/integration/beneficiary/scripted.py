"""A payout provider that only tells holders and banks, as it is told to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.errors import PermanentError, TransientError
from providers.payout.base import (
    Abilities,
    Bank,
    Destination,
    Kind,
    Notice,
    PayoutRequest,
    Range,
    Remittance,
    Sent,
    StatementLine,
)

BANKS = {"058": "Guaranty Trust Bank", "011": "First Bank of Nigeria", "305": "Paycom"}


@dataclass
class ScriptedProvider:
    """`holders` by number; a number that isn't there has no account."""

    name: str = "acme"
    holders: dict[str, str] = field(default_factory=dict)
    enquires: frozenset[Kind] = frozenset({Kind.BANK_NG, Kind.UPI})
    lists: dict[Kind, dict[str, str]] = field(default_factory=lambda: {Kind.BANK_NG: dict(BANKS)})
    fails: list[Exception] = field(default_factory=list)
    """What its next calls raise, first of all."""
    asked: list[Destination] = field(default_factory=list)
    before_answer: Callable[[], None] | None = None

    @property
    def abilities(self) -> Abilities:
        return Abilities(
            currencies={"iso4217:NGN": Range(units_min=1, units_max=10**9)},
            kinds=frozenset({Kind.BANK_NG, Kind.BANK_IN, Kind.UPI}),
            signs_webhooks=True,
            key_window=None,
            absent_after=timedelta(hours=1),
            per_second=10,
            statements=False,
            enquires=self.enquires,
        )

    def holder(self, destination: Destination) -> str | None:
        self.asked.append(destination)
        if self.fails:
            raise self.fails.pop(0)
        if self.before_answer is not None:
            self.before_answer()
        return self.holders.get(destination.number)

    def banks(self, kind: Kind) -> Sequence[Bank]:
        if self.fails:
            raise self.fails.pop(0)
        return [Bank(code=code, name=name) for code, name in self.lists.get(kind, {}).items()]

    # What no enquiry needs.

    def send(self, request: PayoutRequest) -> Sent:
        raise NotImplementedError

    def find(self, reference: str, *, provider_ref: str | None, sent_at: datetime) -> Remittance | None:
        raise NotImplementedError

    def balance(self, currency: str) -> int:
        raise NotImplementedError

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:
        raise NotImplementedError

    def statement(self, since: datetime, until: datetime) -> Iterator[StatementLine]:
        raise NotImplementedError


def away(words: str = "the bank is away") -> TransientError:
    return TransientError(words)


def not_asked() -> PermanentError:
    return PermanentError("this account may make no enquiries")
