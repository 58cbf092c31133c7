"""What doubles of gateways have in their own rows, read past their interface and our adapters, to hold both to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.gateways.alchemy_pay import AlchemyPayDouble
from tests.support.gateways.base import Double
from tests.support.gateways.decimal_double import minor
from tests.support.gateways.flutterwave import REFUNDED, FlutterwaveDouble
from tests.support.gateways.razorpay import RazorpayDouble
from tests.support.gateways.stripe import StripeDouble
from tests.support.gateways.unlimit import PAID, UnlimitDouble

WITH_MONEY = PAID | {"CHARGED_BACK", "REFUNDED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Of one order. Units of `currency`, which it was paid in."""

    currency: str | None = None
    """None: nobody has paid."""
    paid: int = 0
    fee: int = 0
    refunded: int = 0
    running: int = 0
    """Disputed, and not decided."""
    lost: int = 0
    times: int = 1
    """How often the payer has paid."""

    @property
    def left(self) -> int:
        """Of what was paid, what is neither back with the payer nor withheld."""
        return max(self.paid - self.refunded - self.running - self.lost, 0)

    @property
    def owed(self) -> int:
        """What the provider owes us for it."""
        return self.left - self.fee


def orders(double: Double, reference: str) -> int:
    """How many there are of one reference."""
    match double:
        case StripeDouble():
            rows = [row["client_reference_id"] for row in double._rows("checkout.session")]
        case RazorpayDouble():
            rows = [row["reference_id"] for row in double._rows("_link")]
        case FlutterwaveDouble():
            rows = list(double.links)
        case UnlimitDouble():
            rows = [row["merchant_order"]["id"] for row in double.payments.values()]
        case AlchemyPayDouble():
            rows = list(double.orders)
        case _:
            raise TypeError(double.name)
    return rows.count(reference)


def truth(double: Double, reference: str) -> Truth:
    """Of an order that is there."""
    with double.lock:
        return _READERS[double.name](double, reference)


def _stripe(double: Any, reference: str) -> Truth:
    intent = double.objects.get(double._session(reference)["payment_intent"])
    if intent is None or intent["latest_charge"] is None:
        return Truth()
    charge = double.objects[intent["latest_charge"]]
    disputes = [row for row in double._rows("dispute") if row["charge"] == charge["id"]]
    return Truth(
        currency=_asset(charge["currency"]),
        paid=charge["amount"],
        fee=double.objects[charge["balance_transaction"]]["fee"],
        refunded=_sum(double._rows("refund"), charge=charge["id"], status="succeeded"),
        running=_sum(disputes, status="needs_response"),
        lost=_sum(disputes, status="lost"),
    )


def _razorpay(double: Any, reference: str) -> Truth:
    tried = {each["payment_id"] for each in double._link(reference)["payments"] or ()}
    captured = [row for row in double._rows("payment") if row["id"] in tried and row["captured"]]
    if not captured:
        return Truth()

    def total(kind: str, status: str) -> int:
        return sum(_sum(double._rows(kind), payment_id=each["id"], status=status) for each in captured)

    (code,) = {each["currency"] for each in captured}
    return Truth(
        currency=_asset(code),
        paid=sum(each["amount"] for each in captured),
        fee=sum(each["fee"] for each in captured),
        refunded=total("refund", "processed"),
        running=total("dispute", "open"),
        lost=total("dispute", "lost"),
        times=len(captured),
    )


def _flutterwave(double: Any, reference: str) -> Truth:
    paid = [row for row in double.transactions if row["tx_ref"] == reference and row["status"] == "successful"]
    if not paid:
        return Truth()
    (currency,) = {_asset(row["currency"]) for row in paid}
    numbers = {row["id"] for row in paid}
    back = [each for each in double.refunds if each["transaction_id"] in numbers and each["status"] == REFUNDED]
    stages = [each for each in double.chargebacks if each["tx_ref"] == reference]
    newest = stages[-1] if stages else {"status": "won", "amount": 0}
    # Of one of which all is on its way back already, the bank asks for nothing.
    contested = 0 if newest["status"] == "won" or not newest["amount"] else minor(newest["amount"], currency)
    return Truth(
        currency=currency,
        paid=sum(minor(row["amount"], currency) for row in paid),
        fee=sum(minor(row["app_fee"], currency) for row in paid),
        refunded=sum(minor(each["amount_refunded"], currency) for each in back),
        running=0 if newest["status"] == "lost" else contested,
        lost=contested if newest["status"] == "lost" else 0,
        times=len(paid),
    )


