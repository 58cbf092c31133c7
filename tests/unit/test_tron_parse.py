"""From java-tron's JSON and bytes to facts, over real answers of the network (tests/support/tron/recorded.py)."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.base import Transfer, TxStatus
from chains.errors import MalformedError
from chains.tron import formats, parse, rawdata
from tests.support.tron import recorded, wire
from tests.support.tron.node import token_log

CHAIN = "tron:728126428"
USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
ASSETS = parse.Assets(
    chain=CHAIN,
    native=f"{CHAIN}/slip44:195",
    trc20={USDT: f"{CHAIN}/trc20:{USDT}"},
    trc10={"1004920": f"{CHAIN}/trc10:1004920"},
)
WITH_JSON = [*recorded.MAINNET_BLOCK["transactions"], recorded.USDT_TRANSFER, *recorded.PRIVATE_BLOCK["transactions"]]
BLOCK = parse.block(recorded.MAINNET_BLOCK)


def raw(address: str) -> bytes:
    return bytes.fromhex(address)


def sent(kind: str, **value: Any) -> dict[str, Any]:
    """A transaction of our own, in java-tron's JSON."""
    held = {"value": value, "type_url": f"type.googleapis.com/protocol.{kind}"}
    return made({"contract": [{"parameter": held, "type": kind}], "expiration": 1_700_000_000_000})


def made(given: dict[str, Any], result: str = "SUCCESS") -> dict[str, Any]:
    return content_tx(wire.raw_data({"ref_block_bytes": "13c2", "ref_block_hash": "05b5c63cf65e5bf0"} | given), result)


def content_tx(content: bytes, result: str = "SUCCESS") -> dict[str, Any]:
    id_ = hashlib.sha256(content).hexdigest()
    return {"ret": [{"contractRet": result}], "txID": id_, "raw_data_hex": content.hex()}


def executed(tx: dict[str, Any], **more: Any) -> parse.Info:
    return parse.info({"id": tx["txID"], "blockNumber": 7, "blockTimeStamp": 1, "receipt": {}} | more)


def moved(tx: dict[str, Any], info: parse.Info) -> tuple[Transfer, ...]:
    return parse.transfers(parse.transaction(tx), info, BLOCK, ASSETS)


PAYER, PAYEE, CONTRACT = (formats.spelled(b"\x41" + bytes([n]) * 20) for n in (1, 2, 3))
PAYER_HEX, PAYEE_HEX, CONTRACT_HEX = ("41" + f"{n:02x}" * 20 for n in (1, 2, 3))
CALL = {"owner_address": PAYER_HEX, "contract_address": CONTRACT_HEX, "data": "f8a8fd6d"}


# --- real transactions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tx", WITH_JSON, ids=lambda tx: str(tx["txID"])[:8])
def test_the_double_writes_the_networks_own_bytes(tx: dict[str, Any]) -> None:
    assert wire.raw_data(tx["raw_data"]).hex() == tx["raw_data_hex"]


