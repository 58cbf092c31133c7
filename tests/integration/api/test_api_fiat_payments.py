"""Payments by card, bank and wallet, over the wire."""

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from core import db
from domain.access.service import Scope
from domain.fiat_payment import service as payments
from domain.quote import service as quotes
from domain.quote.service import Fixed, NewQuote
from ledger import balances
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.integration.fiat_payment.conftest import books
from tests.integration.fiat_payment.desk import SHOP, USER, Desk, Rate, spend
from tests.integration.fiat_payment.scripted import EUR

__all__ = ["books"]
USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"


@pytest.fixture
def desk(books: None) -> Iterator[Desk]:
    made = Desk()
    yield made
    made.check_books()


def ask(client: httpx.Client, key: str = "k1", headers: dict[str, str] | None = None, **given: Any) -> httpx.Response:
    body = {"account": USER, "currency": EUR, "units": "10000", **given}
    return client.post("/v1/fiat-payments", json=body, headers={"Idempotency-Key": key, **(headers or {})})


def test_a_payment_is_accepted_once_with_the_job_of_its_order(desk: Desk, client: httpx.Client) -> None:
    first, again = ask(client, metadata={"order": "1001"}), ask(client, metadata={"order": "1001"})
    assert (first.status_code, again.status_code, again.json()) == (202, 202, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert first.headers["location"] == f"/v1/fiat-payments/{first.json()['id']}"
    made = first.json()
    assert (made["state"], made["units"], made["page_url"], made["provider"]) == ("created", "10000", None, None)
    assert (made["metadata"], made["credit_asset"], made["credited_units"]) == ({"order": "1001"}, EUR, "0")
    assert (count("fiat_payments"), len(desk.jobs("fiat_webhook.create_order"))) == (1, 1)
    is_problem(ask(client, units="10001"), 422, "idempotency-key-reused")


def test_it_can_be_followed_to_the_credit_and_listed(desk: Desk, client: httpx.Client, new_key: NewKey) -> None:
    made = ask(client).json()["id"]
    payment = UUID(made)
    desk.order(payment)
    desk.pay(payment, fee_units=290)
    found = client.get(f"/v1/fiat-payments/{made}").json()
    assert (found["state"], found["paid_units"], found["provider_fee_units"]) == ("credited", "10000", "290")
    assert (found["credited_units"], found["credited_asset"], found["provider"]) == ("10000", EUR, "acme")
    assert [event["event"] for event in found["history"]] == ["created", "order", "pay", "credit"]
    for key in ("k2", "k3"):
        ask(client, key)
    page = client.get("/v1/fiat-payments", params={"limit": 2}).json()
    rest = client.get("/v1/fiat-payments", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [len(page["fiat_payments"]), len(rest["fiat_payments"]), rest["next_cursor"]] == [2, 1, None]
    assert rest["fiat_payments"][0]["id"] == made
    credited = client.get("/v1/fiat-payments", params={"state": "credited"}).json()["fiat_payments"]
    assert [one["id"] for one in credited] == [made]
    assert client.get("/v1/fiat-payments", params={"held": "true"}).json()["fiat_payments"] == []
    is_problem(client.get("/v1/fiat-payments", params={"cursor": "x"}), 400, "invalid-cursor")
    other = {"Authorization": f"Bearer {new_key(tenant='other').secret}"}
    is_problem(client.get(f"/v1/fiat-payments/{made}", headers=other), 404, "not-found")
    assert client.get("/v1/fiat-payments", headers=other).json()["fiat_payments"] == []
    is_problem(client.get(f"/v1/fiat-payments/{uuid4()}"), 404, "not-found")


def test_a_caller_may_wait_for_the_page(desk: Desk, client: httpx.Client) -> None:
    def worker() -> None:
        while not (jobs := desk.jobs("fiat_webhook.create_order")):
            time.sleep(0.02)
        time.sleep(0.3)
        desk.order(UUID(jobs[0].args["payment_id"]))

    thread = threading.Thread(target=worker)
    thread.start()
    began = time.monotonic()
    reply = ask(client, headers={"Prefer": "respond-async, wait=10"})
    took = time.monotonic() - began
    thread.join()
    assert (reply.status_code, reply.headers["preference-applied"]) == (202, "wait=10")
    assert reply.json()["page_url"] == f"https://pay.example/{reply.json()['id']}"
    assert 0.3 < took < 5
    began = time.monotonic()
    waited = ask(client, "k2", headers={"Prefer": "wait=1"})
    assert 0.9 < time.monotonic() - began < 4
    assert (waited.status_code, waited.json()["state"]) == (202, "created")
    for nonsense in ("wait=-1", "wait=soon", "waiting=10", "wait=0"):
        assert "preference-applied" not in ask(client, "k2", headers={"Prefer": nonsense}).headers


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"units": "0"}, "/units"),
        ({"units": 100.5}, "/units"),
        ({"currency": "iso4217:XTS"}, "/currency"),
        ({"account": "house:fees"}, "/account"),
        ({"provider": "nobody"}, "/provider"),
        ({"method": "barter"}, "/method"),
        ({"return_url": "ftp://x"}, "/return_url"),
        ({"expires_in": 1}, "/expires_in"),
        ({"payer_email": "ann@payer.example"}, "/payer_email"),
        ({"card_number": "4242424242424242"}, "/card_number"),
    ],
)
def test_what_can_t_be_is_told_with_its_place(
    desk: Desk, client: httpx.Client, given: dict[str, Any], pointer: str
) -> None:
    problem = is_problem(ask(client, **given), 422, "invalid-request")
    assert pointer in str(problem["errors"])
    assert count("fiat_payments") == 0


