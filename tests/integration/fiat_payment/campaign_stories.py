"""What is certainly tried at each gateway that can show it, whatever Hypothesis comes upon.

Each story is a shop of its own, whose end must be as that of all others.
"""

from collections.abc import Callable

from domain.fiat_payment.service import PaymentState
from tests.integration.fiat_payment.campaign import MOVING
from tests.integration.fiat_payment.campaign_closing import holds
from tests.integration.fiat_payment.campaign_shop import OWED, USDT, USER, Shop
from tests.support.gateways.base import Double

S = PaymentState
Story = Callable[[Shop], None]


def other_amounts_and_currencies(shop: Shop) -> None:
    """Are never credited by themselves. Of the first we learn by a poll, of the others by webhooks."""
    for number, change in enumerate(("less", "less", "more", "currency")):
        payment = shop.ordered("moment" if change == "more" else "")
        shop.pay(payment, change)
        if number == 0:
            shop.lose_webhooks()
            shop.poll()
        else:
            shop.deliver_new()
        reason = "currency" if change == "currency" else "amount"
        row = shop.row(payment)
        assert (row.current, row.hold_reason, row.credited_units) == (S.PAID, reason, 0)
        assert shop.breaks(payment) == [f"fiat.{reason}"]


def answers_go_wrong(shop: Shop) -> None:
    for fault in MOVING.values():
        payment = shop.ask()
        shop.double.upset(fault)
        shop.order(payment)
        shop.double.calm()
        shop.order(payment)
        shop.let_time_pass()
        shop.order(payment)
        holds(shop)
        shop.pay(payment)
        shop.deliver_new()
        assert shop.row(payment).current is S.CREDITED


def webhooks_come_as_they_like(shop: Shop) -> None:
    early = shop.ask()
    shop.pay_before_reply()
    shop.order(early)
    holds(shop)
    assert shop.row(early).current is S.CREDITED
    backwards, never, again, failed, expired, ended = (shop.ordered() for _ in range(6))
    shop.double.fail(str(failed))
    shop.double.expire(str(expired))
    shop.expire_here(ended)
    shop.poll()
    for payment in (backwards, again, failed, expired, ended):
        shop.pay(payment)
    shop.deliver_all(backwards=True)
    shop.deliver_all()
    shop.lose_webhooks()
    shop.pay(never)
    shop.lose_webhooks()
    shop.poll()
    holds(shop)
    assert {shop.row(payment).current for payment in shop.payments} == {S.CREDITED}
    assert shop.balance(USER) == shop.double.units * len(shop.payments)


def money_is_given_back(shop: Shop) -> None:
    """By us, in the dashboard, all or a part; it fails; an answer gets lost; an older one comes after a newer one."""
    by_us, there, lost, failing, late = (shop.paid() for _ in range(5))
    shop.ask_refund(by_us, 3, may_owe=False)
    shop.double.refund_outside(str(there), shop.double.units)
    shop.double.upset(MOVING["500 after accepting"])
    shop.ask_refund(lost, 2, may_owe=False)
    shop.double.finish_refunds()
    shop.deliver_new()
    shop.poll()
    assert shop.row(there).current is S.REFUNDED
    shop.ask_refund(failing, 4, may_owe=False)
    if shop.double.refunds_fail:
        shop.double.fail_refunds()
    shop.ask_refund(by_us, 8, may_owe=True)  # more than is left: refused
    shop.deliver_new()
    shop.poll()  # what is held for a refund that failed can be spent again
    shop.spend(4)

    def meanwhile() -> None:
        shop.double.refund_outside(str(late), shop.double.units)
        shop.double.finish_refunds()
        shop.deliver_new()

    shop.look_late(late, meanwhile)
    assert (shop.row(late).current, shop.row(late).refunded_units) == (S.REFUNDED, shop.double.units)
    assert shop.balance(OWED) == shop.row(late).short_units > 0
    holds(shop)