@pytest.mark.parametrize("block", [recorded.MAINNET_BLOCK, recorded.PRIVATE_BLOCK], ids=["main", "private"])
def test_blocks_are_read_and_their_ids_are_what_the_double_makes(block: dict[str, Any]) -> None:
    header = block["block_header"]["raw_data"]
    assert wire.block_id(header) == block["blockID"]
    found = parse.block(block)
    assert (found.number, found.hash, found.parent_hash) == (header["number"], block["blockID"], header["parentHash"])
    assert found.time == datetime.fromtimestamp(header["timestamp"] // 1000, UTC)


@pytest.mark.parametrize("given", recorded.LEDGER, ids=lambda given: given.id[:8])
def test_what_is_signed_is_read_from_the_bytes(given: recorded.Sent) -> None:
    tx = parse.transaction({"txID": given.id, "raw_data_hex": given.content})
    assert tx.raw is not None and tx.result is None
    assert (tx.raw.kind, tx.raw.memo) == (given.kind, b"")
    assert tx.raw.sender is not None and tx.raw.sender.hex() == given.sender
    expected = [] if given.recipient is None else [(raw(given.recipient), given.units, given.token)]
    assert [(move.recipient, move.units, move.token) for move in tx.raw.moves] == expected


@pytest.mark.parametrize("tx", WITH_JSON, ids=lambda tx: str(tx["txID"])[:8])
def test_the_bytes_and_the_nodes_rendering_of_them_agree(tx: dict[str, Any]) -> None:
    read, shown = parse.transaction(tx).raw, tx["raw_data"]
    value = shown["contract"][0]["parameter"]["value"]
    assert read is not None and read.sender is not None
    assert (read.expires_ms, read.sender.hex()) == (shown["expiration"], value["owner_address"])
    if "amount" in value:
        assert [(move.recipient.hex(), move.units) for move in read.moves] == [(value["to_address"], value["amount"])]
        assert [None if move.token is None else move.token.hex() for move in read.moves] == [value.get("asset_name")]
    else:
        assert read.moves == ()


def test_a_real_transfer_of_usdt() -> None:
    info = parse.info(recorded.USDT_INFO)
    (transfer,) = parse.transfers(parse.Tx(info.id, None, "SUCCESS"), info, BLOCK, ASSETS)
    assert parse.succeeded(parse.Tx(info.id, None, "SUCCESS"), info) is True
    assert (transfer.asset, transfer.contract, transfer.units) == (f"{CHAIN}/trc20:{USDT}", USDT, 3_500_000)
    assert formats.raw_address(CHAIN, transfer.recipient).hex() == "41cdae4e9a6287333a3f7df432b050af7b17e79e63"
    assert transfer.sender is not None
    assert formats.raw_address(CHAIN, transfer.sender).hex() == "4160e6e92e57d61a9d68b5d95275cc9667d9e6c7c9"
    assert transfer.index == 0


def test_a_real_transfer_that_ran_out_of_energy_moved_nothing() -> None:
    info = parse.info(recorded.OUT_OF_ENERGY_INFO)
    tx = replace(parse.transaction(recorded.USDT_TRANSFER), id=info.id, result="OUT_OF_ENERGY")
    told = parse.chain_tx(tx, info, BLOCK, ASSETS)
    assert (told.status, told.transfers) == (TxStatus.REVERTED, ())


def test_a_real_transfer_of_trx_succeeds_without_a_result_in_its_receipt() -> None:
    info = parse.info(recorded.TRX_INFO)
    assert info.result is None
    tx = replace(parse.transaction(recorded.MAINNET_BLOCK["transactions"][0]), id=info.id)
    assert parse.succeeded(tx, info) is True
    assert parse.succeeded(replace(tx, result=None), info) is None


def test_an_advertisement_in_a_memo_is_no_tag() -> None:
    tx = parse.transaction(recorded.MEMO_TRANSFER)
    assert tx.raw is not None and tx.raw.memo.decode().startswith("Congratulations")
    (transfer,) = parse.transfers(tx, executed(recorded.MEMO_TRANSFER), BLOCK, ASSETS)
    assert (transfer.asset, transfer.contract, transfer.units, transfer.tags) == (None, "1004089", 10_000_000, ())
    assert transfer.index == rawdata.TRC10_INDEX


def test_what_a_contract_really_passed_on() -> None:
    info = parse.info(recorded.PRIVATE_INFO_INTERNAL)
    (transfer,) = parse.transfers(parse.Tx(info.id, None, "SUCCESS"), info, BLOCK, ASSETS)
    assert (transfer.asset, transfer.contract, transfer.units) == (f"{CHAIN}/slip44:195", None, 1)
    assert formats.raw_address(CHAIN, transfer.recipient).hex() == "41dcf2957055e8fcde477a077ecfeddf5ab2357547"
    assert transfer.index == parse.INTERNAL_INDEX


def test_an_info_with_a_map_in_it_is_read() -> None:
    assert parse.info(recorded.PRIVATE_INFO_MAP).block_number == 165


# --- what succeeded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "in_block", "info", "expected"),
    [
        ("TransferContract", "SUCCESS", {}, True),
        ("TransferContract", "SUCCESS", {"receipt": {"result": "DEFAULT"}}, True),
        ("TransferContract", "SUCCESS", {"receipt": {"result": "SUCCESS"}}, True),
        ("TransferContract", "FAILED", {"result": "FAILED"}, False),
        ("TriggerSmartContract", "SUCCESS", {"receipt": {"result": "SUCCESS"}}, True),
        ("TriggerSmartContract", "REVERT", {"receipt": {"result": "REVERT"}, "result": "FAILED"}, False),
        ("TriggerSmartContract", "OUT_OF_TIME", {"receipt": {"result": "OUT_OF_TIME"}, "result": "FAILED"}, False),
        ("TriggerSmartContract", "A_NEW_ONE", {"receipt": {"result": "A_NEW_ONE"}, "result": "FAILED"}, False),
        ("TransferContract", None, {}, None),
        ("TransferContract", "DEFAULT", {}, None),
        # What says two things says nothing.
        ("TriggerSmartContract", "SUCCESS", {}, MalformedError),
        ("TriggerSmartContract", "SUCCESS", {"receipt": {"result": "REVERT"}}, MalformedError),
        ("TriggerSmartContract", "REVERT", {"receipt": {"result": "SUCCESS"}}, MalformedError),
        ("TriggerSmartContract", "SUCCESS", {"receipt": {"result": "SUCCESS"}, "result": "FAILED"}, MalformedError),
        ("TransferContract", "SUCCESS", {"result": "FAILED"}, MalformedError),
        ("TransferContract", "SUCCESS", {"receipt": {"result": "OUT_OF_ENERGY"}}, MalformedError),
        ("TransferContract", 1, {}, MalformedError),
    ],
)
def test_success_is_said_by_the_block_and_by_the_receipt(
    kind: str, in_block: Any, info: dict[str, Any], expected: Any
) -> None:
    value = (
        CALL if kind == "TriggerSmartContract" else {"owner_address": PAYER_HEX, "to_address": PAYEE_HEX, "amount": 5}
    )
    tx = sent(kind, **value) | {"ret": [{"contractRet": in_block}], "result": True}

    def read() -> bool | None:
        return parse.succeeded(parse.transaction(tx), executed(tx, **info))

    if expected is MalformedError:
        with pytest.raises(MalformedError):
            read()
    else:
        assert read() is expected
        told = parse.chain_tx(parse.transaction(tx), executed(tx, **info), BLOCK, ASSETS)
        assert told.status == {True: "succeeded", False: "reverted", None: "mempool"}[expected]
        assert bool(told.transfers) == (expected is True and kind == "TransferContract")


