"""The signer's client against servers that answer anything: only the signer's own no ends a question."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chains.sending import Order, Terms
from chains.signer_client import SignerClient
from chains.signing import SigningRefusedError, order_body, terms_body, terms_of
from core.errors import PermanentError, TransientError
from local.http_server import Answer, Asked, HttpServer

ORDER = Order(reference="a", chain="eip155:1", wallet="w", asset="x", to="t", units=2**200, tag=None)
TERMS = Terms(inputs=("w/0",), ends=7, fee_max=2**100, cancels=True, fields={"gas": "1"})
GOOD = {"reference": "a", "number": 1, "chain_tx": "0xAb", "raw": "00ff"}


class Double:
    def __init__(self) -> None:
        self.answer = Answer(200, b"{}")
        self.asked: list[Asked] = []

    def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self.answer


@pytest.fixture
def double() -> Iterator[tuple[Double, SignerClient]]:
    made = Double()
    server = HttpServer(made)
    server.start()
    try:
        yield made, SignerClient(f"http://127.0.0.1:{server.port}/", "secret")
    finally:
        server.stop()


def told(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def test_a_version_is_asked_for_and_read(double: tuple[Double, SignerClient]) -> None:
    server, client = double
    server.answer = Answer(200, told(GOOD))
    version = client.sign(ORDER, 1, TERMS)
    assert (version.number, version.chain_tx, version.raw, version.terms) == (1, "0xAb", "00ff", TERMS)
    [asked] = server.asked
    assert (asked.method, asked.path, asked.headers["Authorization"]) == ("POST", "/v1/sign", "Bearer secret")
    body = json.loads(asked.body)
    assert body == {"order": order_body(ORDER), "number": 1, "terms": terms_body(TERMS)}
    assert body["order"]["units"] == str(2**200) and terms_of(body["terms"]) == TERMS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        [GOOD],
        GOOD | {"reference": "b"},
        GOOD | {"number": 2},
        GOOD | {"chain_tx": ""},
        GOOD | {"chain_tx": "a\nb"},
        GOOD | {"chain_tx": "a" * 129},
        GOOD | {"raw": ""},
        GOOD | {"raw": "0x00"},
        GOOD | {"raw": "000"},
        GOOD | {"raw": "FF"},
        GOOD | {"raw": "00" * 500_001},
        GOOD | {"raw": None},
    ],
)
def test_an_answer_that_is_no_version_is_asked_for_again(double: tuple[Double, SignerClient], content: Any) -> None:
    server, client = double
    server.answer = Answer(200, told(content))
    with pytest.raises(TransientError):
        client.sign(ORDER, 1, TERMS)


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (403, {"code": "day_max", "detail": "too much"}, SigningRefusedError),
        (400, {"code": "malformed"}, PermanentError),
        (409, {"code": "input_taken", "detail": "taken"}, PermanentError),
        (413, {"code": "too_large"}, PermanentError),
        (422, {"code": "unfit", "detail": 5}, PermanentError),
        (401, {"code": "unauthorized"}, TransientError),
        (404, {"code": "not_found"}, TransientError),
        (408, {"code": "gone"}, TransientError),
        (429, {"code": "slow"}, TransientError),
        (500, {"code": "internal"}, TransientError),
        (503, {"code": "late"}, TransientError),
        (302, {"code": "moved"}, TransientError),
        # A server in between, which speaks for itself.
        (403, b"<html>", TransientError),
        (403, {"code": "Not A Code"}, TransientError),
        (403, ["code"], TransientError),
        (409, {}, TransientError),
        (422, b"", TransientError),
    ],
)
def test_a_refusal_is_what_the_signer_itself_says(
    double: tuple[Double, SignerClient], status: int, content: Any, kind: type[Exception]
) -> None:
    server, client = double
    server.answer = Answer(status, told(content))
    with pytest.raises((TransientError, PermanentError)) as caught:
        client.sign(ORDER, 1, TERMS)
    assert type(caught.value) is kind
    if isinstance(caught.value, SigningRefusedError):
        assert caught.value.code == "day_max" and "too much" in str(caught.value)


def test_a_signer_that_is_away_or_breaks_off_is_asked_again(double: tuple[Double, SignerClient]) -> None:
    server, client = double
    server.answer = Answer(200, told(GOOD), cut_after=5)
    with pytest.raises(TransientError):
        client.sign(ORDER, 1, TERMS)
    away = SignerClient("http://127.0.0.1:1", "secret")
    with pytest.raises(TransientError):
        away.sign(ORDER, 1, TERMS)
    with pytest.raises(TransientError):
        away.wallets()


@pytest.mark.parametrize(
    ("url", "token"),
    [("nowhere", "t"), ("ftp://a", "t"), ("http://a", ""), ("http://a", "tökén"), ("http://a", "t\n")],
)
def test_a_signer_that_can_t_be_asked_is_told_at_once_and_without_its_token(url: str, token: str) -> None:
    with pytest.raises(PermanentError) as caught:
        SignerClient(url, token)
    assert "ö" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, {"wallets": {}}),
        (200, {"wallets": [{"chain": "c"}]}),
        (200, {"wallets": [{"chain": "c", "address": 1}]}),
        (200, {"wallets": [{"chain": "c", "address": "a"}, {"chain": "c", "address": "b"}]}),
        (200, []),
        (401, {"code": "unauthorized"}),
        (404, {}),
        (503, {}),
    ],
)
def test_wallets_that_are_none_are_asked_for_again(
    double: tuple[Double, SignerClient], status: int, content: Any
) -> None:
    server, client = double
    server.answer = Answer(status, told(content))
    with pytest.raises(TransientError):
        client.wallets()
    server.answer = Answer(200, told({"wallets": [{"chain": "c", "address": "a"}]}))
    assert client.wallets() == {"c": "a"}