def banks_ask_it_back(shop: Shop) -> None:
    lost, won, won_late, at_once, running, spent = (shop.paid() for _ in range(6))
    for payment in (lost, won, won_late, running):
        shop.double.dispute(str(payment))
    shop.deliver_new()
    assert shop.row(won).current is S.DISPUTED
    shop.double.charge_back(str(lost))
    shop.double.charge_back(str(at_once))
    shop.double.charge_back(str(won_late))
    shop.double.win_dispute(str(won))
    shop.deliver_new()
    shop.deliver_new()
    shop.poll()
    assert [shop.row(payment).current for payment in (lost, won, at_once)] == [
        S.CHARGED_BACK,
        S.CREDITED,
        S.CHARGED_BACK,
    ]
    shop.double.win_dispute(str(won_late))
    shop.deliver_new()
    shop.spend(4)
    shop.double.charge_back(str(spent))
    shop.deliver_new()
    assert shop.row(spent).short_units > 0
    shop.double.win_dispute(str(spent))
    shop.deliver_new()
    shop.poll()
    assert shop.row(spent).current is S.CREDITED


def conversions(shop: Shop) -> None:
    """At the rate of the moment and at a quote; the market moves, or there is none; some of it goes back."""
    moment, quoted = shop.paid("moment"), shop.paid("quote")
    kept, slipped = shop.ordered("quote"), shop.ordered("quote")
    shop.move_rate("a little less")
    shop.pay(kept)
    shop.deliver_new()
    assert shop.row(kept).credited_out == shop.quotes[kept].units_out
    shop.move_rate("far less")
    shop.pay(slipped)
    shop.deliver_new()
    assert (shop.row(slipped).hold_reason, shop.row(slipped).credited_units) == ("slippage", 0)
    shop.move_rate(None)
    waiting = shop.paid("moment")
    assert (shop.row(waiting).current, shop.row(waiting).waits_for) == (S.PAID, "rate")
    shop.move_rate("more")
    shop.poll()
    assert shop.row(waiting).credited_asset == USDT
    if shop.abilities.refunds:
        shop.double.refund_outside(str(moment), shop.double.units // 3)
        shop.double.refund_outside(str(waiting), shop.double.units)
    if shop.double.charges_back:
        shop.double.charge_back(str(quoted))
    shop.double.finish_refunds()
    shop.deliver_new()
    shop.poll()


def payouts(shop: Shop) -> None:
    """Read twice, before and after money went back, and before anybody told us that it was paid."""
    early, kept, back, lost, won = (shop.paid() for _ in range(5))
    late = shop.ordered()
    shop.pay(late)
    shop.lose_webhooks()
    shop.double.settle()
    shop.read_settlements()
    shop.read_settlements()
    shop.double.refund_outside(str(early), 100)
    shop.double.finish_refunds()
    shop.double.refund_outside(str(back), shop.double.units)
    shop.double.finish_refunds()
    if shop.double.charges_back:
        shop.double.charge_back(str(lost))
        shop.double.dispute(str(won))
        shop.double.win_dispute(str(won))
    shop.double.settle()
    shop.read_settlements()
    shop.deliver_all(backwards=True)
    shop.poll()
    shop.read_settlements()
    assert shop.row(kept).current is S.CREDITED


def paid_twice(shop: Shop) -> None:
    """Before and after we heard of the first time."""
    told, untold = shop.paid(), shop.ordered()
    for payment in (told, untold, untold):
        shop.pay(payment)
    shop.deliver_new()
    shop.deliver_all(backwards=True)
    shop.poll()
    units = shop.double.units
    for payment, credited in ((told, units), (untold, 0)):
        row = shop.row(payment)
        assert (row.paid_units, row.hold_reason, row.credited_units) == (2 * units, "amount", credited)
    assert shop.balance(USER) == units
    shop.ask_refund(told, 4, may_owe=False)


def stories(kind: type[Double]) -> list[Story]:
    """Those that this gateway can show."""
    able: list[Story] = [other_amounts_and_currencies, answers_go_wrong, webhooks_come_as_they_like, conversions]
    if kind.gives_back:
        able.append(money_is_given_back)
    if kind.charges_back:
        able.append(banks_ask_it_back)
    if kind.settle is not Double.settle:
        able.append(payouts)
    if kind.pays_twice:
        able.append(paid_twice)
    return able