# --- what was moved ------------------------------------------------------------------------------------------------


def test_a_call_sends_trx_and_trc10_to_the_contract() -> None:
    tx = sent("TriggerSmartContract", **CALL, call_value=7, call_token_value=8, token_id=1_004_920)
    found = moved(tx, executed(tx))
    assert [(t.index, t.asset, t.contract, t.recipient, t.units) for t in found] == [
        (-1, f"{CHAIN}/slip44:195", None, CONTRACT, 7),
        (-2, f"{CHAIN}/trc10:1004920", "1004920", CONTRACT, 8),
    ]
    assert {t.sender for t in found} == {PAYER}


def test_several_logs_are_several_transfers_by_their_place() -> None:
    tx = sent("TriggerSmartContract", **CALL)
    other = {"address": CONTRACT_HEX[2:], "topics": ["ab" * 32], "data": ""}
    logs = [
        token_log(USDT, PAYER, PAYEE, 5),
        other,
        token_log(USDT, PAYER, PAYEE, 5),
        token_log(CONTRACT, PAYER, PAYEE, 0),
    ]
    found = moved(tx, executed(tx, log=logs))
    assert [(t.index, t.asset, t.contract, t.units) for t in found] == [
        (0, f"{CHAIN}/trc20:{USDT}", USDT, 5),
        (2, f"{CHAIN}/trc20:{USDT}", USDT, 5),
        (3, None, CONTRACT, 0),
    ]


