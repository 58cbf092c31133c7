"""Webhooks over real sockets: who is let in, what is kept, and what nobody is told."""

import asyncio
import hashlib
import hmac
import json
import logging
import re
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
import stripe
import structlog
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import OperationalError

from api import metrics
from api.hot import webhooks
from api.hot.webhooks import BYTES_MAX, FORGED_LINES_MAX, Desk
from config import logging as log_config
from core import db, jobs
from domain.webhook import intake, service
from domain.webhook.service import Arrived
from domain.webhook.settings import WebhookSettings, webhook
from tests.integration.api.conftest import count, is_problem

SECRET, OLD = "whsec_this_is_no_secret", "whsec_nor_is_this_one"
SECRETS = {"stripe": [SECRET, OLD], "razorpay": ["razorpay-no-secret"], "unlimit": ["unlimit-no-secret"],
           "flutterwave": ["flutterwave-no-secret"]}  # fmt: skip
EVENT = '{"id": "evt_1", "object": "event"}'


@pytest.fixture(autouse=True)
def webhook_environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For the API, which is asked for after it."""
    monkeypatch.setenv("WEBHOOK_SECRETS", json.dumps(SECRETS))
    monkeypatch.setenv("WEBHOOK_NETWORKS", '{"unlimit": ["198.51.100.0/24"]}')
    monkeypatch.setenv("WEBHOOK_PROXIES", '["127.0.0.0/8", "10.0.0.0/8"]')
    monkeypatch.setattr(metrics, "READ_EVERY", 0.0)
    webhook.cache_clear()
    yield
    webhook.cache_clear()


@pytest.fixture
def provider(webhook_environment: None, api_url: str) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=api_url, timeout=20) as made:
        yield made


def sent_by_stripe(client: httpx.Client, body: str = EVENT, *, secret: str = SECRET, at: int | None = None,
                   headers: Mapping[str, str] | None = None) -> httpx.Response:  # fmt: skip
    signed = stripe.WebhookSignature.generate_signature_header(body, secret, at)
    return client.post("/v1/webhooks/stripe", content=body, headers={"Stripe-Signature": signed, **(headers or {})})


def figures(client: httpx.Client) -> dict[str, float]:
    found = re.findall(r"^tallyrail_webhooks_(\S+) (\S+)$", client.get("/metrics").text, flags=re.MULTILINE)
    return {name: float(value) for name, value in found if not name.startswith("created")}


def test_it_is_kept_with_its_job_and_answered(provider: httpx.Client) -> None:
    reply = sent_by_stripe(provider, headers={"X-Correlation-Id": "their-1", "Content-Type": "application/json"})
    assert (reply.status_code, reply.json()) == (200, {"status": "success"})
    with db.transaction() as session:
        [kept] = service.page(session, limit=10)
        [job] = jobs.page(session, subject=service.subject(kept.id))
    assert (kept.provider, kept.dedupe_key, kept.body, kept.secret) == ("stripe", "event:evt_1", EVENT.encode(), 0)
    assert (kept.correlation_id, job.correlation_id, str(kept.remote)) == ("their-1", "their-1", "127.0.0.1")
    assert kept.headers["content-type"] == "application/json" and "stripe-signature" not in kept.headers


def test_its_answers_have_the_headers_of_all_others(provider: httpx.Client) -> None:
    usual = provider.get("/v1/nothing").headers
    for reply in (sent_by_stripe(provider), provider.post("/v1/webhooks/stripe"), provider.post("/v1/webhooks/none")):
        assert {"date", "content-type", "content-length"} | set(usual) <= set(reply.headers) | {"date"}
        for name in set(usual) - {"date", "content-length", "x-correlation-id", "content-type"}:
            assert reply.headers[name] == usual[name]


def test_repeats_are_answered_alike_and_counted(provider: httpx.Client) -> None:
    for secret in (SECRET, OLD, SECRET):
        assert sent_by_stripe(provider, secret=secret).status_code == 200
    assert count("webhook_receipts") == count("jobs") == 1
    told = figures(provider)
    assert told['total{provider="stripe",result="accepted"}'] == 1
    assert told['total{provider="stripe",result="repeated"}'] == 2
    assert told['total{provider="razorpay",result="accepted"}'] == 0, "from 0, so that a rate can be told"
    assert told['open{provider="stripe",state="received"}'] == 1
    assert 0 < told['oldest_seconds{provider="stripe",state="received"}'] < 60
    assert told['oldest_seconds{provider="stripe",state="waiting"}'] == 0


def test_while_a_secret_is_changed_both_are_good_and_it_is_seen_which(provider: httpx.Client) -> None:
    sent_by_stripe(provider, '{"id": "evt_new"}')
    sent_by_stripe(provider, '{"id": "evt_old"}', secret=OLD)
    with db.transaction() as session:
        assert [row.secret for row in service.page(session, limit=10)] == [1, 0]


def test_what_is_forged_is_refused_counted_and_nowhere_kept(
    provider: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    body = '{"id": "evt_9", "card": "4242424242424242"}'
    right = stripe.WebhookSignature.generate_signature_header(body, SECRET)
    tries = [
        sent_by_stripe(provider, body, secret="whsec_another_one"),
        sent_by_stripe(provider, body, at=int(time.time()) - 400),
        sent_by_stripe(provider, body, at=int(time.time()) + 400),
        provider.post("/v1/webhooks/stripe", content=body),
        provider.post("/v1/webhooks/stripe", content=body + " ", headers={"Stripe-Signature": right}),
        provider.post("/v1/webhooks/stripe", content=body, headers={b"Stripe-Signature": b"\xff\x80"}),
        provider.post("/v1/webhooks/flutterwave", content=body, headers={"verif-hash": "flutterwave-no-secreT"}),
    ]
    told = {reply.json()["detail"] for reply in tries}
    for reply in tries:
        is_problem(reply, 401, "webhook-not-verified")
        assert reply.headers["www-authenticate"].startswith("Signature")
    assert len(told) == 1, "nobody is told what was wrong"
    assert count("webhook_receipts") == count("jobs") == 0
    assert figures(provider)['total{provider="stripe",result="forged"}'] == 6
    assert figures(provider)['total{provider="flutterwave",result="forged"}'] == 1


def test_a_flood_of_forged_ones_has_few_lines_that_tell_how_many_they_were(
    provider: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [100]
    monkeypatch.setattr(webhooks, "_second", lambda: seconds[0])

    def flood(name: str, count: int) -> list[tuple[str, Any]]:
        with structlog.testing.capture_logs() as written:
            for _ in range(count):
                assert provider.post(f"/v1/webhooks/{name}", content="{}").status_code == 401
        return [(line["event"], line.get("left_out")) for line in written]

    assert flood("stripe", 12) == [("webhook.forged", 0)] * FORGED_LINES_MAX
    assert flood("razorpay", 1) == [("webhook.forged", 0)], "each provider has its own"
    seconds[0] += 1
    assert flood("stripe", 2) == [("webhook.forged", 12 - FORGED_LINES_MAX), ("webhook.forged", 0)]
    told = figures(provider)
    assert told['total{provider="stripe",result="forged"}'] == 14, "all are counted"


def test_what_can_not_be_kept_as_it_is_is_the_sender_s_to_mend(
    provider: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Arrived, "dedupe_key", property(lambda _: "evt\0"))
    is_problem(sent_by_stripe(provider), 422, "invalid-request")
    monkeypatch.undo()
    assert figures(provider)['total{provider="stripe",result="failed"}'] == 1
    assert count("webhook_receipts") == count("jobs") == 0


def test_a_line_says_why_without_the_body_and_without_secrets(
    provider: httpx.Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = structlog.get_config()
    handlers = logging.getLogger().handlers[:]
    try:
        log_config.configure("api")
        sent_by_stripe(provider, '{"card": "4242424242424242"}', secret="whsec_wrong_one")
        provider.post("/v1/webhooks/flutterwave", content="{}", headers={"verif-hash": "a-guess-of-the-secret"})
        monkeypatch.setattr(intake, "keep_now", _fails)
        sent_by_stripe(provider, '{"card": "4242424242424242"}')
    finally:
        structlog.configure(**before)
        logging.getLogger().handlers[:] = handlers
    captured = capsys.readouterr()
    lines = captured.out + captured.err
    assert "webhook.forged" in lines and "fits none of the secrets" in lines and "webhook.not_kept" in lines
    for word in (
        "4242",
        "a-guess-of-the-secret",
        "whsec_wrong_one",
        *(each for some in SECRETS.values() for each in some),
    ):
        assert word not in lines


def _fails(arrived: Any) -> None:
    raise OperationalError("INSERT", {"bodies": [one.body for one in arrived]}, Exception("gone"))


def test_a_provider_that_has_no_secrets_here_does_not_exist(provider: httpx.Client) -> None:
    for name in ("alchemy_pay", "nobody", "", "stripe/", "stripe/x", "STRIPE", "%00"):
        is_problem(provider.post(f"/v1/webhooks/{name}", content="{}"), 404, "not-found")
    is_problem(provider.get("/v1/webhooks/stripe"), 405, "method-not-allowed")
    assert not [name for name in figures(provider) if "nobody" in name or "alchemy" in name]


def test_a_body_has_a_size_that_it_may_have(provider: httpx.Client) -> None:
    body = b"x" * BYTES_MAX
    headers = {"X-Razorpay-Signature": hmac.new(b"razorpay-no-secret", body, "sha256").hexdigest()}
    assert provider.post("/v1/webhooks/razorpay", content=body, headers=headers).status_code == 200
    is_problem(provider.post("/v1/webhooks/razorpay", content=body + b"x", headers=headers), 413, "body-too-large")
    chunks = (b"x" * 65_536 for _ in range(5))  # without saying how long it will be
    is_problem(provider.post("/v1/webhooks/razorpay", content=chunks, headers=headers), 413, "body-too-large")
    assert count("webhook_receipts") == 1


def test_who_goes_away_amid_his_body_leaves_nothing(provider: httpx.Client) -> None:
    host, port = provider.base_url.host, provider.base_url.port
    with socket.create_connection((host, port or 0)) as line:
        line.sendall(b"POST /v1/webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    assert sent_by_stripe(provider).status_code == 200
    assert count("webhook_receipts") == 1


# --- from where ------------------------------------------------------------------------------------------------------


def from_unlimit(client: httpx.Client, *forwarded: str) -> int:
    body = b'{"merchant_order":{"id":"1"}}'
    signed = hashlib.sha512(body + b"unlimit-no-secret").hexdigest()
    headers = [("Signature", signed), *(("X-Forwarded-For", each) for each in forwarded)]
    return client.post("/v1/webhooks/unlimit", content=body, headers=headers).status_code


def test_only_from_the_provider_s_networks_where_it_has_some(webhook_environment: None) -> None:
    """The desk by itself, as uvicorn's default believes a proxy on this machine before we are asked."""
    desk = Desk(webhook())
    near, proxy, theirs, other = "127.0.0.1", "10.1.2.3", "198.51.100.7", "203.0.113.9"
    for peer, forwarded, sender in [
        (theirs, "", theirs),
        (other, theirs, other),  # nobody's word but our proxies'
        (near, theirs, theirs),
        (near, f"{theirs}, {proxy}", theirs),
        (near, f"{theirs}, {other}, {proxy}", other),  # what is further left the sender may have written
        (near, f"{theirs},{other}", other),
        (near, "", near),
        (near, proxy, proxy),
        (near, f"{theirs}, junk", None),
        (near, f"{theirs}, unknown, {proxy}", None),
        (f"::ffff:{near}", theirs, theirs),
        (None, theirs, None),
        ("testclient", theirs, None),
    ]:
        assert str(desk.remote(peer, forwarded)) == str(sender), (peer, forwarded)


