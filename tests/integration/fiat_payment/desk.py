"""What a test of payments needs at hand: payments, what providers say of them, and the books."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import clock
from core.breaks import Break
from core.db import transaction
from core.errors import OutcomeUnknownError, TransientError
from core.jobs import Job
from domain.fiat_payment import service
from domain.fiat_payment.models import FiatAttempt, FiatPayment, FiatRefund
from domain.fiat_payment.service import Conversions, NewFiatPayment
from domain.fiat_payment.states import PaymentState
from ledger import balances, posting
from ledger.posting import Journal, Posting
from providers.fiat.base import Order
from tests.integration.fiat_payment.scripted import EUR, ScriptedGateway

USER = "user:42:available"
OWED = "user:42:owed"
SHOP = "shop"
_DATED = ("expires_at", "created_at", "next_look_at", "asked_at", "waits_since", "paid_at", "settle_by")


@dataclass
class Rate:
    """Of a test: `numerator` smallest units got for `denominator` given."""

    numerator: int
    denominator: int
    observed_at: datetime = field(default_factory=clock.now)
    source: str = "test"


@dataclass
class Quote:
    id: UUID
    from_asset: str
    to_asset: str
    units_in: int
    units_out: int
    spread_units: int
    remainder: int
    spread_bps: int
    rate: Fraction
    rate_at: datetime = field(default_factory=clock.now)


class Desk:
    def __init__(self, *gateways: ScriptedGateway) -> None:
        self.gateways = {gateway.name: gateway for gateway in gateways or (ScriptedGateway(),)}
        self.rate: Rate | None = None
        self.quotes: dict[UUID, Quote] = {}
        self.spread_bps = 0
        service.use_rates(self._rate)
        with transaction() as session:
            service.refresh_gateways(session, self.gateways)

    @property
    def gateway(self) -> ScriptedGateway:
        return next(iter(self.gateways.values()))

    def _rate(self, _session: Session, given: str, got: str) -> Rate:
        if self.rate is None:
            raise TransientError(f"no rate from {given} into {got}")
        return self.rate

    # --- payments ----------------------------------------------------------------------------------------------------

    def create(self, units: int = 10_000, currency: str = EUR, **asked: Any) -> UUID:
        fields: dict[str, Any] = {"tenant": SHOP, "account": USER, "currency": currency, "units": units}
        new = NewFiatPayment(**fields | asked)
        with transaction() as session:
            return service.create(session, new, self.conversions).id

    @property
    def conversions(self) -> Conversions:
        return Conversions(
            consume=lambda _session, quote, _tenant, _subject: self.quotes[quote],
            slippage_bps=100,
            spread_bps=lambda _tenant: self.spread_bps,
        )

    def ordered(self, units: int = 10_000, currency: str = EUR, **asked: Any) -> UUID:
        """A payment whose order is made."""
        payment_id = self.create(units, currency, **asked)
        self.order(payment_id)
        return payment_id

    def order(self, payment_id: UUID) -> None:
        service.order(payment_id, self.gateways)

    def order_again(self, payment_id: UUID) -> None:
        """As its job would, whatever the run before came to."""
        try:
            self.order(payment_id)
        except (OutcomeUnknownError, TransientError):
            return

    def look(self, payment_id: UUID) -> None:
        service.look(payment_id, self.gateways)

    def record(
        self,
        payment_id: UUID,
        order: Order,
        *,
        at: datetime | None = None,
        source: str = "find",
        provider: str | None = None,
    ) -> None:
        with transaction() as session:
            service.record(session, payment_id, order, asked_at=at or clock.now(), source=source, provider=provider)

    def pay(self, payment_id: UUID, units: int | None = None, **changes: Any) -> None:
        """The payer pays, and we are told."""
        self.record(payment_id, self.at(payment_id).pay(str(payment_id), units, **changes))

    def tell(self, payment_id: UUID, **changes: Any) -> None:
        """The provider says something new, and we are told."""
        self.record(payment_id, self.at(payment_id).tell(str(payment_id), **changes))

    def at(self, payment_id: UUID) -> ScriptedGateway:
        return self.gateways[self.payment(payment_id).provider or ""]

    def release(self, payment_id: UUID, **given: Any) -> None:
        with transaction() as session:
            service.release(session, payment_id, actor="ann", reason="talked to the payer", **given)

    def forward(self, span: timedelta) -> None:
        """Let time pass for all payments: everything that is dated lies so much longer ago."""
        with transaction() as session:
            for table, columns in (
                ("fiat_payments", _DATED),
                ("fiat_attempts", ("asked_at",)),
                ("fiat_refunds", ("asked_at", "updated_at")),
            ):
                changes = ", ".join(f"{column} = {column} - :span" for column in columns)
                session.execute(text(f"UPDATE {table} SET {changes}"), {"span": span})  # names of ours

    # --- what there is -----------------------------------------------------------------------------------------------

    def payment(self, payment_id: UUID) -> FiatPayment:
        with transaction() as session:
            found = service.get(session, payment_id)
            assert found is not None
            return found

    def state(self, payment_id: UUID) -> PaymentState:
        return self.payment(payment_id).current

    def attempts(self, payment_id: UUID) -> list[tuple[str, str]]:
        with transaction() as session:
            rows = session.execute(
                select(FiatAttempt.provider, FiatAttempt.state)
                .where(FiatAttempt.payment_id == payment_id)
                .order_by(FiatAttempt.number)
            )
            return [(row[0], row[1]) for row in rows]

    def refund_of(self, refund_id: UUID) -> FiatRefund:
        with transaction() as session:
            found = session.get(FiatRefund, refund_id)
            assert found is not None
            return found

    def events(self, payment_id: UUID) -> list[str]:
        with transaction() as session:
            return [event.event for event in service.history(session, payment_id)]

    def breaks(self, *, state: str = "open") -> list[tuple[str, str, str]]:
        with transaction() as session:
            rows = session.execute(
                select(Break.kind, Break.expected, Break.found).where(Break.state == state).order_by(Break.id)
            )
            return [(row[0], row[1], row[2]) for row in rows]

    def jobs(self, task: str) -> list[Job]:
        with transaction() as session:
            return list(session.scalars(select(Job).where(Job.task == task).order_by(Job.id)))

    # --- the books ---------------------------------------------------------------------------------------------------

    def balance(self, code: str, asset: str = EUR) -> int:
        with transaction() as session:
            return balances.balance(session, SHOP, code, asset)

    def available(self, asset: str = EUR) -> int:
        return self.balance(USER, asset)

    def owed_by_gateway(self, asset: str = EUR) -> int:
        return sum(self.balance(f"gateway:{name}", asset) for name in self.gateways)

    def check_books(self) -> None:
        """Debits are credits in every asset, and each payment's row says what its journals say."""
        with transaction() as session:
            for line in balances.trial_balance(session, SHOP):
                assert line.debits == line.credits, line
            rows = session.scalars(select(FiatPayment)).all()
        for row in rows:
            assert row.booked_units == row.paid_units
            of_suspense = row.booked_units - row.credited_units - row.suspended_units
            assert of_suspense >= 0
            assert of_suspense + row.returned_units == row.gone_units
        for name, gateway in self.gateways.items():
            for currency in {order.currency for order in gateway.orders.values()}:
                assert self.balance(f"gateway:{name}", currency) == _owes(rows, name, currency) - self._settled(
                    name, currency
                )

    def _settled(self, provider: str, currency: str) -> int:
        with transaction() as session:
            found = session.scalar(
                text(
                    "SELECT coalesce(sum(units - fee_units), 0) FROM fiat_settlement_lines"
                    " WHERE provider = :provider AND currency = :currency AND state = 'matched'"
                ),
                {"provider": provider, "currency": currency},
            )
            return int(found or 0)


def _owes(rows: Sequence[FiatPayment], provider: str, currency: str) -> int:
    """What the provider has taken in for us and not given back, by what it last said of each payment."""
    return sum(
        row.paid_units - (row.provider_fee_units or 0) * bool(row.paid_units) - row.gone_units
        for row in rows
        if row.provider == provider and row.paid_currency == currency
    )


def spend(units: int, asset: str = EUR, account: str = USER) -> None:
    """The owner has spent so much of it."""
    move = Posting(source=account, destination="user:7:available", asset=asset, units=units)
    with transaction() as session:
        posting.post(session, Journal(tenant=SHOP, reference=f"spent:{uuid4()}", category="test", postings=[move]))
