"""The destination book over the wire."""

import threading
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from config import settings
from domain.beneficiary import service
from providers.payout.base import Kind
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.beneficiary.desk import USER, enquiries
from tests.integration.beneficiary.scripted import ScriptedProvider

__all__ = ["vault_keys"]
pytestmark = pytest.mark.usefixtures("vault_keys")
ACME = {"acme": ScriptedProvider(holders={"0123456785": "OBI ADA CHIOMA"})}
ADA = {"kind": "bank_ng", "bank_code": "058", "number": "0123456785", "holder": "Ada Obi"}


def add(client: httpx.Client, key: str = "k1", prefer: str | None = None, **given: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} | ({} if prefer is None else {"Prefer": prefer})
    return client.post("/v1/beneficiaries", json={"account": USER, **ADA, **given}, headers=headers)


def test_a_destination_is_added_once_and_told_masked(client: httpx.Client, new_key: NewKey) -> None:
    service.refresh(ACME)
    first, again, other = add(client, label="Mum"), add(client, label="Mum"), add(client, "k2")
    assert (first.status_code, again.json(), other.json()["id"]) == (201, first.json(), first.json()["id"])
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in other.headers
    made = first.json()
    assert first.headers["location"] == made["links"]["beneficiary"] == f"/v1/beneficiaries/{made['id']}"
    assert (made["masked"], made["bank_name"], made["label"]) == ("058 ******6785", "Guaranty Trust Bank", "Mum")
    assert (made["state"], made["holder_matches"], made["failure"]) == ("pending", None, None)
    assert not {"number", "bank_code", "holder", "tag", "fingerprint"} & set(made)
    is_problem(add(client, holder="Bola Obi"), 422, "idempotency-key-reused")
    service.verify(UUID(made["id"]), ACME)
    found = client.get(first.headers["location"]).json()
    assert (found["state"], found["holder_matches"]) == ("verified", True) and found["verified_at"]
    assert [event["event"] for event in found["history"]] == ["add", "verify"]
    theirs = {"Authorization": f"Bearer {new_key(tenant='other').secret}"}
    for method in ("GET", "DELETE"):
        is_problem(client.request(method, first.headers["location"], headers=theirs), 404, "not-found")
        is_problem(client.request(method, f"/v1/beneficiaries/{uuid4()}"), 404, "not-found")
    assert client.get("/v1/beneficiaries", headers=theirs).json()["beneficiaries"] == []


def test_it_is_listed_and_removed(client: httpx.Client) -> None:
    ids = [add(client, f"k{user}", account=f"user:{user}:available").json()["id"] for user in range(3)]
    page = client.get("/v1/beneficiaries", params={"limit": 2}).json()
    rest = client.get("/v1/beneficiaries", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [one["id"] for one in [*page["beneficiaries"], *rest["beneficiaries"]]] == ids[::-1]
    for _ in range(2):
        gone = client.delete(f"/v1/beneficiaries/{ids[0]}")
        assert (gone.status_code, gone.json()["state"]) == (200, "removed")
    listed = client.get("/v1/beneficiaries", params={"account": "user:0:available"}).json()
    assert listed == {"beneficiaries": [], "next_cursor": None}
    assert len(client.get("/v1/beneficiaries", params={"state": "removed"}).json()["beneficiaries"]) == 1
    assert add(client, "k9", account="user:0:available").json()["id"] not in ids


def test_a_caller_may_wait_for_the_enquiry(client: httpx.Client) -> None:
    def worker() -> None:
        while not (jobs := enquiries()):
            time.sleep(0.02)
        time.sleep(0.3)
        service.verify(UUID(jobs[0].args["beneficiary_id"]), ACME)

    thread = threading.Thread(target=worker)
    thread.start()
    began = time.monotonic()
    reply = add(client, prefer="wait=10")
    took = time.monotonic() - began
    thread.join()
    assert (reply.status_code, reply.headers["preference-applied"]) == (201, "wait=10")
    assert (reply.json()["state"], reply.headers["location"]) == ("verified", f"/v1/beneficiaries/{reply.json()['id']}")
    assert 0.3 < took < 5
    began = time.monotonic()
    iban = add(client, "k2", prefer="wait=10", kind="iban", bank_code=None, number="DE89 3704 0044 0532 0130 00")
    assert (iban.json()["state"], iban.json()["masked"]) == ("verified", "DE****3000")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"number": "0123456789"}, "/number"),
        ({"bank_code": "999"}, "/bank_code"),
        ({"holder": None}, "/holder"),
        ({"kind": "cash"}, "/kind"),
        ({"account": "house:fees"}, "/account"),
        ({"chain": "eip155:1"}, "/chain"),
        ({"tag": "1"}, "/tag"),
        ({"label": "0123456785"}, "/label"),
        ({"number": 123456785}, "/number"),
    ],
)
def test_what_can_t_be_is_told_with_its_place(client: httpx.Client, given: dict[str, Any], pointer: str) -> None:
    service.refresh(ACME)
    problem = is_problem(add(client, **given), 422, "invalid-request")
    assert pointer in str(problem["errors"]) and count("beneficiaries") == count("idempotency_keys") == 0


def test_without_the_vault_s_keys_nothing_is_taken(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_KEYS", "VAULT_FINGERPRINT_KEY"):
        with monkeypatch.context() as less:
            less.delenv(name)
            settings.reload()
            assert name in str(is_problem(add(client), 409, "conflict")["detail"])
            assert client.get("/v1/beneficiaries").status_code == 200
        settings.reload()
    assert count("beneficiaries") == count("idempotency_keys") == 0


def test_banks_are_told_as_providers_told_them(client: httpx.Client) -> None:
    nothing = client.get("/v1/banks", params={"kind": "bank_ng"}).json()
    assert nothing == {"kind": "bank_ng", "banks": [], "read_at": None}
    service.refresh(ACME)
    told = client.get("/v1/banks", params={"kind": Kind.BANK_NG}).json()
    assert told["banks"][0] == {"code": "011", "name": "First Bank of Nigeria"} and told["read_at"]
    is_problem(client.get("/v1/banks"), 422, "invalid-request")
    is_problem(client.get("/v1/banks", params={"kind": "cash"}), 422, "invalid-request")
