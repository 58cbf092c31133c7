"""What must hold of a shop, at every moment and at its end: what the double has in its own rows is what the books say.

Nothing of this is asked of our own rows alone: totals are the double's, and what a conversion comes to is worked out
here.
"""

from dataclasses import astuple, dataclass
from fractions import Fraction
from uuid import UUID

from sqlalchemy import text

from core import clock
from core.db import transaction
from domain.fiat_payment import service
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.service import PaymentState
from domain.quote.settings import quotes as quote_settings
from domain.webhook import service as webhooks
from domain.webhook.states import ReceiptState
from ledger import invariants
from tests.integration.fiat_payment.campaign_shop import OWED, RATES, USDT, USER, Shop
from tests.integration.fiat_payment.truths import Settled, Truth, failed_refunds, orders, settled

S, R = PaymentState, ReceiptState
ROUNDS = 8
"""In which everything must come to rest once nothing goes wrong any more."""
BPS = 10_000


def holds(shop: Shop) -> None:
    """At every moment: nobody has what was not paid."""
    assert not shop.errors, shop.errors
    for payment in shop.payments:
        row, there = shop.row(payment), shop.truth(payment)
        assert orders(shop.double, str(payment)) <= 1
        assert row.credited_units + row.suspended_units <= there.paid
        if row.credited_units:
            asked = (shop.double.units, shop.double.currency)
            assert (row.paid_currency, there.currency) == (asked[1], asked[1])
            assert row.credited_units <= asked[0], "and nobody released it"
            assert (there.paid, there.currency) == asked or there.times > 1, "and nobody released it"


def closes(shop: Shop) -> None:
    """Everything comes to rest, and everybody has what is his."""
    try:
        _comes_to_rest(shop)
        for payment in shop.payments:
            _is_told(shop, payment)
        _the_books_agree(shop)
        _held_are_released(shop)
        _is_settled(shop)
        _the_books_agree(shop)
        _the_past_comes_again(shop)
        with transaction() as session:
            assert invariants.verify(session) == []
    finally:
        with transaction() as session:
            session.execute(
                text("UPDATE fiat_payments SET next_look_at = NULL, waits_for = NULL WHERE tenant = :tenant"),
                {"tenant": shop.tenant},
            )


def _comes_to_rest(shop: Shop) -> None:
    shop.double.calm()
    if shop.rate is None:
        shop.move_rate("steady")
    for _ in range(ROUNDS):
        shop.let_time_pass()
        for payment in shop.payments:
            if shop.row(payment).current is S.CREATED:
                shop.order(payment)
        for refund in shop.refunds:
            shop.refund(refund)
        shop.double.finish_refunds()
        shop.deliver_all()
        shop.backlog.clear()
        for receipt in list(shop.unhandled):
            shop.handle(receipt)
        shop.poll()
        if _rests(shop):
            break
    else:
        _people_look(shop)
    assert _rests(shop)
    with transaction() as session:
        for receipt in shop.receipts:
            of_nobody = receipt in shop.of_nobody
            assert webhooks.get(session, receipt).current is (R.IGNORED if of_nobody else R.HANDLED)


def _people_look(shop: Shop) -> None:
    """A refund that never got there is asked for again only where none is made twice. Elsewhere a person ends it."""
    if shop.abilities.refunds_once:
        return
    with transaction() as session:
        for refund in [one for payment in shop.payments for one in service.refunds(session, payment)]:
            if refund.current is service.RefundState.UNKNOWN:
                service.end_refund(session, refund.id, was_made=False, actor="ann", reason="the dashboard has none")


def _rests(shop: Shop) -> bool:
    with transaction() as session:
        refunds = [one for payment in shop.payments for one in service.refunds(session, payment)]
    done = all(refund.state in ("done", "failed") and refund.hold_id is None for refund in refunds)
    return done and not shop.unhandled and all(shop.row(one).state != "created" for one in shop.payments)


