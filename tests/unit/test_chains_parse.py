"""What a node's JSON may hold, and what anybody may put on a chain."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.base import TxStatus
from chains.errors import MalformedError
from chains.evm import parse

TOKEN = "0x" + "aa" * 20
ASSETS = parse.Assets(chain="eip155:1", native="eip155:1/slip44:60", tokens={TOKEN: f"eip155:1/erc20:{TOKEN}"})
TX, BLOCK = "0x" + "01" * 32, "0x" + "02" * 32


def topic(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


def log(**changes: Any) -> dict[str, Any]:
    return {
        "address": TOKEN,
        "topics": [parse.TRANSFER_TOPIC, topic("0x" + "bb" * 20), topic("0x" + "cc" * 20)],
        "data": "0x" + "0" * 62 + "2a",
        "blockNumber": "0x10",
        "blockHash": BLOCK,
        "transactionHash": TX,
        "logIndex": "0x3",
    } | changes


def test_the_topic_is_what_it_claims() -> None:
    from eth_utils.crypto import keccak

    assert "0x" + keccak(text="Transfer(address,address,uint256)").hex() == parse.TRANSFER_TOPIC


def test_a_transfer() -> None:
    found = parse.token_transfer(log(address=TOKEN.upper().replace("0X", "0x")), ASSETS)
    assert found is not None
    assert (found.asset, found.contract, found.units, found.index) == (ASSETS.tokens[TOKEN], TOKEN, 42, 3)


def test_the_largest_amount_is_exact() -> None:
    found = parse.token_transfer(log(data="0x" + "f" * 64), ASSETS)
    assert found is not None and found.units == 2**256 - 1


def test_four_topics_are_another_event_even_with_an_amount() -> None:
    assert parse.token_transfer(log(topics=[*log()["topics"], topic("0x" + "dd" * 20)]), ASSETS) is None


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "data": st.binary().filter(lambda data: len(data) != 32).map(lambda data: "0x" + data.hex()),
            "topics": st.lists(st.sampled_from([parse.TRANSFER_TOPIC, TX]), max_size=4),
        },
    ).filter(bool)
)
def test_a_log_of_another_shape_is_no_transfer_and_no_error(changes: dict[str, Any]) -> None:
    assert parse.token_transfer(log(**changes), ASSETS) is None


@pytest.mark.parametrize("changes", [{"data": None}, {"data": 7}, {"data": "0xabc"}, {"data": "2a"}, {"topics": None},
    {"topics": [None, TX, TX]}, {"topics": [parse.TRANSFER_TOPIC, "0x1", TX]}, {"removed": True}])  # fmt: skip
def test_what_no_log_can_be_is_malformed_or_a_transfer_would_be_hidden(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse.token_transfer(log(**changes), ASSETS)


@pytest.mark.parametrize(
    "value", [None, 7, True, "", "7", "0x", "0xg", "0x" + "1" * 65, "-0x1", " 0x1", "0x1\n", "0x٣", [], {}]
)
def test_what_is_no_quantity(value: object) -> None:
    with pytest.raises(MalformedError):
        parse.quantity(value)


@pytest.mark.parametrize("value", ["0x8000000000000000", "0x" + "f" * 64])
def test_a_number_that_no_chain_reaches_is_malformed(value: str) -> None:
    """EIP-1985. Whoever boasts of it would be the farthest node of all, and what it tells can't be stored."""
    with pytest.raises(MalformedError):
        parse.block(BLOCK_JSON | {"number": value})
    with pytest.raises(MalformedError):
        parse.token_transfer(log(logIndex=value), ASSETS)
    with pytest.raises(MalformedError):
        parse.chain_tx(TX, TX_JSON | {"blockNumber": value}, RECEIPT | {"blockNumber": value}, ASSETS)


def test_a_receipt_with_a_log_of_another_block_is_malformed() -> None:
    with pytest.raises(MalformedError, match="another block"):
        parse.chain_tx(TX, TX_JSON, RECEIPT | {"logs": [log(blockHash=TX)]}, ASSETS)


def test_a_receipt_with_a_log_of_another_transaction_is_malformed() -> None:
    with pytest.raises(MalformedError, match="another transaction"):
        parse.chain_tx(TX, TX_JSON, RECEIPT | {"logs": [log(transactionHash=BLOCK)]}, ASSETS)


def test_a_receipt_that_tells_one_log_twice_is_malformed() -> None:
    with pytest.raises(MalformedError, match="twice"):
        parse.chain_tx(TX, TX_JSON, RECEIPT | {"logs": [log(), log(data="0x" + "1" * 64)]}, ASSETS)


def test_a_status_is_one_of_two() -> None:
    with pytest.raises(MalformedError, match="status"):
        parse.chain_tx(TX, TX_JSON, RECEIPT | {"status": "0x2"}, ASSETS)


def test_only_receipts_of_before_the_status_are_without_one() -> None:
    """They had a root in its place (EIP-658). One with neither is half an answer."""
    receipt = {key: value for key, value in RECEIPT.items() if key != "status"}
    assert parse.without_status(receipt | {"root": TX}) and not parse.without_status(receipt)
    for each in (receipt, receipt | {"root": TX}):
        assert parse.chain_tx(TX, TX_JSON, each, ASSETS).status is TxStatus.MEMPOOL


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=3),
    st.sampled_from([TX, BLOCK, TOKEN, "0x1", "0x0", [], {}, [None], [{}], [log()], [log(blockHash=TX)]]),
)
TX_JSON = {
    "hash": TX,
    "from": TOKEN,
    "to": TOKEN,
    "nonce": "0x1",
    "value": "0x5",
    "blockHash": BLOCK,
    "blockNumber": "0x10",
}
RECEIPT = {"transactionHash": TX, "blockHash": BLOCK, "blockNumber": "0x10", "status": "0x1", "logs": [log()]}
BLOCK_JSON = {"number": "0x10", "hash": BLOCK, "parentHash": TX, "timestamp": "0x6b011e6f"}


def test_a_whole_reading() -> None:
    found = parse.chain_tx(TX, TX_JSON, RECEIPT, ASSETS)
    assert found.status is TxStatus.SUCCEEDED
    assert [transfer.units for transfer in found.transfers] == [5, 42]


@given(
    *(st.one_of(ODD, st.fixed_dictionaries({}, optional=dict.fromkeys(good, ODD))) for good in (TX_JSON, RECEIPT)),
    st.fixed_dictionaries({}, optional=dict.fromkeys(BLOCK_JSON, ODD)),
)
def test_any_json_is_read_or_malformed(tx: Any, receipt: Any, block: dict[str, Any]) -> None:
    tx, receipt = (good | odd if isinstance(odd, dict) else odd for good, odd in ((TX_JSON, tx), (RECEIPT, receipt)))
    with suppress(MalformedError):
        found = parse.chain_tx(TX, tx, receipt, ASSETS)
        assert found.id == TX
        if found.status is not TxStatus.SUCCEEDED:
            assert found.transfers == ()
        if found.status in (TxStatus.SUCCEEDED, TxStatus.REVERTED):
            assert found.block_hash == tx["blockHash"] == receipt["blockHash"]
    with suppress(MalformedError):
        assert parse.block(BLOCK_JSON | block).time.tzinfo is not None
