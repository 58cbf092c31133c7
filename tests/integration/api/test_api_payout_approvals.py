"""Deciding about payouts over HTTP: whose key it is, what was seen, and what is told."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.access.service import Scope
from domain.payout import settings
from tests.integration.api.conftest import NewKey, is_problem
from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.payout.counter import asked_for, events, fund, held, read

__all__ = ["vault_keys"]
pytestmark = pytest.mark.usefixtures("funded")
EUR, USER = "iso4217:EUR", "user:42:available"


@pytest.fixture
def funded(vault_keys: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PAYOUT_APPROVALS", "[[1, 1]]")
    monkeypatch.setenv("PAYOUT_LIMIT_CURRENCY", EUR)
    settings.payout.cache_clear()
    fund(100_000)
    yield
    settings.payout.cache_clear()


class Person:
    """Somebody with a key of his own; or a service, without a name."""

    def __init__(
        self, client: httpx.Client, new_key: NewKey, person: str | None, *scopes: Scope, tenant: str = "shop"
    ) -> None:
        self._client = client
        self._secret = new_key(tenant, scopes=[*scopes, Scope.PAYOUTS_READ], person=person).secret

    def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._secret}", "Idempotency-Key": str(uuid4())}
        return self._client.request(method, path, headers=headers, json=body or None)


def payout_of(person: Person, units: str = "1000") -> dict[str, Any]:
    reply = person.ask(
        "POST",
        "/v1/payouts",
        account=USER,
        asset=EUR,
        units=units,
        destination={"kind": "stripe", "number": "acct_1AbCdEfGhIjKlMn"},
    )
    assert reply.status_code == 202, reply.text
    found: dict[str, Any] = reply.json()
    assert found["state"] == "awaiting_approval" and found["approvals_needed"] == 1
    return found


def test_a_person_asks_and_another_lets_it_go(client: httpx.Client, new_key: NewKey) -> None:
    ada = Person(client, new_key, "ada", Scope.PAYOUTS_WRITE)
    ada_again = Person(client, new_key, "ada", Scope.PAYOUTS_APPROVE)
    service = Person(client, new_key, None, Scope.PAYOUTS_APPROVE)
    bob = Person(client, new_key, "bob", Scope.PAYOUTS_APPROVE)
    payout = payout_of(ada)
    assert payout["maker"] == "person:ada"
    path, seen = f"/v1/payouts/{payout['id']}", payout["content_hash"]
    own = is_problem(ada_again.ask("POST", f"{path}/approve", seen_hash=seen), 409, "conflict")
    assert "another person decides" in str(own["detail"])
    nobody = is_problem(service.ask("POST", f"{path}/approve", seen_hash=seen), 403, "forbidden")
    assert "people approve" in str(nobody["detail"])
    for refused in ({"reason": "x"}, {"seen_hash": "zz" * 32}, {"seen_hash": seen, "approver": "person:eve"}):
        is_problem(bob.ask("POST", f"{path}/approve", **refused), 422, "invalid-request")
    stale = is_problem(bob.ask("POST", f"{path}/approve", seen_hash="00" * 32), 409, "conflict")
    assert stale["errors"] == [{"pointer": "/seen_hash", "detail": stale["detail"]}]
    for _ in range(2):
        approved = bob.ask("POST", f"{path}/approve", seen_hash=seen, reason="known customer")
        assert (approved.status_code, approved.json()["state"]) == (200, "approved")
    said = bob.ask("GET", f"{path}/approvals").json()
    assert (said["approvals_given"], said["approvals_needed"], said["revision"]) == (1, 1, 1)
    [approval] = said["approvals"]
    assert (approval["approver"], approval["reason"], approval["seen_hash"]) == ("person:bob", "known customer", seen)
    assert asked_for(UUID(payout["id"])).count("payout.submit") == 1


def test_an_edit_voids_what_was_seen_and_bars_its_editor(client: httpx.Client, new_key: NewKey) -> None:
    app = Person(client, new_key, None, Scope.PAYOUTS_WRITE)
    eve = Person(client, new_key, "eve", Scope.PAYOUTS_WRITE, Scope.PAYOUTS_APPROVE)
    bob = Person(client, new_key, "bob", Scope.PAYOUTS_APPROVE)
    payout = payout_of(app)
    path, seen = f"/v1/payouts/{payout['id']}", payout["content_hash"]
    edit = {"seen_hash": seen, "units": "900", "narration": "Prize", "reason": "typo"}
    edited = eve.ask("PATCH", path, **edit)
    assert edited.status_code == 200, edited.text
    now = edited.json()
    assert (now["state"], now["revision"], now["units"]) == ("awaiting_approval", 2, "900")
    is_problem(eve.ask("PATCH", path, **edit), 409, "conflict")
    is_problem(bob.ask("POST", f"{path}/approve", seen_hash=seen), 409, "conflict")
    is_problem(eve.ask("POST", f"{path}/approve", seen_hash=now["content_hash"]), 409, "conflict")
    too_much = {"seen_hash": now["content_hash"], "units": "100001", "reason": "more"}
    is_problem(eve.ask("PATCH", path, **too_much), 409, "insufficient-funds")
    limit = is_problem(eve.ask("PATCH", path, **too_much | {"units": "60000"}), 422, "limit-exceeded")
    assert limit["limit"] == "each"
    assert held() == (900, 99_100) and read(UUID(payout["id"])).revision == 2
    rejected = bob.ask("POST", f"{path}/reject", seen_hash=now["content_hash"], reason="not a prize")
    assert rejected.json()["state"] == "rejected" and held() == (0, 100_000)


def test_stopping_is_the_apps_or_a_persons_and_of_the_own_tenant_only(client: httpx.Client, new_key: NewKey) -> None:
    app = Person(client, new_key, None, Scope.PAYOUTS_WRITE, Scope.PAYOUTS_APPROVE)
    bob = Person(client, new_key, "bob", Scope.PAYOUTS_APPROVE)
    others = Person(client, new_key, "mallory", Scope.PAYOUTS_WRITE, Scope.PAYOUTS_APPROVE, tenant="casino")
    payout = payout_of(app)
    path, why = f"/v1/payouts/{payout['id']}", {"reason": "asked to"}
    for step in ("cancel", "freeze", "thaw"):
        is_problem(others.ask("POST", f"{path}/{step}", **why), 404, "not-found")
    is_problem(others.ask("POST", f"{path}/approve", seen_hash=payout["content_hash"]), 404, "not-found")
    is_problem(others.ask("GET", f"{path}/approvals"), 404, "not-found")
    is_problem(app.ask("POST", f"{path}/freeze", **why), 403, "forbidden")
    is_problem(bob.ask("POST", f"{path}/cancel", **why), 403, "forbidden")
    assert bob.ask("POST", f"{path}/freeze", **why).json()["state"] == "frozen"
    thawed = bob.ask("POST", f"{path}/thaw", **why).json()
    assert (thawed["state"], thawed["revision"]) == ("held", 2)
    for _ in range(2):
        assert app.ask("POST", f"{path}/cancel", **why).json()["state"] == "cancelled"
    is_problem(app.ask("POST", f"{path}/cancel", reason=""), 422, "invalid-request")
    is_problem(bob.ask("POST", f"{path}/thaw", **why), 409, "conflict")
    assert held() == (0, 100_000)
    assert [name for name, _, _ in events(UUID(payout["id"]))].count("cancel") == 1
