"""What the API says of itself is so: every address is asked what fits its description and what doesn't.

schemathesis makes the requests from /openapi.json. Some of their values are then taken from what there is (accounts,
assets, ids of earlier answers): no generator hits upon them, and all it asked would end at the first check.
"""

import copy
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from jsonschema_rs import validator_for
from schemathesis import Case, GenerationMode
from schemathesis.config import GenerationConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from api.middleware import CORRELATION
from api.problems import KINDS, MEDIA_TYPE, ProblemDocument
from config import settings as configuration
from core import db
from core.ids import new_id
from domain.rates import service as rates
from domain.webhook.settings import webhook
from tests.integration.api.conftest import CHAIN, NewKey
from tests.integration.api.hot import HotStore
from tests.integration.fiat_payment.conftest import books
from tests.integration.fiat_payment.desk import Desk
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, EUR, assert_sound, book, move
from tests.support.prices import ETH, NGN, USD

__all__ = ["books"]
FUNDS = 10**12
USER = "user:42:available"
CHECKS = [
    status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip
Operation = APIOperation[Any, Any, Any, Any]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
NEVER = {
    "GET /ready",  # no worker runs
    "GET /v1/chains/{chain}/rescans/{rescan_id}",
    "POST /v1/chains/{chain}/rescans",  # nobody has scanned yet
    "POST /v1/fiat-payments/{payment_id}/refunds",  # none is paid
    "POST /v1/webhooks/{provider}",  # no generator can sign
    # What leaves needs a destination whose holder somebody has told.
    "POST /v1/payouts",
    "GET /v1/payouts/{payout_id}",
    "GET /v1/payouts/{payout_id}/events",
    "GET /v1/payouts/{payout_id}/approvals",
    *(f"POST /v1/payouts/{{payout_id}}/{step}" for step in ("approve", "reject", "cancel", "freeze", "thaw")),
    "PATCH /v1/payouts/{payout_id}",
    "POST /v1/payouts/batches",
    "GET /v1/payouts/batches/{batch_id}",
}
"""What needs more than a request to be carried out."""
UNDONE_MAX = 8
"""Of the addresses, some sixty: four requests to each don't always hit."""
CASES_MAX = 8
"""Of the edges of an address. All of them are asked for by the run that is marked soak."""
MIXED = 207
"""Of a batch each part is refused by itself."""
UNAVAILABLE = {"rate-unusable"}
"""What may be 503 while nothing is away: there is a rate for two pairs only."""
URL_LENGTH_MAX = 60_000
"""uvicorn refuses more than 64 KiB before there is a request, in plain text."""
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
IDS_KEPT = 40
"""Of each kind. The oldest go."""


class Known:
    """What there is, by the name of the field or parameter that may hold it."""

    def __init__(self) -> None:
        self._fixed: dict[str, list[Any]] = {
            **{key: [ALICE, BOB, USER] for key in ("account", "source", "destination", "sender", "code")},
            **{key: [EUR, EUR, EUR, ETH, NGN, USD] for key in ("asset", "currency", "credit_asset")},
            **{key: ["42", "42", "42", "alice"] for key in ("user", "owner", "winner", "player")},
            **{key: ["1", "100", "5000"] for key in ("units", "units_in", "units_out", "stake", "payout")},
            **{key: [_later(1), _later(30), _later(0)] for key in ("expires_at", "deadline", "at", "until", "since")},
            "chain": [CHAIN],
            "from": [NGN],
            "to": [ETH],
            "provider": ["acme"],
        }
        self._ids: dict[str, list[str]] = {}

    def learn(self, path: str, answer: Any) -> None:
        """Remember the ids that an answer of this address has."""
        kind = _kind(path)
        found = [answer, *(value for part in answer.values() if isinstance(part, list) for value in part)]
        for each in found:
            if isinstance(each, dict) and ID.fullmatch(str(each.get("id"))):
                self._ids.setdefault(kind, []).append(each["id"])
                del self._ids[kind][:-IDS_KEPT]

    def of(self, name: str) -> list[Any]:
        if name in self._fixed:
            return self._fixed[name]
        if name == "id":
            return [str(new_id()), *self._ids.get("bet", ())[:3]]
        return self._ids.get(name.removesuffix("_id"), []) if name.endswith("_id") else []

    def put_in(self, value: Any, choice: random.Random, share: float) -> Any:
        """The same with this share of the known fields replaced."""
        if isinstance(value, list):
            return [self.put_in(each, choice, share) for each in value]
        if not isinstance(value, dict):
            return value
        return {name: self._one(name, each, choice, share) for name, each in value.items()}

    def _one(self, name: str, value: Any, choice: random.Random, share: float) -> Any:
        known = self.of(name)
        return choice.choice(known) if known and choice.random() < share else self.put_in(value, choice, share)


def _later(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days, minutes=-5 if not days else 0)).isoformat()


