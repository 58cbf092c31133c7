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
    (payment,) = captured
    return Truth(
        currency=_asset(payment["currency"]),
        paid=payment["amount"],
        fee=payment["fee"],
        refunded=_sum(double._rows("refund"), payment_id=payment["id"], status="processed"),
        running=_sum(double._rows("dispute"), payment_id=payment["id"], status="open"),
        lost=_sum(double._rows("dispute"), payment_id=payment["id"], status="lost"),
    )


def _flutterwave(double: Any, reference: str) -> Truth:
    paid = [row for row in double.transactions if row["tx_ref"] == reference and row["status"] == "successful"]
    if not paid:
        return Truth()
    (row,) = paid
    currency = _asset(row["currency"])
    back = [each for each in double.refunds if each["transaction_id"] == row["id"] and each["status"] == REFUNDED]
    stages = [each for each in double.chargebacks if each["tx_ref"] == reference]
    newest = stages[-1] if stages else {"status": "won", "amount": 0}
    contested = 0 if newest["status"] == "won" else minor(newest["amount"], currency)
    return Truth(
        currency=currency,
        paid=minor(row["amount"], currency),
        fee=minor(row["app_fee"], currency),
        refunded=sum(minor(each["amount_refunded"], currency) for each in back),
        running=0 if newest["status"] == "lost" else contested,
        lost=contested if newest["status"] == "lost" else 0,
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
