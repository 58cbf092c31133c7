"""What a node may put into its answers so that it is written where it must not be, or ends a reading for all."""

import traceback
from typing import Any

import httpx
import pytest

from chains import http
from chains.endpoint import Endpoint
from chains.errors import MalformedError, RefusedError
from chains.http import HttpEndpoint
from chains.nodes import Nodes
from config.assets import Chain, Node
from core.errors import TransientError

KEY = "SECRETKEY123"
URL = f"http://node.test/v3/{KEY}"
CHAIN = Chain(
    id="tron:1", name="x", namespace="tron", confirmations=1, reorg_depth=0, block_time_ms=1, nodes=(Node(url=URL),)
)


def answering(answer: Any) -> HttpEndpoint:
    endpoint = HttpEndpoint(Node(url=URL))
    endpoint._client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer)))
    return endpoint


@pytest.mark.parametrize("said", [f"'{KEY}' is not a hash", *(f"'{KEY[:n]} is not a hash" for n in (6, 9, 11))])
def test_a_key_in_nonsense_is_struck_out_whole_or_cut_off(said: str) -> None:
    """Parsers quote no more than 80 characters, and may cut within a key."""

    def read(_: Endpoint) -> None:
        raise MalformedError(said)

    with pytest.raises(TransientError) as caught:
        Nodes(CHAIN, [Endpoint(Node(url=URL))], verify=lambda _: None).first(read)
    shown = "".join(traceback.format_exception(caught.value))
    assert "node.test answered with nonsense: '*** is not a hash" in shown.replace("***'", "***")
    assert KEY[:6] not in shown


@pytest.mark.parametrize("code", [KEY, {"key": KEY}, [KEY], [], "x" * 10_000, None, 1.5, True])
def test_an_error_code_of_any_kind_is_a_refusal_without_a_key(code: object) -> None:
    endpoint = answering({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}})
    with pytest.raises(RefusedError) as caught:
        endpoint.ask([("getSlot", [])])
    assert KEY not in str(caught.value) and len(str(caught.value)) < 300


def test_an_answer_that_is_too_long_is_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can make one transaction's answer long: those of its neighbours are read all the same."""
    monkeypatch.setattr(http, "ANSWER_BYTES_MAX", 4_000)

    def answer(request: httpx.Request) -> httpx.Response:
        asked = httpx.Response(200, content=request.content).json()
        calls = asked if isinstance(asked, list) else [asked]
        replies = [{"id": call["id"], "result": "x" * (9_000 if call["params"] == [7] else 100)} for call in calls]
        return httpx.Response(200, json=replies if isinstance(asked, list) else replies[0])

    endpoint = HttpEndpoint(Node(url=URL))
    endpoint._client = httpx.Client(transport=httpx.MockTransport(answer))
    found = endpoint.try_all([("getTransaction", [n]) for n in range(20)])
    assert [n for n, one in enumerate(found) if isinstance(one, RefusedError)] == [7]
    assert all(one == "x" * 100 for n, one in enumerate(found) if n != 7)