def _kind(path: str) -> str:
    """/v1/players/{user}/loads -> load; /v1/jobs:batch -> job; /v1/holds/{hold_id}/capture -> hold."""
    parts = [part for part in path.split("/")[2:] if not part.startswith("{")]
    if parts[-1] in {"capture", "void", "settle", "cancel", "reverse", "rotate"}:
        parts.pop()
    return parts[-1].partition(":")[0].replace("fiat-payment", "payment").removesuffix("s")


class Asker:
    """Asks and judges; goes on after a fault, so that one run tells of all."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._headers = {"Authorization": f"Bearer {key}"}
        self._document = requests.get(f"{url}/openapi.json", timeout=20).json()
        self._problem = validator_for(
            {**ProblemDocument.model_json_schema(), "required": ["type", "title", "status", "detail", "correlation_id"]}
        )
        self.schema = schemathesis.openapi.from_dict(self._document)
        self.schema.config.generation.update(with_security_parameters=False)  # test_api_access is about keys
        self.known = Known()
        self.faults: dict[str, str] = {}
        self.seen: Counter[tuple[str, int]] = Counter()
        self.refusals: dict[str, str] = {}
        self.unasked: set[str] = set()

    @property
    def operations(self) -> list[Operation]:
        found = list(self.schema.get_all_operations())
        return [each.ok() for each in found if isinstance(each, Ok)]

    def do(self, path: str, body: dict[str, Any]) -> None:
        headers = {**self._headers, "Idempotency-Key": str(uuid4())}
        reply = self._session.post(self._url + path, json=body, headers=headers, timeout=20)
        assert reply.status_code < 300, reply.text
        template = path.replace("/42/", "/{user}/")
        self.schema[template]["POST"].validate_response(reply)
        self.seen[f"POST {template}", reply.status_code] += 1
        self.known.learn(path, reply.json())

    def fuzz(self, mode: GenerationMode, examples: int, *, derandomize: bool = True) -> None:
        for operation in self.operations:
            try:
                self._fuzz_one(operation, mode, examples, derandomize=derandomize)
            except Unsatisfiable:  # nothing can be wrong about a request that may have nothing but a key
                self.unasked.add(operation.label)

    def _fuzz_one(self, operation: Operation, mode: GenerationMode, examples: int, *, derandomize: bool) -> None:
        @settings(
            max_examples=examples, derandomize=derandomize, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        # Of its own: how it is used depends on what has been learned, which hypothesis must not take for flakiness.
        @given(case=operation.as_strategy(generation_mode=mode), choice=st.integers(0, 2**32).map(random.Random))
        def ask(case: Case[Any], choice: random.Random) -> None:
            if mode is GenerationMode.POSITIVE:
                self._season(case, choice)
            if len(case.as_transport_kwargs(self._url)["url"]) < URL_LENGTH_MAX:
                self.ask(case)

        ask()

    def cover(self, cases_max: int | None = None) -> None:
        """Each constraint at its edges and just beyond, one at a time; of each address at most so many, taken evenly
        from all there are.
        """
        chosen = GenerationConfig(with_security_parameters=False)
        for operation in self.operations:
            cases = list(
                self.schema.iter_coverage_cases(operation, generation_modes=list(MODES), generation_config=chosen)
            )
            for case in cases[:: 1 if cases_max is None else math.ceil(len(cases) / cases_max)]:
                self.ask(case)

    def _season(self, case: Case[Any], choice: random.Random) -> None:
        """Replace some of what was generated by what there is, so that it may be carried out."""
        examples = self._examples(case)
        share = 0.7
        if examples and choice.random() < 0.6:
            case.body, share = copy.deepcopy(choice.choice(examples)), 0.3
        if isinstance(case.body, dict):
            case.body = self.known.put_in(case.body, choice, share)
        case.path_parameters = self.known.put_in(case.path_parameters, choice, 0.9)
        if choice.random() < 0.5:
            case.query = {name: value for name, value in case.query.items() if name in self._needed(case)}
        case.query = self.known.put_in(case.query, choice, 0.7)

    def _examples(self, case: Case[Any]) -> list[Any]:
        """Of the body, as the document shows them."""
        content = self._operation(case).get("requestBody", {}).get("content", {}).get("application/json", {})
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        found: list[Any] = self._document["components"]["schemas"].get(name, {}).get("examples", [])
        return found

    def _needed(self, case: Case[Any]) -> set[str]:
        return {each["name"] for each in self._operation(case).get("parameters", ()) if each.get("required")}

    def _operation(self, case: Case[Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._document["paths"][case.path].get(case.method.lower(), {})
        return found

    def ask(self, case: Case[Any]) -> None:
        response = case.call(self._url, session=self._session, headers=self._headers, timeout=20)
        self.seen[case.operation.label, response.status_code] += 1
        if response.status_code >= 400:
            self.refusals[case.operation.label] = response.text
        try:
            self._judge(case, response)
        except (AssertionError, FailureGroup) as fault:
            told = [str(each) for each in getattr(fault, "exceptions", [fault])]
            name = f"{case.operation.label} {response.status_code} {told[0][:80]}"
            self.faults.setdefault(name, "\n".join([*told, case.as_curl_command(), response.text[:2_000]]))
        if response.status_code < 300 and case.path.startswith("/v1/"):
            self.known.learn(case.path, response.json())

    def _judge(self, case: Case[Any], response: Response) -> None:
        status, sort = response.status_code, response.headers["content-type"][0]
        if status >= 400 and (case.path, status) != ("/ready", 503):  # tells what is away in its own way
            assert sort == MEDIA_TYPE
            document = response.json()
            self._problem.validate(document)
            kind = document["type"].removeprefix("/problems/")
            assert KINDS[kind].status == document["status"] == status
            assert document["correlation_id"] == response.headers[CORRELATION.lower()][0]
            assert status < 500 or kind in UNAVAILABLE, document
        checks = CHECKS if status == MIXED else [*CHECKS, negative_data_rejection]
        case.validate_response(response, checks=checks, headers=self._headers)


@pytest.fixture
def environment(
    books: None, hot_store: HotStore, hot_wallet: str, pool: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Everything configured and nothing away, so that 5xx is a fault. For the API, which is asked for after it."""
    monkeypatch.setenv("FAIRNESS_KEYS", json.dumps(["0c" * 32]))
    monkeypatch.setenv("VAULT_KEYS", json.dumps(["0d" * 32]))
    monkeypatch.setenv("VAULT_FINGERPRINT_KEY", "0e" * 32)
    monkeypatch.setenv("WEBHOOK_SECRETS", json.dumps({"stripe": ["whsec_this_is_no_secret"]}))
    configuration.reload()
    webhook.cache_clear()
    with db.transaction() as session:
        for asset, currency, price in ((ETH, USD, "2000"), (USD, NGN, "1500")):
            rates.add(session, rates.proposed(asset, currency, price, source="desk", actor="ann"))
    for number, (account, asset) in enumerate((each, asset) for each in (ALICE, BOB, USER) for asset in (EUR, ETH)):
        book("shop", f"deposit:{number}:credit:0", move(CUSTODY, account, FUNDS, asset))
    Desk()
    yield
    webhook.cache_clear()


