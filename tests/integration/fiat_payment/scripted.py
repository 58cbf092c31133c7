"""A gateway that does as it is told: it stands behind the contract, and no network is between."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from core.errors import TransientError
from providers.fiat.base import (
    Abilities,
    Made,
    Method,
    Notice,
    Order,
    OrderRequest,
    OrderState,
    Range,
    Refund,
    Refunded,
    RefundRequest,
    RefundState,
    SettlementLine,
    Standing,
)

EUR, USD = "iso4217:EUR", "iso4217:USD"


@dataclass
class ScriptedGateway:
    """`answers` are what its next calls of `create` come to; without any it accepts.

    UNKNOWN has made the order all the same, if `makes_unknown` says so. `refund_answers` alike.
    """

    name: str = "acme"
    answers: list[Standing] = field(default_factory=list)
    refund_answers: list[Standing] = field(default_factory=list)
    makes_unknown: bool = True
    away: bool = False
    orders: dict[str, Order] = field(default_factory=dict)
    created: list[OrderRequest] = field(default_factory=list)
    """Each request that made an order here. More than one of a reference is what must never be."""
    refunds: dict[str, Refund] = field(default_factory=dict)
    lines: list[SettlementLine] = field(default_factory=list)
    refund_state: RefundState = RefundState.DONE
    refunds_once: bool = True
    before_answer: Callable[[OrderRequest], None] | None = None
    """Called when the order is there and before the answer is given."""
    finds: int = 0

    @property
    def abilities(self) -> Abilities:
        return Abilities(
            currencies={EUR: Range(units_min=100, units_max=10**9), USD: Range(units_min=100, units_max=10**6)},
            methods=frozenset({Method.CARD, Method.ANY}),
            signs_webhooks=True,
            refunds=True,
            settlements=True,
            refunds_once=self.refunds_once,
        )

    def create(self, request: OrderRequest) -> Made:
        standing = self.answers.pop(0) if self.answers else Standing.ACCEPTED
        if standing is Standing.ACCEPTED or (standing is Standing.UNKNOWN and self.makes_unknown):
            self._make(request)
        if self.before_answer is not None:
            self.before_answer(request)
        order = self.orders.get(request.reference) if standing is Standing.ACCEPTED else None
        return Made(standing=standing, order=order, why=None if order else "told_so")

    def _make(self, request: OrderRequest) -> None:
        if request.reference in self.orders:
            return  # idempotent by our reference
        self.created.append(request)
        self.orders[request.reference] = Order(
            reference=request.reference,
            provider_ref=f"{self.name}_{len(self.created)}",
            state=OrderState.OPEN,
            currency=request.currency,
            units=request.units,
            page_url=f"https://pay.example/{request.reference}",
        )

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:
        self.finds += 1
        if self.away:
            raise TransientError(f"{self.name} is away")
        return self.orders.get(reference)

    def refund(self, request: RefundRequest) -> Refunded:
        standing = self.refund_answers.pop(0) if self.refund_answers else Standing.ACCEPTED
        if standing is Standing.ACCEPTED or (standing is Standing.UNKNOWN and self.makes_unknown):
            self._give_back(request)
        found = self.refunds.get(request.reference) if standing is Standing.ACCEPTED else None
        return Refunded(standing=standing, refund=found, why=None if found else "told_so")

    def _give_back(self, request: RefundRequest) -> None:
        if request.reference in self.refunds:
            return
        self.refunds[request.reference] = Refund(
            reference=request.reference,
            provider_ref=f"re_{len(self.refunds) + 1}",
            state=self.refund_state,
            currency=request.currency,
            units=request.units,
        )
        if self.refund_state is RefundState.DONE:
            order = self.orders[request.order_reference]
            self.tell(request.order_reference, refunded_units=order.refunded_units + request.units)

    def find_refund(self, request: RefundRequest, *, refund_ref: str | None) -> Refund | None:
        if self.away:
            raise TransientError(f"{self.name} is away")
        return self.refunds.get(request.reference)

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:
        return ()

    def settlements(self, since: datetime, until: datetime) -> Iterator[SettlementLine]:
        yield from (line for line in self.lines if since <= line.settled_at < until)

    def tell(self, reference: str, **changes: object) -> Order:
        """What it says of the order from now on."""
        self.orders[reference] = replace(self.orders[reference], **changes)  # type: ignore[arg-type]
        return self.orders[reference]

    def pay(self, reference: str, units: int | None = None, **changes: object) -> Order:
        order = self.orders[reference]
        paid = order.units if units is None else units
        return self.tell(reference, state=OrderState.PAID, paid_units=paid, **changes)