def test_a_log_is_the_same_in_both_spellings_of_its_address() -> None:
    tx, log = sent("TriggerSmartContract", **CALL), token_log(USDT, PAYER, PAYEE, 5)
    spellings = [log["address"], "41" + log["address"], USDT]
    assert len({moved(tx, executed(tx, log=[log | {"address": text}])) for text in spellings}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"topics": []},
        {"topics": [parse.TRANSFER_TOPIC]},
        {"topics": [parse.TRANSFER_TOPIC, "00" * 32, "00" * 32, "00" * 32]},  # TRC-721
        {"topics": ["ab" * 32, "00" * 32, "00" * 32]},
        {"topics": [parse.TRANSFER_TOPIC, "ff" * 32, "00" * 32]},
        {"topics": [parse.TRANSFER_TOPIC, "00" * 11 + "41" + "02" * 20, "00" * 32]},
        {"topics": [parse.TRANSFER_TOPIC, 7, "00" * 32]},
        {"data": ""},
        {"data": "00" * 31},
        {"data": "00" * 33},
    ],
)
def test_what_anybody_may_write_into_a_log_is_no_error(change: dict[str, Any]) -> None:
    tx = sent("TriggerSmartContract", **CALL)
    assert moved(tx, executed(tx, log=[token_log(USDT, PAYER, PAYEE, 5) | change])) == ()


def test_calls_of_contracts_are_counted_alike_whatever_else_a_node_records() -> None:
    def call(note: str, **more: Any) -> dict[str, Any]:
        given = {"callValueInfo": [{"callValue": 5}], "caller_address": CONTRACT_HEX, "transferTo_address": PAYEE_HEX}
        return given | {"note": note.encode().hex()} | more

    tx = sent("TriggerSmartContract", **CALL)
    plain = [
        call("call", callValueInfo=[{}]),
        call("call", rejected=True),
        call("call"),
        call("suicide", callValueInfo=[{"callValue": 6}, {"tokenId": "1004920", "callValue": 9}]),
    ]
    more = [call("freezeForEnergy"), plain[0], call("voteWitness"), *plain[1:], call("unDelegateResourceOfEnergy")]
    found = moved(tx, executed(tx, internal_transactions=plain))
    assert found == moved(tx, executed(tx, internal_transactions=more))
    assert [(t.index, t.contract, t.units) for t in found] == [
        (1_000_004, None, 5),
        (1_000_006, None, 6),
        (1_000_007, "1004920", 9),
    ]
    assert {(t.sender, t.recipient) for t in found} == {(CONTRACT, PAYEE)}
    assert moved(tx, executed(tx)) == ()


def test_only_what_goes_to_the_watched_is_told() -> None:
    tx = sent("TransferContract", owner_address=PAYER_HEX, to_address=PAYEE_HEX, amount=5)
    info = executed(tx, log=[token_log(USDT, PAYER, CONTRACT, 5)])
    for watched, count in (({raw(PAYEE_HEX)}, 1), ({raw(CONTRACT_HEX)}, 1), ({raw(PAYER_HEX)}, 0), (None, 2)):
        assert len(parse.transfers(parse.transaction(tx), info, BLOCK, ASSETS, watched)) == count


