import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chains.aptos import parse
from chains.base import Block, TxStatus
from chains.errors import MalformedError
from tests.unit.test_aptos_transfers import RECORDED, executed, recorded

HASH = "0x" + "ab" * 32
PENDING: dict[str, Any] = {
    "hash": HASH,
    "sender": "0xb1e55ed",
    "sequence_number": "7",
    "expiration_timestamp_secs": "1760643271",
    "type": "pending_transaction",
}


@pytest.mark.parametrize("file", sorted(RECORDED.glob("block-*.json")), ids=lambda file: file.name)
def test_a_recorded_block_says_of_itself_what_it_is_said_to_be(file: Any) -> None:
    raw = json.loads(file.read_text())
    span = parse.span(raw)
    first = raw["transactions"][0]
    assert parse.block_begun(first) == span.block
    assert [int(tx["version"]) for tx in raw["transactions"]] == list(range(span.first, span.last + 1))
    assert file.name == f"block-{span.block.number}.json"


def test_a_blocks_time_is_exact_to_the_microsecond() -> None:
    block = parse.span(recorded("block-57347454.json")).block
    assert block.time == datetime(2023, 5, 26, 1, 3, 52, 234522, tzinfo=UTC)
    assert block == Block(
        number=57_347_454,
        hash="0x3a7b9293154d52b090a3ee601cc4add1efd82668613b1fd103197109ff54be2c",
        parent_hash="",
        time=block.time,
    )


def test_a_waiting_transaction_says_until_when_it_can_be() -> None:
    found = parse.chain_tx(HASH, PENDING)
    account = "0x" + "b1e55ed".rjust(64, "0")
    assert (found.status, found.sender, found.inputs) == (TxStatus.MEMPOOL, account, (f"{account}/7",))
    assert found.valid_until == datetime(2025, 10, 16, 19, 34, 31, tzinfo=UTC)
    assert found.transfers == () and found.block_number is None


def test_a_time_that_no_calendar_has_is_none() -> None:
    # Anybody may ask for it.
    assert parse.chain_tx(HASH, PENDING | {"expiration_timestamp_secs": str(2**64 - 1)}).valid_until is None


@pytest.mark.parametrize(
    "orderless", [{"replay_protection_nonce": "5", "sequence_number": "0"}, {"sequence_number": str(2**64 - 1)}]
)
def test_an_orderless_transaction_uses_up_no_sequence_number(orderless: dict[str, str]) -> None:
    assert parse.chain_tx(HASH, PENDING | orderless).inputs == ()


def test_the_chains_own_transactions_have_no_sender() -> None:
    for raw in recorded("block-456015808.json")["transactions"]:
        found = parse.chain_tx(raw["hash"], raw)
        assert (found.sender is None) == (raw["type"] != "user_transaction")
        assert (found.status is TxStatus.SUCCEEDED) == raw["success"]


def test_the_double_tells_transactions_in_the_form_of_recorded_ones() -> None:
    real = recorded("block-445814139.json")["transactions"]
    made = executed()
    assert made.keys() == real[1].keys()
    assert {type(value) for value in made.values()} == {type(value) for value in real[1].values()}
    assert set(made["events"][0]) == set(real[1]["events"][0]) and set(made["changes"][0]) == set(real[1]["changes"][0])


@pytest.mark.parametrize(
    "change",
    [
        {"hash": "0x" + "cd" * 32},
        {"hash": HASH[:-1]},
        {"type": None},
        {"type": "user_transaction"},
        {"type": "user_transaction", "success": "true"},
        {"sender": "b1e55ed"},
        {"sender": "0x" + "1" * 65},
        {"sequence_number": 7},
        {"sequence_number": "1" * 21},
        {"expiration_timestamp_secs": ""},
    ],
)
def test_what_is_no_transaction_is_nonsense(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse.chain_tx(HASH, PENDING | change)


@pytest.mark.parametrize(
    "change",
    [
        {"block_height": 7},
        {"block_hash": "0x"},
        {"block_timestamp": str(2**63)},
        {"first_version": "9", "last_version": "8"},
        {"last_version": None},
    ],
)
def test_what_is_no_block_is_nonsense(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse.span(recorded("block-57347454.json") | change)


def test_a_block_that_does_not_say_which_it_is_is_nonsense() -> None:
    raw = recorded("block-57347454.json")["transactions"][0]
    with pytest.raises(MalformedError):
        parse.block_begun(raw | {"events": []})
    # The module's event, which is to take the place of the handle's.
    event = raw["events"][0] | {"type": "0x1::block::NewBlock"}
    assert parse.block_begun(raw | {"events": [event]}) == parse.block_begun(raw)


@pytest.mark.parametrize("chain_id", ["1", True, None, 1.0])
def test_a_chain_id_is_a_number(chain_id: object) -> None:
    with pytest.raises(MalformedError):
        parse.ledger({"chain_id": chain_id, "ledger_version": "7"})


def test_microseconds_are_not_rounded() -> None:
    raw = recorded("block-57347454.json") | {"block_timestamp": "9007199254740993"}
    assert parse.span(raw).block.time == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=9007199254740993)