def _is_told(shop: Shop, payment: UUID) -> None:
    """Its row is what the double has."""
    row, there = shop.row(payment), shop.truth(payment)
    assert (row.paid_units, row.refunded_units) == (there.paid, there.refunded)
    assert (row.disputed_units, row.charged_back_units) == (there.running, there.lost)
    if not there.paid:
        assert row.current in (S.PENDING, S.FAILED, S.EXPIRED)
        return
    assert (row.paid_currency, row.fee_units) == (there.currency, there.fee)
    asked = (there.currency, there.paid) == (shop.double.currency, shop.double.units)
    if not there.left:
        assert (row.hold_reason, row.suspended_units) == (None, 0)
    elif asked and not _may_wait(shop, row):
        assert (row.credited_units - row.returned_units, row.suspended_units) == (there.left, 0)
        assert row.hold_reason is None
        assert row.credited_units == there.paid or row.credit_asset == USDT
    elif asked:
        assert (row.credited_units, row.suspended_units) == (0, there.left)
    else:
        # Paid twice: the first may have been credited before anybody heard of the second.
        assert row.credited_units in ((0, shop.double.units) if there.times > 1 else (0,))
        assert row.credited_units - row.returned_units + row.suspended_units == there.left
        if row.suspended_units:
            reason = "currency" if there.currency != shop.double.currency else "amount"
            assert (row.hold_reason, shop.breaks(payment)) == (reason, [f"fiat.{reason}"])
    assert row.current is _expected(there, is_credited=bool(row.credited_units))


def _expected(there: Truth, *, is_credited: bool) -> PaymentState:
    if there.running:
        return S.DISPUTED
    if there.lost:
        return S.CHARGED_BACK
    if there.refunded >= there.paid:
        return S.REFUNDED
    return S.CREDITED if is_credited else S.PAID


def _may_wait(shop: Shop, row: FiatPayment) -> bool:
    """It is held, and may be: the market has been further below what was promised than we go along with."""
    quote = shop.quotes.get(row.id)
    if quote is None or row.hold_reason != "slippage":
        return False
    slippage_bps = 0 if row.expires_at < clock.now() else quote_settings().slippage_bps
    least = min(Fraction(*RATES[rate]) for rate in shop.rates)
    return least * BPS < Fraction(*_promised(shop, row.id)) * (BPS - slippage_bps)


def _promised(shop: Shop, payment: UUID) -> tuple[int, int]:
    """The rate of its quote, in smallest units."""
    quote = shop.quotes[payment]
    return next(rate for rate in RATES.values() if _converted(rate, shop.double.units).out == quote.units_out)