@pytest.mark.parametrize(
    ("memo", "tags"),
    [
        (b"", ()),
        (b"ORDER7", ("ORDER7",)),
        (b" ORDER7\n", ("ORDER7",)),
        ("Zu\u0308rich".encode(), ("Z\u00fcrich",)),
        (b"\xff\xfe", ()),
        (b"two\nlines", ()),
        (b"x" * 65, ()),
        (b"x" * 100_000, ()),
    ],
)
def test_a_memo_is_a_tag_if_it_is_of_a_tags_kind(memo: bytes, tags: tuple[str, ...]) -> None:
    value = {"owner_address": PAYER_HEX, "to_address": PAYEE_HEX, "amount": 5}
    held = {"value": value, "type_url": "type.googleapis.com/protocol.TransferContract"}
    tx = made({"contract": [{"parameter": held, "type": "TransferContract"}], "expiration": 1, "data": memo.hex()})
    assert [t.tags for t in moved(tx, executed(tx))] == [tags]


# --- bytes that somebody made ----------------------------------------------------------------------------------------


def contract(kind: int, value: bytes) -> bytes:
    return wire.field(11, wire.field(1, kind) + wire.field(2, wire.field(1, b"x") + wire.field(2, value)))


def transfer_value(units: int, to: str = PAYEE_HEX) -> bytes:
    return wire.field(1, raw(PAYER_HEX)) + wire.field(2, raw(to)) + wire.field(3, units)


@pytest.mark.parametrize(
    ("content", "units"),
    [
        (contract(1, transfer_value(5)), [5]),
        (contract(1, transfer_value(5) + wire.field(3, 6)), [6]),  # the last one counts, as in java-tron
        (contract(1, transfer_value(5) + wire.field(99, b"more") + b"\xbd\x06abcd" + b"\xb9\x06abcdefgh"), [5]),
        (contract(1, transfer_value(2**63 - 1)), [2**63 - 1]),
        (contract(1, transfer_value(2**63)), []),  # negative
        (contract(1, transfer_value(5, to="42" + "02" * 20)), []),
        (contract(1, transfer_value(5, to="41")), []),
        (contract(1, transfer_value(5)) * 2, []),  # the network allows one
        (contract(1, transfer_value(5) + b"\x1b"), []),  # a group
        (contract(1, transfer_value(5)[:-3]), []),
        (contract(7, transfer_value(5)), []),
        (b"", []),
        (b"\xff" * 11, []),
    ],
)
def test_bytes_are_read_as_the_network_reads_them_or_move_nothing(content: bytes, units: list[int]) -> None:
    tx = content_tx(content)
    found = moved(tx, executed(tx))
    assert [t.units for t in found] == units


@given(st.binary(max_size=300))
def test_no_bytes_are_an_error(content: bytes) -> None:
    tx = content_tx(contract(1, content) if content[:1] < b"\x80" else content)
    told = parse.chain_tx(parse.transaction(tx), executed(tx), BLOCK, ASSETS)
    assert all(0 <= t.units < 2**63 for t in told.transfers)


def test_a_time_that_no_calendar_has_is_no_time() -> None:
    tx = made({"contract": [], "expiration": 2**63 - 1})
    assert parse.unsettled(parse.transaction(tx)).valid_until is None
    tx = made({"contract": [], "expiration": 1_700_000_000_000})
    assert parse.unsettled(parse.transaction(tx)).valid_until == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


# --- what no node may say --------------------------------------------------------------------------------------------

TX = recorded.MAINNET_BLOCK["transactions"][0]


@pytest.mark.parametrize(
    "tx",
    [
        None,
        [],
        {},
        {"txID": TX["txID"]},
        {"raw_data_hex": TX["raw_data_hex"]},
        TX | {"raw_data_hex": recorded.USDT_TRANSFER["raw_data_hex"]},
        TX | {"raw_data_hex": TX["raw_data_hex"][:-2]},
        TX | {"raw_data_hex": TX["raw_data_hex"][:-1]},
        TX | {"raw_data_hex": TX["raw_data_hex"].upper()},
        TX | {"txID": TX["txID"].upper()},
        TX | {"txID": recorded.USDT_TRANSFER["txID"]},
        TX | {"ret": {}},
        TX | {"ret": ["SUCCESS"]},
        TX | {"ret": [{"contractRet": True}]},
    ],
)
def test_a_transaction_whose_id_is_not_its_bytes_hash_is_refused(tx: Any) -> None:
    with pytest.raises(MalformedError):
        parse.transaction(tx)