def _unlimit(double: Any, reference: str) -> Truth:
    """It tells no fee, and of a chargeback no amount: it is what the payer hasn't got back."""
    payment = double._of(reference)
    data = payment["payment_data"]
    if data["status"] not in WITH_MONEY:
        return Truth()
    currency = _asset(data["currency"])
    paid = minor(data["amount"], currency)
    back = [
        minor(each["refund_data"]["amount"], currency)
        for each in double.refunds.values()
        if each["payment_data"]["id"] == data["id"] and each["refund_data"]["status"] == "COMPLETED"
    ]
    contested = paid - sum(back) if data["status"] == "CHARGED_BACK" else 0
    is_lost = bool(contested) and "result_time" in double._newest_dispute(payment)
    return Truth(
        currency=currency,
        paid=paid,
        refunded=sum(back),
        running=0 if is_lost else contested,
        lost=contested if is_lost else 0,
    )


def _alchemy_pay(double: Any, reference: str) -> Truth:
    order = double.orders[reference]
    if order["status"] != "FINISHED":
        return Truth()
    currency = _asset(order["fiat"])
    return Truth(currency=currency, paid=minor(order["amount"], currency), fee=minor(order["rampFee"], currency))


_READERS: dict[str, Callable[[Any, str], Truth]] = {
    "stripe": _stripe,
    "razorpay": _razorpay,
    "flutterwave": _flutterwave,
    "unlimit": _unlimit,
    "alchemy_pay": _alchemy_pay,
}


def _asset(code: str) -> str:
    return f"iso4217:{code.upper()}"


def _sum(rows: list[Any], **wanted: str) -> int:
    return sum(row["amount"] for row in rows if all(row[name] == value for name, value in wanted.items()))


# --- what was paid out ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settled:
    """Of one order, what is in payouts to us: `units` of what was owed, less `costs` that were no part of that."""

    units: int
    costs: int = 0


def settled(double: Double, reference: str) -> Settled:
    """Of an order that was paid, at a provider that tells of payouts."""
    with double.lock:
        match double:
            case StripeDouble():
                return _settled_by_stripe(double, reference)
            case RazorpayDouble():
                tried = {each["payment_id"] for each in double._link(reference)["payments"]}
                lines = [row for row in double._rows("_line") if row["settled"]]
                of_it = [row for row in lines if row["entity_id"] in tried or row["payment_id"] in tried]
                return Settled(sum(row["credit"] - row["debit"] for row in of_it))
            case FlutterwaveDouble():
                return _settled_by_flutterwave(double, reference)
            case _:
                raise TypeError(double.name)


def _settled_by_stripe(double: StripeDouble, reference: str) -> Settled:
    charge = double._charge_of(reference)["id"]
    sources = {row["id"] for row in double.objects.values() if charge in (row["id"], row.get("charge"))}
    rows = [row for row in double._rows("balance_transaction") if row["source"] in sources and row["_payout"]]
    costs = sum(row["fee"] for row in rows if row["source"] != charge)
    return Settled(sum(row["net"] for row in rows) + costs, costs)


def _settled_by_flutterwave(double: FlutterwaveDouble, reference: str) -> Settled:
    rows = [row for row in double.transactions if row["tx_ref"] == reference and row["_settled"]]
    numbers = {row["id"] for row in rows}
    back = [row for row in double.refunds if row["transaction_id"] in numbers and row["_settled"]]
    taken = [row for row in double.chargebacks if row["transaction_id"] in numbers and row["_settled"]]
    net = sum(minor(row["amount_settled"], double.currency) for row in rows)
    net -= sum(minor(row["amount_refunded"], double.currency) for row in back)
    return Settled(net - (minor(taken[0]["amount"], double.currency) if taken else 0))


def failed_refunds(double: Double, reference: str) -> int:
    """How many of its refunds came back, where the payouts have lines of that: nobody knows which refund they undo."""
    if not isinstance(double, StripeDouble) or not truth(double, reference).paid:
        return 0
    charge = double._charge_of(reference)["id"]
    return sum(row["charge"] == charge and row["status"] == "failed" for row in double._rows("refund"))
