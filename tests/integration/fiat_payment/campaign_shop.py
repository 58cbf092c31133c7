"""A shop whose payers pay at one double: what is done on our side, as the API, the workers and the timetable do it.

Payments are made by the domain, and their tasks are called as the workers would. The double's webhooks come through
the check of signatures, the receipts and their task.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import clock
from core.breaks import Break
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, OutcomeUnknownError, TransientError
from core.jobs import Job
from domain.fiat_payment import service
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.service import Conversions, NewFiatPayment, NewRefund
from domain.quote import service as quotes
from domain.quote.models import Fixed, Quote
from domain.quote.service import NewQuote
from domain.quote.settings import quotes as quote_settings
from domain.webhook import service as webhooks
from domain.webhook.settings import webhook as webhook_settings
from ledger import balances, posting
from ledger.errors import InsufficientFundsError
from ledger.posting import Journal, Posting
from providers.fiat.base import Gateway, Order
from providers.webhooks.registry import schemes
from tasks import fiat_payments, fiat_webhook
from tests.integration.fiat_payment.desk import Rate
from tests.integration.fiat_payment.truths import Truth, orders, truth
from tests.support.gateways.base import PAYER_EMAIL, Double, Webhook, before_reply

USER, OWED = "user:42:available", "user:42:owed"
USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
"""What some payments are credited in."""
RATES = {"steady": (7, 13), "a little less": (697, 1_300), "far less": (6, 13), "more": (8, 13)}
"""Smallest units of USDT that are got for so many of the currency: few, so that each conversion has a remainder."""
WINDOW = timedelta(minutes=3)
"""Longer than FIAT_UNKNOWN_WINDOW."""
NOT_NOW = (OutcomeUnknownError, TransientError)
"""What a job ends with that is run again."""


class Late:
    """A gateway whose next answer is on its way for so long that other things happen before it comes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.meanwhile: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def find(self, **asked: Any) -> Order | None:
        found = self._gateway.find(**asked)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return found