def test_the_nodes_rendering_of_a_transaction_is_not_read() -> None:
    lies = TX | {"raw_data": {"contract": [{"parameter": {"value": {"amount": 10**12}}}]}, "amount": 7}
    assert parse.transaction(lies) == parse.transaction(TX)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["blockID"], "00" * 32),
        (["blockID"], recorded.PRIVATE_BLOCK["blockID"]),
        (["blockID"], None),
        (["block_header"], None),
        (["block_header", "raw_data"], []),
        (["block_header", "raw_data", "number"], "50402262"),
        (["block_header", "raw_data", "number"], 50402263),
        (["block_header", "raw_data", "number"], -1),
        (["block_header", "raw_data", "number"], True),
        (["block_header", "raw_data", "number"], 5e7),
        (["block_header", "raw_data", "parentHash"], "00"),
        (["block_header", "raw_data", "timestamp"], 2**62),
        (["block_header", "raw_data", "timestamp"], "now"),
    ],
)
def test_blocks_that_contradict_themselves_are_refused(path: list[str], value: Any) -> None:
    def changed(held: Any, way: list[str]) -> Any:
        return value if not way else held | {way[0]: changed(held[way[0]], way[1:])}

    with pytest.raises(MalformedError):
        parse.block(changed(recorded.MAINNET_BLOCK, path))


def test_what_a_contract_leaves_behind_when_it_destroys_itself_has_an_index_each() -> None:
    """All its TRC-10 tokens go to one account in one call (java-tron: Program.suicide), in no order of their own."""
    tx = sent("TriggerSmartContract", **CALL)
    parts = [{"callValue": 4}, *({"callValue": 5 + nth, "tokenId": id_} for nth, id_ in enumerate(("1004920", "999")))]
    gone = {"caller_address": CONTRACT_HEX, "transferTo_address": PAYEE_HEX, "note": b"suicide".hex()}
    found = moved(tx, executed(tx, internal_transactions=[gone | {"callValueInfo": parts}]))
    assert [(t.index, t.contract, t.units) for t in found] == [
        (1_000_000, None, 4),
        (1_000_001, "999", 6),
        (1_000_001 + 2**32, "1004920", 5),
    ]
    # Nodes may write a map in any order, and a token of which there is nothing or leave it out.
    other = [parts[0], parts[2], {"tokenId": "7"}, parts[1]]
    assert moved(tx, executed(tx, internal_transactions=[gone | {"callValueInfo": other}])) == found
    with pytest.raises(MalformedError, match="twice"):
        moved(tx, executed(tx, internal_transactions=[gone | {"callValueInfo": parts * 2}]))


@pytest.mark.parametrize("note", [[], {}, 5])
def test_a_note_that_is_no_text_is_the_nodes_failure(note: object) -> None:
    tx = sent("TriggerSmartContract", **CALL)
    with pytest.raises(MalformedError):
        moved(tx, executed(tx, internal_transactions=[{"note": note}]))


NAMES = """id txID ret log receipt result blockNumber blockTimeStamp topics address internal_transactions callValueInfo
callValue note transferTo_address blockID block_header raw_data number"""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("ab" * 32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=300)
@given(JSON)
def test_whatever_a_node_says_is_read_or_malformed(value: Any) -> None:
    for read in (parse.block, parse.transaction, parse.info):
        try:
            read(value)
        except MalformedError:
            continue
    tx = sent("TriggerSmartContract", **CALL)
    for name in ("log", "internal_transactions", "receipt", "result"):
        try:
            moved(tx, executed(tx, **{name: value}))
            moved(tx, executed(tx, **{name: [value]}))
        except MalformedError:
            continue