def test_from_elsewhere_it_is_refused_however_well_it_is_signed(provider: httpx.Client) -> None:
    assert from_unlimit(provider) == 401
    assert from_unlimit(provider, "203.0.113.9") == 401
    assert from_unlimit(provider, "198.51.100.7") == 200
    told = figures(provider)
    assert told['total{provider="unlimit",result="outside"}'] == 2
    assert told['total{provider="unlimit",result="accepted"}'] == 1


# --- many at once, and PostgreSQL away -------------------------------------------------------------------------------


def test_what_comes_at_one_moment_is_one_transaction(provider: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    usual = service.keep_now

    def slow(arrived: Any) -> Any:
        sizes.append(len(arrived))
        time.sleep(0.05)
        return usual(arrived)

    monkeypatch.setattr(intake, "keep_now", slow)

    async def burst() -> list[int]:
        async with httpx.AsyncClient(base_url=provider.base_url, timeout=20) as client:
            return await asyncio.gather(*(one(client, n) for n in range(60)))

    async def one(client: httpx.AsyncClient, number: int) -> int:
        body = f'{{"id": "evt_{number % 40}"}}'
        signed = stripe.WebhookSignature.generate_signature_header(body, SECRET)
        reply = await client.post("/v1/webhooks/stripe", content=body, headers={"Stripe-Signature": signed})
        return reply.status_code

    assert asyncio.run(burst()) == [200] * 60
    assert sum(sizes) == 60 and len(sizes) < 20
    assert count("webhook_receipts") == count("jobs") == 40


def test_without_postgresql_it_is_sent_again_and_kept_once(
    provider: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(intake, "keep_now", _fails)
        for _ in range(2):
            problem = sent_by_stripe(provider)
            is_problem(problem, 503, "unavailable")
            assert problem.headers["retry-after"] == "1"
    assert count("webhook_receipts") == 0
    assert sent_by_stripe(provider).status_code == 200
    assert figures(provider)['total{provider="stripe",result="failed"}'] == 2


def test_when_too_much_waits_nobody_is_let_in(provider: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "WAITING_BYTES_MAX", -1)
    is_problem(sent_by_stripe(provider), 503, "unavailable")
    monkeypatch.undo()
    assert sent_by_stripe(provider).status_code == 200


# --- settings --------------------------------------------------------------------------------------------------------


def test_no_setting_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = WebhookSettings()
    for words in (repr(chosen), str(chosen), repr(chosen.model_dump()), chosen.model_dump_json(), repr(Desk(chosen))):
        assert "no-secret" not in words and "whsec" not in words
    for wrong in (
        '{"stripe": ["hunter2"]}', '{"stripe": "hunter2hunter2"}', '{"stripe": [" hunter2hunter2"]}', '{"stripe": []}',
        '["hunter2hunter2"]', '{"stripe": ["hunter2hunter2"',
    ):  # fmt: skip
        monkeypatch.setenv("WEBHOOK_SECRETS", wrong)
        with pytest.raises((ValidationError, SettingsError)) as raised:
            WebhookSettings()
        assert "hunter2" not in f"{raised.value}"


def test_a_provider_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRETS", '{"strype": ["whsec_no_secret"]}')
    with pytest.raises(ValueError, match="'strype'") as raised:
        Desk(WebhookSettings())
    assert "whsec" not in str(raised.value)