class Shop:
    """A tenant. `trusts`: signed webhooks about new payments are believed, however much they are about."""

    def __init__(self, double: Double, gateway: Gateway, patch: pytest.MonkeyPatch, *, trusts: bool) -> None:
        double.calm()
        double.take()
        self.double, self.gateway = double, Late(gateway)
        self.abilities = gateway.abilities
        gateways = {double.name: cast("Gateway", self.gateway)}
        patch.setattr("tasks.fiat_payments.gateways", lambda: gateways)
        patch.setattr("providers.fiat.registry.get", lambda name: gateways[name])
        threshold = 10**9 if trusts else 1
        patch.setenv(
            "WEBHOOK_REFETCH_UNITS", f'{{"{double.currency}": {threshold}, "{double.other_currency}": {threshold}}}'
        )
        webhook_settings.cache_clear()
        service.use_rates(self._rate)
        with transaction() as session:
            service.refresh_gateways(session, gateways)
        self.tenant = f"shop-{uuid4().hex[:12]}"
        self.payments: list[UUID] = []
        self.converted: set[UUID] = set()
        self.quotes: dict[UUID, Quote] = {}
        """Payment -> what was promised for it."""
        self.refunds: list[UUID] = []
        self.backlog: list[Webhook] = []
        """All that were sent, and may still come: once, often or never."""
        self.lost: list[Webhook] = []
        self.unhandled: list[UUID] = []
        self.receipts: list[UUID] = []
        self.of_nobody: set[UUID] = set()
        """Receipts of webhooks about no payment: of a payout."""
        self.errors: list[BaseException] = []
        self.spent: Counter[str] = Counter()
        self.rate: str | None = "steady"
        self.rates = ["steady"]
        """All that there were."""
        self._opened = clock.now() - timedelta(seconds=1)
        self._job = self._last_job()

    # --- payments ----------------------------------------------------------------------------------------------------

    def ask(self, credit: str = "") -> UUID:
        """A new payment. `credit`: as it was paid, or in another asset, at the "moment"'s rate or at a "quote"."""
        sample = self.double.order("sample")
        new = NewFiatPayment(
            tenant=self.tenant,
            account=USER,
            currency=self.double.currency,
            units=self.double.units,
            credit_asset=USDT if credit else None,
            quote_id=self._quote() if credit == "quote" else None,
            method=sample.method,
            return_url=sample.return_url,
            payer_email=PAYER_EMAIL,
            expires_in=None if credit == "quote" else timedelta(hours=2),
        )
        chosen = quote_settings()
        with transaction() as session:
            made = service.create(session, new, Conversions(quotes.consume, chosen.slippage_bps, chosen.spread_of))
            self.payments.append(made.id)
            if new.quote_id is not None:
                found = quotes.get(session, new.quote_id, tenant=self.tenant)
                assert found is not None
                self.quotes[made.id] = found
        if credit:
            self.converted.add(self.payments[-1])
        return self.payments[-1]

    def ordered(self, credit: str = "") -> UUID:
        payment = self.ask(credit)
        self.order(payment)
        return payment

    def order(self, payment: UUID) -> None:
        with suppress(*NOT_NOW):
            fiat_payments.create_order(payment)

    def paid(self, credit: str = "", change: str = "") -> UUID:
        payment = self.ordered(credit)
        self.pay(payment, change)
        self.deliver_new()
        return payment

    def pay(self, payment: UUID, change: str = "") -> None:
        """What was asked, or "less", "more" or in another "currency"."""
        units = {"less": self.double.units - 100, "more": self.double.units + 700}.get(change)
        self.double.pay(str(payment), units, self.double.other_currency if change == "currency" else None)

    def pay_before_reply(self) -> None:
        """The next order that is asked for is paid, and its webhooks come, before we are answered."""

        def early() -> None:
            try:
                for payment in self.those(lambda there: not there.paid):
                    self.double.pay(str(payment))
                for one in self.sent():
                    self.deliver(one)
            except BaseException as error:  # noqa: BLE001  # told by `holds`: this is a thread of the double
                self.errors.append(error)

        self.double.upset(before_reply(early))

    def ask_refund(self, payment: UUID, part: int, *, may_owe: bool) -> None:
        """So many eighths of what was paid, if that may be."""
        new = NewRefund(
            payment_id=payment,
            units=self.row(payment).paid_units * part // 8,
            reason="asked",
            actor="ann",
            may_owe=may_owe,
        )
        try:
            with transaction() as session:
                self.refunds.append(service.request_refund(session, new).id)
        except (ConflictError, InvalidRequestError, InsufficientFundsError):
            return
        self.refund(self.refunds[-1])

    def refund(self, refund: UUID) -> None:
        with suppress(*NOT_NOW):
            fiat_payments.refund(refund)

    def poll(self) -> None:
        """All are due, and each look that is asked for is done."""
        self._change("fiat_payments a", "next_look_at = now()", "a.id = p.id AND a.next_look_at IS NOT NULL")
        fiat_payments.poll()
        for args in self._jobs("fiat_webhook.look"):
            if UUID(args["payment_id"]) in self.payments:
                fiat_payments.look(UUID(args["payment_id"]))

    def look_late(self, payment: UUID, meanwhile: Callable[[], None]) -> None:
        """Ask about one; what `meanwhile` does happens after the provider has answered and before that comes."""
        self.gateway.meanwhile = meanwhile
        fiat_payments.look(payment)
        self.gateway.meanwhile = None

    def read_settlements(self) -> None:
        """Those since the shop was opened, by the double's clock, which has seconds."""
        with suppress(*NOT_NOW):
            fiat_payments.settle(self.double.name, self._opened, clock.now() + timedelta(minutes=1))

    def spend(self, part: int) -> None:
        """The owner spends so many quarters of what there is of the currency and of what was bought for it."""
        for asset in (self.double.currency, USDT):
            units = self.balance(USER, asset) * part // 4
            if not units:
                continue
            move = Posting(source=USER, destination="user:7:available", asset=asset, units=units)
            with suppress(InsufficientFundsError), transaction() as session:  # a part may be held for a refund
                posting.post(
                    session, Journal(tenant=self.tenant, reference=f"spent:{uuid4()}", category="test", postings=[move])
                )
                self.spent[asset] += units

    # --- webhooks ----------------------------------------------------------------------------------------------------

    def deliver_new(self) -> None:
        """Each as it is sent, once."""
        new = self.double.take()
        self.backlog += new
        for one in new:
            self.deliver(one)

    def sent(self) -> list[Webhook]:
        self.backlog += self.double.take()
        return list(self.backlog)

    def deliver_all(self, *, backwards: bool = False) -> None:
        """Also those that came before."""
        sent = self.sent()
        for one in sent[::-1] if backwards else sent:
            self.deliver(one)

    def deliver(self, sent: Webhook) -> None:
        """As the API does, and then as a worker."""
        headers = {name.lower(): value for name, value in sent.headers.items()}
        headers[":path"] = urlsplit(self.double.order("sample").webhook_url or "").path
        genuine = schemes()[self.double.name].check(sent.body, headers, [self.double.webhook_secret], clock.now())
        arrived = webhooks.Arrived(
            provider=self.double.name,
            event_id=genuine.event_id,
            body=sent.body,
            headers=headers,
            secret=genuine.secret,
            remote=None,
            correlation_id=None,
        )
        with transaction() as session:
            webhooks.keep(session, [arrived])
        for args in self._jobs("fiat_webhook.handle"):
            self.receipts.append(UUID(args["receipt_id"]))
            if not sent.reference:
                self.of_nobody.add(self.receipts[-1])
            self.handle(self.receipts[-1])

    def handle(self, receipt: UUID) -> None:
        try:
            fiat_webhook.handle(receipt)
        except NOT_NOW:
            if receipt not in self.unhandled:
                self.unhandled.append(receipt)
        else:
            if receipt in self.unhandled:
                self.unhandled.remove(receipt)

    def handle_again(self, receipt: UUID) -> None:
        """As if nobody had handled it yet."""
        with transaction() as session:
            webhooks.replay(session, receipt, actor="ann")
        self._jobs("fiat_webhook.handle")
        self.handle(receipt)

    def lose_webhooks(self) -> None:
        self.lost += self.sent()
        self.backlog.clear()

    # --- time and rates ----------------------------------------------------------------------------------------------

    def let_time_pass(self) -> None:
        """So much that what is not found will not turn up any more."""
        self._change("fiat_attempts a", "asked_at = a.asked_at - :span", "a.payment_id = p.id", span=WINDOW)
        self._change("fiat_refunds a", "asked_at = a.asked_at - :span", "a.payment_id = p.id", span=WINDOW)

    def expire_here(self, payment: UUID) -> None:
        with transaction() as session:
            session.execute(
                text("UPDATE fiat_payments SET expires_at = now() - interval '1 s' WHERE id = :id"), {"id": payment}
            )

    def move_rate(self, rate: str | None) -> None:
        """None: none is usable."""
        self.rate = rate
        if rate is not None:
            self.rates.append(rate)

    def _rate(self, _session: Session, given: str, got: str) -> Rate:
        if self.rate is None:
            raise TransientError(f"no usable rate from {given} into {got}")
        return Rate(*RATES[self.rate])

    def _quote(self) -> UUID:
        if self.rate is None:
            self.move_rate("steady")
        new = NewQuote(self.tenant, self.double.currency, USDT, Fixed.IN, self.double.units)
        with transaction() as session:
            return quotes.create(session, new, self._rate).id

    # --- what there is -----------------------------------------------------------------------------------------------

    def row(self, payment: UUID) -> FiatPayment:
        with transaction() as session:
            found = service.get(session, payment)
        assert found is not None
        return found

    def truth(self, payment: UUID) -> Truth:
        return truth(self.double, str(payment)) if orders(self.double, str(payment)) else Truth()

    def those(self, fits: Callable[[Truth], bool]) -> list[UUID]:
        """Payments with an order at the double that is like this there."""
        return [one for one in self.payments if orders(self.double, str(one)) and fits(self.truth(one))]

    def breaks(self, payment: UUID) -> list[str]:
        with transaction() as session:
            query = select(Break.kind).where(Break.subject == f"fiat_payment:{payment}", Break.state == "open")
            return list(session.scalars(query))

    def balance(self, code: str, asset: str | None = None) -> int:
        with transaction() as session:
            return balances.balance(session, self.tenant, code, asset or self.double.currency)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _last_job(self) -> dict[str, UUID]:
        with transaction() as session:
            last = session.scalar(select(Job.id).order_by(Job.id.desc()).limit(1)) or UUID(int=0)
        return dict.fromkeys(("fiat_webhook.look", "fiat_webhook.handle"), last)

    def _jobs(self, task: str) -> list[dict[str, Any]]:
        """The arguments of those that were submitted since we looked."""
        with transaction() as session:
            query = select(Job.id, Job.args).where(Job.id > self._job[task], Job.task == task).order_by(Job.id)
            rows = session.execute(query).all()
        self._job[task] = rows[-1][0] if rows else self._job[task]
        return [row[1] for row in rows]

    def _change(self, table: str, change: str, where: str, **values: Any) -> None:
        """Of this tenant's payments. The words are all of this module."""
        with transaction() as session:
            session.execute(
                text(f"UPDATE {table} SET {change} FROM fiat_payments p WHERE {where} AND p.tenant = :tenant"),
                {"tenant": self.tenant, **values},
            )
