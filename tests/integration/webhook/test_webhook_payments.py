"""Webhooks on real payments and real books: credited once, however they come, and an old one undoes nothing."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from domain.fiat_payment.service import PaymentState
from domain.webhook.settings import webhook
from domain.webhook.states import ReceiptState
from providers.fiat.base import Notice, Order, OrderRequest
from tasks import fiat_webhook
from tests.integration.fiat_payment.conftest import books
from tests.integration.fiat_payment.desk import Desk
from tests.integration.fiat_payment.scripted import ScriptedGateway
from tests.integration.webhook.desk import age, kept, receipt

__all__ = ["books"]


@dataclass
class Telling(ScriptedGateway):
    """Each webhook's body is the number of what it said when it was sent."""

    name: str = "stripe"
    said: list[Order] = field(default_factory=list)

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:
        order = self.said[int(body)]
        return [Notice(reference=order.reference, provider_ref=order.provider_ref, kind="told", order=order)]

    def webhook(self, order: Order) -> UUID:
        """One that tells of the order as it is given, and is kept."""
        self.said.append(order)
        return kept(b"%d" % (len(self.said) - 1))


@pytest.fixture
def gateway(books: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Telling]:
    monkeypatch.setenv("WEBHOOK_REFETCH_UNITS", '{"iso4217:EUR": 50000}')
    webhook.cache_clear()
    made = Telling()
    monkeypatch.setattr("providers.fiat.registry.get", lambda _: made)
    yield made
    webhook.cache_clear()


@pytest.fixture
def desk(gateway: Telling) -> Iterator[Desk]:
    made = Desk(gateway)
    yield made
    made.check_books()


def test_a_payment_is_credited_once_by_its_webhook(desk: Desk, gateway: Telling) -> None:
    payment = desk.ordered(10_000)
    told = gateway.pay(str(payment))
    for one in (gateway.webhook(told), gateway.webhook(told)):
        fiat_webhook.handle(one)
        fiat_webhook.handle(one)
        assert receipt(one).current is ReceiptState.HANDLED
    assert (desk.state(payment), desk.available()) == (PaymentState.CREDITED, 10_000)
    assert gateway.finds == 1, "only the second, as the payment was settled by then"


def test_much_money_is_asked_for_and_a_liar_gets_nothing(desk: Desk, gateway: Telling) -> None:
    payment = desk.ordered(60_000)
    true = gateway.orders[str(payment)]
    lie = gateway.pay(str(payment))
    gateway.orders[str(payment)] = true  # nobody has paid: only who has our secret says so
    fiat_webhook.handle(gateway.webhook(lie))
    assert (desk.state(payment), desk.available(), gateway.finds) == (PaymentState.PENDING, 0, 1)


def test_a_webhook_that_comes_before_the_answer_to_our_own_call_is_as_good(desk: Desk, gateway: Telling) -> None:
    payment = desk.create(10_000)
    seen: list[PaymentState] = []

    def before(request: OrderRequest) -> None:
        fiat_webhook.handle(gateway.webhook(gateway.pay(request.reference)))
        seen.append(desk.state(payment))

    gateway.before_answer = before
    desk.order(payment)
    assert seen == [PaymentState.CREDITED]
    assert (desk.state(payment), desk.available()) == (PaymentState.CREDITED, 10_000)


@pytest.mark.parametrize("seed", range(8))
def test_in_any_order_the_last_state_is_what_the_provider_says(desk: Desk, gateway: Telling, seed: int) -> None:
    """Paid, disputed, won, refunded in part: told in any order, some twice, some days late."""
    chance = random.Random(seed)
    payment = desk.ordered(10_000)
    reference = str(payment)
    history = [gateway.orders[reference], gateway.pay(reference)]
    history.append(gateway.tell(reference, disputed_units=10_000))
    history.append(gateway.tell(reference, disputed_units=0))
    history.append(gateway.tell(reference, refunded_units=2_500))
    told = history + chance.choices(history, k=3)
    chance.shuffle(told)
    for order in told:
        one = gateway.webhook(order)
        age(one, chance.choice([0, 0, 48]))
        fiat_webhook.handle(one)
        assert receipt(one).current is ReceiptState.HANDLED
    desk.look(payment)
    assert (desk.state(payment), desk.available()) == (PaymentState.CREDITED, 7_500)
    assert desk.owed_by_gateway() in {-7_500, 7_500}
