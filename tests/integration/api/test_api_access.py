"""Who may do what, over the wire."""

from datetime import timedelta
from hashlib import sha256
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import clock, db, jobs
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.jobs import NewJob
from domain.access import service as access
from domain.access.service import Scope
from tests.integration.api.conftest import NewKey, is_problem


def _as(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_without_a_valid_key_nothing_is_told(client: httpx.Client, new_key: NewKey) -> None:
    secret = new_key().secret
    for header in (
        "",
        "Basic YTpi",
        "Bearer",
        "Bearer x",
        f"Bearer {secret[:-2]}--",
        f"Bearer {secret.upper()}",
        "Bearer \xff",
    ):
        reply = client.get("/v1/jobs", headers={b"Authorization": header.encode("latin-1")})
        document = is_problem(reply, 401, "unauthenticated")
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert "shop" not in str(document)
    del client.headers["Authorization"]
    is_problem(client.get("/v1/jobs"), 401, "unauthenticated")


def test_a_key_ends_with_its_expiry_even_where_it_was_cached(
    client: httpx.Client, new_key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = new_key(expires_at=clock.now() + timedelta(hours=1)).secret
    assert client.get("/v1/jobs", headers=_as(secret)).status_code == 200
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    document = is_problem(client.get("/v1/jobs", headers=_as(secret)), 401, "unauthenticated")
    assert "expired" in str(document["detail"])
    access.forget()
    is_problem(client.get("/v1/jobs", headers=_as(secret)), 401, "unauthenticated")


def test_a_revoked_key_ends_within_the_time_of_the_cache(
    client: httpx.Client, new_key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "CACHE_FOR", timedelta(seconds=0))
    issued = new_key()
    assert client.get("/v1/jobs", headers=_as(issued.secret)).status_code == 200
    with db.transaction() as session:
        access.revoke_key(session, issued.key.id)
    document = is_problem(client.get("/v1/jobs", headers=_as(issued.secret)), 401, "unauthenticated")
    assert "revoked" in str(document["detail"])


def test_a_rotated_key_works_beside_the_new_one_for_the_overlap(
    client: httpx.Client, new_key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = new_key(scopes=[Scope.JOBS_READ])
    with db.transaction() as session:
        new = access.rotate_key(session, old.key.id, overlap=timedelta(hours=1))
    assert new.key.scopes == ["jobs:read"]
    for secret in (old.secret, new.secret):
        assert client.get("/v1/jobs", headers=_as(secret)).status_code == 200
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    is_problem(client.get("/v1/jobs", headers=_as(old.secret)), 401, "unauthenticated")
    assert client.get("/v1/jobs", headers=_as(new.secret)).status_code == 200


NEEDS = [
    ("GET", "/v1/jobs", Scope.JOBS_READ),
    ("GET", f"/v1/jobs/{uuid4()}", Scope.JOBS_READ),
    ("POST", f"/v1/jobs/{uuid4()}/cancel", Scope.JOBS_WRITE),
    ("POST", "/v1/jobs:batch", Scope.JOBS_WRITE),
    ("POST", "/v1/deposits", Scope.DEPOSITS_WRITE),
    ("GET", "/v1/deposits", Scope.DEPOSITS_READ),
    ("GET", f"/v1/deposits/{uuid4()}", Scope.DEPOSITS_READ),
    ("POST", "/v1/addresses", Scope.DEPOSITS_WRITE),
    ("GET", "/v1/addresses?account=user:42:available", Scope.DEPOSITS_READ),
    ("GET", "/v1/accounts/user:42:available", Scope.ACCOUNTS_READ),
    ("GET", "/v1/accounts/user:42:available/entries", Scope.ACCOUNTS_READ),
    ("GET", "/v1/accounts", Scope.ACCOUNTS_READ),
    ("GET", "/v1/accounts/user:42:available/statement?asset=iso4217:EUR", Scope.ACCOUNTS_READ),
    ("POST", "/v1/journals", Scope.JOURNALS_WRITE),
    ("POST", f"/v1/journals/{uuid4()}/reverse", Scope.JOURNALS_WRITE),
    ("GET", "/v1/journals?subject=order:1", Scope.JOURNALS_READ),
    ("GET", f"/v1/journals/{uuid4()}", Scope.JOURNALS_READ),
    ("POST", "/v1/holds", Scope.HOLDS_WRITE),
    ("POST", f"/v1/holds/{uuid4()}/capture", Scope.HOLDS_WRITE),
    ("POST", f"/v1/holds/{uuid4()}/void", Scope.HOLDS_WRITE),
    ("GET", "/v1/holds", Scope.HOLDS_READ),
    ("GET", f"/v1/holds/{uuid4()}", Scope.HOLDS_READ),
    ("GET", "/v1/chains", Scope.CHAINS_READ),
    ("GET", "/v1/chains/eip155:1", Scope.CHAINS_READ),
    ("POST", "/v1/chains/eip155:1/rescans", Scope.CHAINS_WRITE),
    ("GET", f"/v1/chains/eip155:1/rescans/{uuid4()}", Scope.CHAINS_READ),
    ("GET", "/v1/rates", Scope.RATES_READ),
    ("GET", "/v1/rates/usable?asset=iso4217:EUR&currency=iso4217:USD", Scope.RATES_READ),
    ("POST", "/v1/quotes", Scope.QUOTES_WRITE),
    ("GET", f"/v1/quotes/{uuid4()}", Scope.QUOTES_WRITE),
    ("POST", "/v1/fiat-payments", Scope.FIAT_PAYMENTS_WRITE),
    ("GET", "/v1/fiat-payments", Scope.FIAT_PAYMENTS_READ),
    ("GET", f"/v1/fiat-payments/{uuid4()}", Scope.FIAT_PAYMENTS_READ),
    ("POST", f"/v1/fiat-payments/{uuid4()}/refunds", Scope.FIAT_PAYMENTS_WRITE),
    ("POST", "/v1/beneficiaries", Scope.BENEFICIARIES_WRITE),
    ("GET", "/v1/beneficiaries", Scope.BENEFICIARIES_READ),
    ("GET", f"/v1/beneficiaries/{uuid4()}", Scope.BENEFICIARIES_READ),
    ("DELETE", f"/v1/beneficiaries/{uuid4()}", Scope.BENEFICIARIES_WRITE),
    ("GET", "/v1/banks?kind=bank_ng", Scope.BENEFICIARIES_READ),
    ("POST", "/v1/payouts", Scope.PAYOUTS_WRITE),
    ("GET", "/v1/payouts", Scope.PAYOUTS_READ),
    ("GET", f"/v1/payouts/{uuid4()}", Scope.PAYOUTS_READ),
    ("GET", f"/v1/payouts/{uuid4()}/events", Scope.PAYOUTS_READ),
    ("POST", "/v1/payouts/batches", Scope.PAYOUTS_WRITE),
    ("GET", f"/v1/payouts/batches/{uuid4()}", Scope.PAYOUTS_READ),
    ("POST", f"/v1/payouts/{uuid4()}/approve", Scope.PAYOUTS_APPROVE),
    ("POST", f"/v1/payouts/{uuid4()}/reject", Scope.PAYOUTS_APPROVE),
    ("POST", f"/v1/payouts/{uuid4()}/cancel", Scope.PAYOUTS_WRITE),
    ("POST", f"/v1/payouts/{uuid4()}/freeze", Scope.PAYOUTS_APPROVE),
    ("POST", f"/v1/payouts/{uuid4()}/thaw", Scope.PAYOUTS_APPROVE),
    ("PATCH", f"/v1/payouts/{uuid4()}", Scope.PAYOUTS_WRITE),
    ("GET", f"/v1/payouts/{uuid4()}/approvals", Scope.PAYOUTS_READ),
    ("POST", "/v1/packets", Scope.PACKETS_WRITE),
    ("GET", "/v1/packets", Scope.PACKETS_READ),
    ("GET", f"/v1/packets/{uuid4()}", Scope.PACKETS_READ),
    ("GET", f"/v1/packets/{uuid4()}/ranking", Scope.PACKETS_READ),
    ("GET", f"/v1/packets/{uuid4()}/claims", Scope.PACKETS_READ),
    ("POST", f"/v1/packets/{uuid4()}/cancel", Scope.PACKETS_WRITE),
    ("POST", f"/v1/packets/{uuid4()}/claims", Scope.CLAIMS_WRITE),
    ("POST", "/v1/claims:batch", Scope.CLAIMS_WRITE),
    ("POST", "/v1/bets", Scope.BETS_WRITE),
    ("GET", "/v1/bets", Scope.BETS_READ),
    ("GET", f"/v1/bets/{uuid4()}", Scope.BETS_READ),
    ("POST", f"/v1/bets/{uuid4()}/settle", Scope.BETS_WRITE),
    ("POST", f"/v1/bets/{uuid4()}/void", Scope.BETS_WRITE),
    ("POST", "/v1/bets:batch", Scope.BETS_WRITE),
    ("POST", "/v1/bets:settle", Scope.BETS_WRITE),
    ("POST", "/v1/bets:void", Scope.BETS_WRITE),
    ("GET", "/v1/players/42?asset=iso4217:EUR", Scope.BETS_READ),
    ("GET", "/v1/players/42/bets?asset=iso4217:EUR", Scope.BETS_READ),
    ("POST", "/v1/players/42/loads", Scope.BETS_WRITE),
    ("GET", f"/v1/players/42/loads/{uuid4()}", Scope.BETS_READ),
    ("POST", "/v1/players/42/unloads", Scope.BETS_WRITE),
    ("GET", f"/v1/players/42/unloads/{uuid4()}", Scope.BETS_READ),
    ("POST", "/v1/fairness/seeds", Scope.FAIRNESS_WRITE),
    ("GET", "/v1/fairness/seeds", Scope.FAIRNESS_READ),
    ("GET", "/v1/fairness/seeds/42", Scope.FAIRNESS_READ),
    ("POST", "/v1/fairness/seeds/42/rotate", Scope.FAIRNESS_WRITE),
    ("POST", "/v1/fairness/draws", Scope.FAIRNESS_WRITE),
    ("GET", f"/v1/fairness/draws?seed_id={uuid4()}", Scope.FAIRNESS_READ),
    ("GET", f"/v1/fairness/draws/{uuid4()}", Scope.FAIRNESS_READ),
]
PUBLIC = {("post", "/v1/fairness/verify"), ("post", "/v1/webhooks/{provider}")}
"""Pure computation, for players: nothing is looked up and nothing is told that the caller didn't say. And what
providers send, which they sign.
"""


def test_each_address_needs_its_scope(client: httpx.Client, new_key: NewKey) -> None:
    for method, path, scope in NEEDS:
        others = new_key(scopes=set(Scope) - {scope}).secret
        document = is_problem(client.request(method, path, headers=_as(others), json={}), 403, "forbidden")
        assert scope in str(document["detail"])
        only = new_key(scopes=[scope]).secret
        assert client.request(method, path, headers=_as(only), json={}).status_code not in (401, 403)


def test_every_scope_opens_an_address_and_every_address_of_the_api_asks_for_one(client: httpx.Client) -> None:
    assert {scope for _, _, scope in NEEDS} == set(Scope)
    described = client.get("/openapi.json").json()["paths"]
    addresses = {(method, path) for path, methods in described.items() if path.startswith("/v1/") for method in methods}
    assert len({(method, path) for method, path, _ in NEEDS}) == len(NEEDS) == len(addresses - PUBLIC)
    assert addresses >= PUBLIC


def test_jobs_of_another_tenant_do_not_exist(client: httpx.Client, new_key: NewKey) -> None:
    with db.transaction() as session:
        mine = jobs.submit(session, NewJob("maintenance.heartbeat", {}, tenant="shop"))
        theirs = jobs.submit(session, NewJob("maintenance.heartbeat", {}, tenant="casino"))
        system = jobs.submit(session, NewJob("maintenance.heartbeat", {}))
    assert [job["id"] for job in client.get("/v1/jobs").json()["jobs"]] == [str(mine)]
    for other in (theirs, system, uuid4()):
        is_problem(client.get(f"/v1/jobs/{other}"), 404, "not-found")
        is_problem(client.post(f"/v1/jobs/{other}/cancel"), 404, "not-found")
    casino = new_key("casino").secret
    assert client.get(f"/v1/jobs/{theirs}", headers=_as(casino)).status_code == 200


def test_what_makes_no_sense_makes_no_tenant_and_no_key(session: Session, new_key: NewKey) -> None:
    issued = new_key()
    for tenant in ("", "x", "Shop", "system", "a b", "9shop", "x" * 41, "shop\n"):
        with pytest.raises(InvalidRequestError):
            access.create_tenant(session, tenant, name="x")
    with pytest.raises(ConflictError):
        access.create_tenant(session, "shop", name="again")
    with pytest.raises(NotFoundError):
        access.create_key(session, "nobody", name="x")
    for scopes in ([], ["everything"], ["jobs:read", "jobs:eat"]):
        with pytest.raises(InvalidRequestError):
            access.create_key(session, "shop", name="x", scopes=scopes)
    with pytest.raises(InvalidRequestError):
        access.create_key(session, "shop", name="x", expires_at=clock.now())
    access.rotate_key(session, issued.key.id)
    with pytest.raises(ConflictError):
        access.rotate_key(session, issued.key.id)
    access.revoke_key(session, issued.key.id)
    revoked_at = access.revoke_key(session, issued.key.id).revoked_at
    with pytest.raises(ConflictError):
        access.rotate_key(session, issued.key.id)
    with pytest.raises(NotFoundError):
        access.revoke_key(session, uuid4())
    assert [key.revoked_at for key in access.keys(session, "shop")] == [revoked_at, None]


def test_a_key_stays_its_persons_and_a_name_has_one_spelling(session: Session, new_key: NewKey) -> None:
    issued = new_key(person="ada.obi")
    rotated = access.rotate_key(session, issued.key.id)
    session.commit()
    assert access.authenticate(session, rotated.secret).actor == "person:ada.obi"
    service = new_key()
    assert access.authenticate(session, service.secret).actor == f"key:{service.key.id}"
    for person in ("", "Ada", "ada obi", "ada\n", "-ada", "\u00e4da", "a" * 65):
        with pytest.raises(InvalidRequestError):
            access.create_key(session, "shop", name="x", person=person)


def test_the_secret_is_kept_nowhere(session: Session, new_key: NewKey) -> None:
    issued = new_key()
    assert issued.secret.startswith(f"tr_{issued.key.id.hex[-12:]}_")
    row = session.execute(text("SELECT api_keys::text AS row FROM api_keys")).scalar_one()
    assert issued.secret[16:] not in row
    assert sha256(issued.secret.encode()).hexdigest() in row
    assert new_key().secret != issued.secret
