"""What the signer answers and logs when something of its own is wrong: never a word that could hold a key."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient

from chains.sending import Order, Terms
from chains.signing import order_body, terms_body
from signer.app import Service, create_app
from signer.base import Signed
from signer.journal import Journal
from signer.policy import AssetLimits, WalletPolicy
from signer.signing import Desk, LateError, Wallet

CHAIN = "eip155:1"
SECRET = bytes.fromhex("46" * 32)
TOKEN = "t" * 32
Ask = Callable[[], Any]
ORDER = Order(reference="r", chain=CHAIN, wallet="ours", asset=f"{CHAIN}/slip44:60", to="somebody", units=5)
TERMS = Terms(inputs=("in:0",), fee_max=1)


class Telling:
    """Fails as libraries do, with what it was given in its words."""

    def address(self, chain: str, secret: bytes) -> str:
        return "ours"

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        raise ValueError(f"{secret.hex()} is no good")


class Good(Telling):
    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        return Signed(chain_tx="id", raw="00" * 200, fee_max=1, conflicts=frozenset(terms.inputs))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    Journal.create(tmp_path / "journal.db")
    limits = {ORDER.asset: AssetLimits(each_max="10", day_max="10000")}  # type: ignore[arg-type]
    policy = WalletPolicy(chain=CHAIN, key="k", fee_max="10", fee_day_max="10000", assets=limits)  # type: ignore[arg-type]
    made = Desk({CHAIN: Wallet("ours", policy, Telling(), SECRET)}, Journal(tmp_path / "journal.db"))
    yield made
    made.journal.close()


@pytest.fixture
def ask(desk: Desk) -> Iterator[Ask]:
    service = Service(desk, token=TOKEN, body_bytes_max=10_000)
    with TestClient(create_app(service), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield lambda: client.post(
            "/v1/sign", json={"order": order_body(ORDER), "number": 1, "terms": terms_body(TERMS)}
        )


def test_of_a_fault_in_building_only_its_kind_is_told(desk: Desk, ask: Ask) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = ask()
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    [line] = lines
    assert line["log_level"] == "error" and "ValueError" in line["words"]
    assert SECRET.hex() not in json.dumps(lines, default=repr) + answer.text + repr(desk.wallets)


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (LateError("late"), (503, "late")),
        (sqlite3.OperationalError("disk I/O error"), (503, "unavailable")),
        (ZeroDivisionError(SECRET.hex()), (500, "internal")),
    ],
)
def test_a_fault_is_a_problem_without_its_words(
    desk: Desk, ask: Ask, monkeypatch: pytest.MonkeyPatch, error: Exception, answered: tuple[int, str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(desk, "sign", fail)
    with structlog.testing.capture_logs() as lines:
        answer = ask()
    assert (answer.status_code, answer.json()["code"]) == answered
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET.hex() not in json.dumps(lines, default=repr) + answer.text


def test_on_a_full_disk_nothing_is_signed_and_then_it_goes_on(desk: Desk) -> None:
    good = Desk({CHAIN: replace(desk.wallets[CHAIN], signer=Good())}, desk.journal)
    rows = desk.journal._rows
    asked = [(replace(ORDER, reference=f"r-{each}"), 1, replace(TERMS, inputs=(f"in:{each}",))) for each in range(80)]
    rows.execute(f"PRAGMA max_page_count = {rows.execute('PRAGMA page_count').fetchone()[0]}")
    signed: list[Signed] = []
    with pytest.raises(sqlite3.OperationalError, match="full"):
        signed.extend(good.sign(*each)[0] for each in asked)
    assert 0 < len(signed) < len(asked) and not rows.in_transaction
    rows.execute("PRAGMA max_page_count = 100000")
    answers = [good.sign(*each) for each in asked]
    assert answers[: len(signed)] == [(each, False) for each in signed]
    assert all(new for _, new in answers[len(signed) :])
