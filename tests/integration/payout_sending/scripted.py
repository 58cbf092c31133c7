"""A payout provider that does as it is told: it stands behind the contract, and no network is between."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from core import clock
from core.errors import PermanentError, TransientError
from providers.payout.base import (
    Abilities,
    Bank,
    Destination,
    Hours,
    Kind,
    Notice,
    PayoutRequest,
    Range,
    Refusal,
    Remittance,
    RemittanceState,
    Sent,
    Standing,
    StatementLine,
)

NGN = "iso4217:NGN"


@dataclass
class ScriptedProvider:
    """`answers` are what its next calls of `send` come to; without any it accepts.

    UNKNOWN has made the payout all the same, if `makes_unknown` says so.
    """

    name: str = "acme"
    answers: list[Standing | Refusal] = field(default_factory=list)
    makes_unknown: bool = True
    away: bool = False
    unreadable: bool = False
    hidden: int = 0
    """So many of the next look-ups find nothing, though there is something."""
    key_window: timedelta | None = timedelta(hours=24)
    absent_after: timedelta | None = None
    hours: Hours | None = None
    made: dict[str, Remittance] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    """How many it made under each reference: more than one, or of two references of one payout, is money twice."""
    asked: list[PayoutRequest] = field(default_factory=list)
    finds: int = 0
    units: int = 10**12
    late: timedelta = timedelta(0)
    """So long after it was made a payout can't be found."""
    made_at: dict[str, datetime] = field(default_factory=dict)
    before_answer: Callable[[PayoutRequest], None] | None = None
    """Called when it is made and before the answer is given."""

    @property
    def abilities(self) -> Abilities:
        return Abilities(
            currencies={NGN: Range(units_min=100, units_max=10**9), "iso4217:INR": Range(units_min=1, units_max=10**9)},
            kinds=frozenset({Kind.BANK_NG}),
            signs_webhooks=True,
            key_window=self.key_window,
            absent_after=self.absent_after,
            per_second=1_000,
            statements=False,
            enquires=frozenset(),
            hours=self.hours,
        )

    def send(self, request: PayoutRequest) -> Sent:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else Standing.ACCEPTED
        if answer is Standing.ACCEPTED or (answer is Standing.UNKNOWN and self.makes_unknown):
            self.make(request)
        if self.before_answer is not None:
            self.before_answer(request)
        if isinstance(answer, Refusal):
            return Sent(standing=Standing.REJECTED, refusal=answer, why="told_so")
        told = self.made.get(request.reference) if answer is Standing.ACCEPTED else None
        return Sent(standing=answer, remittance=told, why=None if told else "told_so")

    def make(self, request: PayoutRequest) -> None:
        now = clock.now()
        known = self.made_at.get(request.reference)
        if known is not None and (self.key_window is None or now < known + self.key_window):
            return  # idempotent by our reference
        self.made_at[request.reference] = now
        self.accepted[request.reference] += 1
        self.made[request.reference] = Remittance(
            reference=request.reference,
            provider_ref=f"{self.name}_{request.reference}",
            state=RemittanceState.PENDING,
            currency=request.currency,
            units=request.units,
        )

    def find(self, reference: str, *, provider_ref: str | None, sent_at: datetime) -> Remittance | None:
        self.finds += 1
        if self.away:
            raise TransientError(f"{self.name} is away")
        if self.unreadable:
            raise PermanentError("several of one reference")
        if self.hidden and reference in self.made:
            self.hidden -= 1
            return None
        if reference in self.made_at and clock.now() < self.made_at[reference] + self.late:
            return None
        return self.made.get(reference)

    def tell(self, reference: str, state: RemittanceState, refusal: Refusal | None = None, **changes: object) -> None:
        """From now on it says this."""
        told = replace(self.made[reference], state=state, refusal=refusal)
        self.made[reference] = replace(told, **changes)  # type: ignore[arg-type]

    def balance(self, currency: str) -> int:
        if self.away:
            raise TransientError(f"{self.name} is away")
        return self.units

    def holder(self, destination: Destination) -> str | None:
        raise PermanentError("not asked here")

    def banks(self, kind: Kind) -> Sequence[Bank]:
        return ()

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:
        return ()

    def statement(self, since: datetime, until: datetime) -> Iterator[StatementLine]:
        return iter(())
