"""What a body may say, and what the API's own description says of it."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError
from pydantic_core import from_json

from api import openapi
from api.hot.described import ENDPOINTS
from api.hot.front import Front
from api.main import create_app
from api.paging import opened, seal
from api.problems import KINDS, Problem, ProblemDocument, of_error, pointer
from api.routes import bets, holds, journals, packets
from api.routes.batches import BatchRequest
from api.routes.deposits import EXAMPLES, METADATA_BYTES_MAX, DepositRequest
from core.errors import ConflictError, InvalidRequestError, TransientError
from core.money import UNITS_MAX
from domain.access import idempotency
from ledger import errors

GOOD: dict[str, Any] = {"asset": "eip155:1/slip44:60", "account": "user:42:available"}


def _faults(**fields: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        DepositRequest.model_validate(GOOD | fields)
    return [pointer(one["loc"]) for one in caught.value.errors()]


@pytest.mark.parametrize(
    "text", ["1", '"1"', '"007"', "9007199254740993", '"9007199254740993"', str(UNITS_MAX), f'"{UNITS_MAX}"']
)
def test_whole_units_are_exact(text: str) -> None:
    body = from_json(f'{{"asset":"a","account":"b","units":{text}}}')
    assert DepositRequest.model_validate(body).units == int(json.loads(text))


@pytest.mark.parametrize(
    "units",
    [0, -1, 1.0, 1.5, True, "", "-1", "+1", "1.0", "1e3", " 1", "1\n", "0x1", "٣", "NaN", "0", 1e300, float("inf"),
     UNITS_MAX + 1, "1" * 39, [], {}, b"1"],
)  # fmt: skip
def test_other_units_are_refused(units: object) -> None:
    assert _faults(units=units) == ["/units"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("asset", ""), ("asset", None), ("asset", 1), ("asset", "a b"), ("asset", "x" * 201), ("asset", "a\x00"),
        ("account", "user:42:\x00"), ("chain", ""), ("address", ["0x"]), ("tolerance_bps", -1),
        ("tolerance_bps", 10_001), ("tolerance_bps", "5"), ("tolerance_bps", 5.0), ("tolerance_bps", True),
        ("confirmations", 0), ("confirmations", 1.0), ("confirmations", 10_001), ("deadline", 1_900_000_000),
        ("deadline", "2030-01-31"), ("deadline", "2030-01-31T12:00:00"), ("deadline", "1900000000"),
        ("deadline", "2030-02-30T12:00:00Z"), ("metadata", []), ("metadata", {"n": ["x"]}), ("metadata", {"n": 1.5}),
        ("metadata", {"": "x"}), ("metadata", {"n": "a\x00b"}), ("metadata", {"\x00": "x"}),
        ("metadata", {"n": "x" * METADATA_BYTES_MAX}), ("metadata", {str(n): "" for n in range(51)}), ("surprise", 1),
    ],
)  # fmt: skip
def test_what_is_wrong_is_pointed_at(field: str, value: object) -> None:
    assert all(fault.startswith(f"/{field}") for fault in _faults(**{field: value}))


def test_a_pointer_escapes_what_it_must() -> None:
    assert pointer(["metadata", "a/b~c", 0]) == "/metadata/a~1b~0c/0"


def test_the_hash_is_of_what_is_said_not_of_how() -> None:
    def of(text: str) -> bytes:
        return idempotency.request_hash("deposit", from_json(text))

    assert of('{"a":1,"b":{"c":"ä","d":null}}') == of(' {"b" : {"d":null, "c":"\\u00e4"}, "a": 1}\n')
    assert len({of('{"a":1}'), of('{"a":"1"}'), of('{"a":2}'), of('{"a":true}'), of('{"a":null}'), of("{}")}) == 6
    assert idempotency.request_hash("payout", {}) != idempotency.request_hash("deposit", {})


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "\x7f", "ä", "x" * 256])
def test_a_malformed_idempotency_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequestError):
        idempotency.checked_key(key)
    assert idempotency.checked_key("x" * 255)


def test_a_cursor_is_good_for_its_own_listing_only() -> None:
    last = uuid4()
    assert opened("jobs", seal("jobs", last)) == last
    with pytest.raises(InvalidRequestError):
        opened("deposits", seal("jobs", last))


def test_unforeseen_errors_say_nothing() -> None:
    assert of_error(RuntimeError("password=hunter2")).document()["detail"].find("hunter2") == -1
    assert of_error(TransientError("connect to 10.0.0.7 failed")).document()["detail"].find("10.0.0.7") == -1
    assert {Problem(kind, "").document()["type"] for kind in KINDS} == {f"/problems/{kind}" for kind in KINDS}


@pytest.mark.parametrize(
    ("error", "kind", "members"),
    [
        (
            errors.InsufficientFundsError(account="user:1:available", asset="a", available=-(10**37), needed=10**37),
            "insufficient-funds",
            {"account": "user:1:available", "asset": "a", "available": f"-{10**37}", "needed": str(10**37)},
        ),
        (
            errors.CeilingExceededError(account="user:1:available", asset="a", room=0, offered=1),
            "ceiling-exceeded",
            {"account": "user:1:available", "asset": "a", "room": "0", "offered": "1"},
        ),
        (errors.AccountFrozenError("user:1:x", "a"), "account-frozen", {"account": "user:1:x", "asset": "a"}),
        (errors.AccountClosedError("user:1:x", "a"), "account-closed", {"account": "user:1:x", "asset": "a"}),
        (
            errors.AlreadyReversedError(UUID(int=1), UUID(int=2)),
            "already-reversed",
            {"journal_id": str(UUID(int=1)), "reversed_by": str(UUID(int=2))},
        ),
        (
            errors.HoldSettledError(UUID(int=1), "expired", datetime(2030, 1, 1, tzinfo=UTC)),
            "hold-settled",
            {"hold_id": str(UUID(int=1)), "state": "expired", "expires_at": "2030-01-01T00:00:00+00:00"},
        ),
        (
            errors.HoldSettledError(UUID(int=1), "voided"),
            "hold-settled",
            {"hold_id": str(UUID(int=1)), "state": "voided"},
        ),
        (
            errors.HoldExceededError(UUID(int=1), held=1, asked=2),
            "hold-exceeded",
            {"hold_id": str(UUID(int=1)), "held": "1", "asked": "2"},
        ),
        (ConflictError("it has begun"), "conflict", {}),
    ],
)
def test_each_refusal_of_the_ledger_has_its_own_type_and_data(
    error: Exception, kind: str, members: dict[str, str]
) -> None:
    document = of_error(error).document()
    told = {name: document.pop(name) for name in members}
    assert told == members
    assert document.pop("errors", None) is None or isinstance(error, ConflictError)
    assert document == {
        "type": f"/problems/{kind}", "title": KINDS[kind].title, "status": 409, "detail": str(error),
    }  # fmt: skip
    assert members.keys() <= ProblemDocument.model_fields.keys()


def test_a_reference_that_names_two_things_is_a_reused_key_and_never_our_fault() -> None:
    problem = of_error(errors.ReferenceReusedError("app:k", UUID(int=1)))
    assert (problem.kind, problem.status) == ("idempotency-key-reused", 422)


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from _references(one)


def test_the_description_of_the_api_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    schema = create_app().openapi()
    known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
    assert set(_references(schema)) <= known
    assert schema["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    for path in (
        "/v1/deposits", "/v1/journals", "/v1/journals/{journal_id}/reverse", "/v1/holds", "/v1/holds/{hold_id}/capture",
        "/v1/packets", "/v1/players/{user}/loads", "/v1/players/{user}/unloads",
    ):  # fmt: skip
        header = schema["paths"][path]["post"]["parameters"][-1]
        assert (header["name"], header["in"], header["required"]) == ("Idempotency-Key", "header", True)
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert operation["summary"]
            if path.startswith("/v1") and path not in {"/v1/fairness/verify", "/v1/webhooks/{provider}"}:
                assert operation["security"] == [{"ApiKey": []}]
                assert {str(status) for status in openapi.PROBLEMS} <= operation["responses"].keys()


def test_the_hot_addresses_are_described_and_found() -> None:
    schema = create_app().openapi()
    front = Front(create_app(), endpoints=ENDPOINTS, engine=lambda: None, observe=lambda *_: None, bytes_max=1)
    for endpoint in ENDPOINTS:
        described = schema["paths"][endpoint.route]["post"]
        names = [one["name"] for one in described.get("parameters", ()) if one["in"] == "path"]
        assert names == re.findall(r"{(\w+)}", endpoint.route)
        assert described["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith(
            endpoint.request.__name__
        )
        assert front.find(re.sub(r"{\w+}", "some-id", endpoint.route)) == (endpoint, "some-id" if names else "")
        for example in endpoint.request.model_json_schema()["examples"]:
            endpoint.request.model_validate_json(json.dumps(example))
    for path in ("/v1/bets/", "/v1/bets//void", "/v1/bets/a/b/void", "/v1/bets/a/void/", "/v1/bet", "/v1/packets"):
        assert front.find(path) is None


def test_the_examples_are_requests() -> None:
    assert DepositRequest.model_json_schema()["examples"] == EXAMPLES
    for example in EXAMPLES:
        DepositRequest.model_validate_json(json.dumps(example))
        item = {"kind": "deposit", "key": "order-1001", "body": example}
        BatchRequest.model_validate_json(json.dumps({"requests": [item]}))
    for schema in (journals.JournalRequest, journals.ReverseRequest, holds.HoldRequest, holds.CaptureRequest,
                   packets.PacketRequest, bets.MoveRequest, bets.UnloadRequest):  # fmt: skip
        for example in schema.model_json_schema()["examples"]:
            schema.model_validate_json(json.dumps(example))