# --- the books --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """What becomes of units that are converted: `out` of what is bought."""

    out: int
    spread: int
    remainder: int
    cleared: int

    def less(self, back: int, whole: int) -> "Parts":
        """What is left when so many units of the whole went back: the owner gives a little more rather than less."""
        spread, remainder = (part - part * back // whole for part in (self.spread, self.remainder))
        out = self.out - -(-self.out * back // whole)
        return Parts(out, spread, remainder, whole - back - spread - remainder)


def _converted(rate: tuple[int, int], units: int) -> Parts:
    net = units * (BPS - quote_settings().spread_bps) // BPS
    out = net * rate[0] // rate[1]
    cleared = round(Fraction(out * rate[1], rate[0]))
    return Parts(out, units - net, net - cleared, cleared)


def _bought(shop: Shop, row: FiatPayment) -> Parts:
    """What it must have come to, at its quote or at one of the rates that there were."""
    rates = {RATES[rate] for rate in shop.rates}
    if row.id in shop.quotes and row.credited_units == shop.double.units:
        rates = {_promised(shop, row.id)}
    fitting = [made for rate in rates if (made := _converted(rate, row.credited_units)).out == row.credited_out]
    assert fitting, f"{row.credited_units} became {row.credited_out}, and there were {rates}"
    return fitting[0].less(row.returned_units, row.credited_units)


def _the_books_agree(shop: Shop) -> None:
    """With the double: what it owes, what the owner has, and with themselves."""
    truths = [(shop.row(payment), shop.truth(payment)) for payment in shop.payments]
    bought = [_bought(shop, row) for row, _ in truths if row.credited_asset == USDT]
    for currency in (shop.double.currency, shop.double.other_currency):
        of_it = [(row, there) for row, there in truths if there.currency == currency]
        out = _paid_out(shop, currency)
        assert (
            shop.balance(f"gateway:{shop.double.name}", currency) == sum(there.owed for _, there in of_it) - out.units
        )
        assert shop.balance(f"custody:bank:{currency.partition(':')[2]}", currency) == out.units - out.costs
        assert shop.balance("house:gateway_fees", currency) == sum(there.fee for _, there in of_it) + out.costs
        waits = sum(row.suspended_units for row, _ in of_it)
        assert shop.balance("suspense:payments", currency) == waits
        plain = sum(there.left - row.suspended_units for row, there in of_it if row.credited_asset == currency)
        assert _owned(shop, currency) == plain
        converted = sum(there.left - row.suspended_units for row, there in of_it if row.credited_asset == USDT)
        left = {"house:fees": 0, "house:rounding": 0, "clearing:fx": 0}
        for code in left:
            left[code] = shop.balance(code, currency)
        assert sum(left.values()) == converted
    both = (shop.double.currency, shop.double.other_currency)
    totals = (
        Parts(*(sum(column) for column in zip(*map(astuple, bought), strict=True))) if bought else Parts(0, 0, 0, 0)
    )
    assert _owned(shop, USDT) == totals.out == -shop.balance("clearing:fx", USDT)
    assert sum(shop.balance("house:fees", each) for each in both) == totals.spread
    assert sum(shop.balance("house:rounding", each) for each in both) == totals.remainder
    assert sum(shop.balance("clearing:fx", each) for each in both) == totals.cleared


def _owned(shop: Shop, asset: str) -> int:
    return shop.balance(USER, asset) - shop.balance(OWED, asset) + shop.spent[asset]


def _held_are_released(shop: Shop) -> None:
    for payment in shop.payments:
        if shop.row(payment).hold_reason:
            with transaction() as session:
                service.release(session, payment, actor="ann", reason="talked to the payer")
            row, there = shop.row(payment), shop.truth(payment)
            assert (row.hold_reason, row.suspended_units) == (None, 0)
            assert row.credited_units - row.returned_units == there.left
            assert shop.breaks(payment) == []


def _is_settled(shop: Shop) -> None:
    """What the double paid out is in our bank; of lines, only what costs no payment fits none."""
    if not shop.abilities.settlements:
        return
    shop.double.settle()
    shop.read_settlements()
    if _unmatched(shop):  # the newest comes first: what comes back may be told before what was taken
        shop.read_settlements()
    if any(failed_refunds(shop.double, str(payment)) for payment in shop.those(lambda there: bool(there.paid))):
        return
    assert _unmatched(shop) == []
    currency = shop.double.currency
    there = [settled(shop.double, str(payment)) for payment in shop.those(lambda there: there.currency == currency)]
    paid_out = Settled(sum(each.units for each in there), sum(each.costs for each in there))
    assert _paid_out(shop, currency) == paid_out


def _unmatched(shop: Shop) -> list[tuple[str, int, str]]:
    """Lines about our payments."""
    with transaction() as session:
        rows = session.execute(
            text(
                "SELECT l.kind, l.units - l.fee_units, l.why FROM fiat_settlement_lines l JOIN fiat_payments p"
                " ON l.reference = cast(p.id AS text) WHERE l.state = 'unmatched' AND p.tenant = :tenant"
            ),
            {"tenant": shop.tenant},
        )
        return [(row[0], int(row[1]), row[2]) for row in rows]


def _paid_out(shop: Shop, currency: str) -> Settled:
    """By the lines that were matched."""
    with transaction() as session:
        rows = session.execute(
            text(
                "SELECT l.units - l.fee_units, CASE WHEN l.kind = 'payment' THEN 0 ELSE l.fee_units END"
                " FROM fiat_settlement_lines l JOIN fiat_payments p ON p.id = l.payment_id"
                " WHERE l.state = 'matched' AND l.currency = :currency AND p.tenant = :tenant"
            ),
            {"currency": currency, "tenant": shop.tenant},
        ).all()
    costs = sum(int(row[1]) for row in rows)
    return Settled(sum(int(row[0]) for row in rows) + costs, costs)


def _the_past_comes_again(shop: Shop) -> None:
    """Whatever is told again moves no money."""

    def moved() -> list[int]:
        return [shop.row(payment).journals for payment in shop.payments]

    before, in_bank = moved(), _paid_out(shop, shop.double.currency)
    for receipt in shop.receipts[::4]:
        shop.handle_again(receipt)
    for one in shop.lost:
        shop.deliver(one)
    shop.poll()
    assert (moved(), _paid_out(shop, shop.double.currency)) == (before, in_bank)
    assert not shop.unhandled