@pytest.fixture
def asker(environment: None, hot_store: HotStore, api_url: str, new_key: NewKey) -> Asker:
    """With a player who has something in his hands and some bets on the table."""
    made = Asker(api_url, new_key().secret)
    made.do("/v1/players/42/loads", {"asset": EUR, "units": "1000000"})
    made.do("/v1/quotes", {"from": NGN, "to": ETH, "units_in": "5000000"})
    made.do("/v1/fiat-payments", {"account": USER, "currency": EUR, "units": "10000"})
    packet = {"sender": USER, "asset": EUR, "units": "1000", "count": 10, "shares": "random", "expires_at": _later(1)}
    made.do("/v1/packets", packet)
    for _ in range(10):
        made.do("/v1/holds", {"source": USER, "destination": ALICE, "asset": EUR, "units": "10000"})
        made.do("/v1/bets", {"id": str(new_id()), "user": "42", "asset": EUR, "stake": "10", "game": "crash"})
    hot_store.drain()
    return made


def check(asker: Asker, hot_store: HotStore) -> None:
    assert not asker.faults, "\n\n".join([f"{len(asker.faults)} faults", *asker.faults.values()])
    hot_store.drain()
    assert_sound()


@pytest.mark.timeout(300)
def test_every_address_answers_as_the_description_says(asker: Asker, hot_store: HotStore) -> None:
    """What fits it, and what is at its edges or just beyond. Nearly every address that can here has carried something
    out: so the checks have seen real answers.
    """
    asker.fuzz(GenerationMode.POSITIVE, 4)
    done = {label for label, status in asker.seen if status < 300}
    undone = {each.label for each in asker.operations} - done - NEVER
    assert len(undone) <= UNDONE_MAX, {label: asker.refusals.get(label) for label in undone}
    asker.seen.clear()
    asker.cover(CASES_MAX)
    assert {each.label for each in asker.operations} == {label for label, _ in asker.seen}
    assert sum(asker.seen.values()) > 500
    check(asker, hot_store)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_every_edge_of_the_description_is_no_fault(asker: Asker, hot_store: HotStore) -> None:
    asker.cover()
    assert sum(asker.seen.values()) > 1_500
    check(asker, hot_store)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_hundreds_of_requests_to_each_address_find_no_fault(
    asker: Asker, hot_store: HotStore, mode: GenerationMode
) -> None:
    """Others each time."""
    asker.fuzz(mode, 200, derandomize=False)
    check(asker, hot_store)
    assert asker.unasked <= {each.label for each in asker.operations if not each.body}