def test_a_quote_is_used_up_by_its_payment_alone(desk: Desk, client: httpx.Client) -> None:
    rate = Rate(11_000, 1)
    with db.transaction() as session:
        new = NewQuote(SHOP, EUR, USDT, Fixed.IN, 10_000)
        quote = quotes.create(session, new, lambda _session, _given, _got: rate).id
    is_problem(ask(client, units="9999", quote_id=str(quote)), 409, "conflict")  # and the quote is still unused
    made = ask(client, "k2", quote_id=str(quote)).json()
    assert (made["credit_asset"], made["quote_id"]) == (USDT, str(quote))
    is_problem(ask(client, "k3", quote_id=str(quote)), 409, "conflict")
    is_problem(ask(client, "k4", quote_id=str(uuid4())), 404, "not-found")
    desk.rate = rate
    payment = UUID(made["id"])
    desk.order(payment)
    desk.pay(payment)
    with db.transaction() as session:
        promised = quotes.get(session, quote, tenant=SHOP)
        assert promised is not None
        assert balances.balance(session, SHOP, USER, USDT) == promised.units_out == 9_950 * 11_000


def test_a_refund_holds_the_money_and_is_asked_for_once(desk: Desk, client: httpx.Client) -> None:
    payment = UUID(ask(client).json()["id"])
    path = f"/v1/fiat-payments/{payment}/refunds"

    def refund(units: str, key: str) -> httpx.Response:
        return client.post(path, json={"units": units}, headers={"Idempotency-Key": key})

    is_problem(refund("100", "r0"), 409, "conflict")
    desk.order(payment)
    desk.pay(payment)
    spend(4_000)
    problem = is_problem(refund("6001", "r0"), 409, "insufficient-funds")
    assert (problem["available"], problem["needed"]) == ("6000", "6001")
    first, again = refund("6000", "r1"), refund("6000", "r1")
    assert (first.status_code, again.json(), first.json()["state"]) == (202, first.json(), "requested")
    is_problem(refund("1", "r2"), 409, "conflict")
    [job] = desk.jobs("fiat_webhook.refund")
    assert job.args == {"refund_id": first.json()["id"]}
    payments.refund(UUID(first.json()["id"]), desk.gateways)
    found = client.get(f"/v1/fiat-payments/{payment}").json()
    assert [(one["state"], one["units"]) for one in found["refunds"]] == [("done", "6000")]
    assert (found["refunded_units"], found["credited_units"]) == ("6000", "4000")
    is_problem(client.post(path, json={"units": "1"}), 400, "idempotency-key-missing")


def test_metrics_tell_of_states_holds_and_gateways(desk: Desk, client: httpx.Client) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, 1)
    desk.create(10_000)
    with db.transaction() as session:
        session.execute(text("UPDATE fiat_gateways SET failures = 3, failed_at = now(), refused_at = now()"))
    told = client.get("/metrics").text
    for line in (
        'tallyrail_fiat_payments{state="created"} 1.0',
        'tallyrail_fiat_payments{state="paid"} 1.0',
        'tallyrail_fiat_payments_held{reason="amount"} 1.0',
        "tallyrail_fiat_unknown_oldest_seconds 0.0",
        'tallyrail_fiat_gateway_down{gateway="acme"} 1.0',
        'tallyrail_fiat_gateway_refused{gateway="acme"} 1.0',
    ):
        assert line in told


def test_reading_is_not_asking(desk: Desk, client: httpx.Client, new_key: NewKey) -> None:
    secret = new_key(scopes=[Scope.FIAT_PAYMENTS_READ]).secret
    client.headers["Authorization"] = f"Bearer {secret}"
    is_problem(ask(client), 403, "forbidden")
    assert client.get("/v1/fiat-payments").json() == {"fiat_payments": [], "next_cursor": None}
