"""Numbers and times that no chain has, from nodes of every kind: they would not fit where facts are kept."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chains import fields
from chains.aptos import parse as aptos
from chains.bitcoin import parse as bitcoin
from chains.errors import MalformedError
from chains.evm import parse as evm
from chains.solana import parse as solana
from chains.tron import parse as tron

BIGINT_MAX = 2**63 - 1
YEAR_9999 = 253_370_764_800
HASH, TIME = "0x" + "11" * 32, 1_700_000_000


def tron_block(number: int, time: int) -> Any:
    header = {"number": number, "timestamp": time, "parentHash": HASH[2:]}
    return tron.block({"blockID": f"{number:016x}" + "11" * 24, "block_header": {"raw_data": header}})


def tron_info(number: int, time: int) -> Any:
    return tron.info({"id": HASH[2:], "blockNumber": number, "blockTimeStamp": time})


def aptos_span(height: int, time: int, *, first: int = 0, last: int = 1) -> Any:
    versions = {"first_version": str(first), "last_version": str(last)}
    return aptos.span({"block_height": str(height), "block_hash": HASH, "block_timestamp": str(time)} | versions)


def aptos_opening(height: int, time: int) -> Any:
    events = [{"type": "0x1::block::NewBlockEvent", "data": {"height": str(height)}}]
    return aptos.block_begun({"id": HASH, "timestamp": str(time), "events": events})


def evm_block(number: int, time: int) -> Any:
    return evm.block({"number": hex(number), "timestamp": hex(time), "hash": HASH, "parentHash": HASH})


def solana_block(parent: int, time: int) -> Any:
    key = "11111111111111111111111111111111"
    raw = {"parentSlot": parent, "blockTime": time, "blockhash": key, "previousBlockhash": key}
    return solana.header(BIGINT_MAX + 10, raw)


NUMBERS: dict[str, Callable[[int], Any]] = {
    "an EVM block": lambda n: evm_block(n, TIME),
    "a Tron block": lambda n: tron_block(n, TIME),
    "a Tron transaction's block": lambda n: tron_info(n, TIME),
    "an Aptos block": lambda n: aptos_span(n, TIME),
    "an Aptos block's opening": lambda n: aptos_opening(n, TIME),
    "an Aptos version": lambda n: aptos_span(1, TIME, last=n),
    "an Aptos ledger": lambda n: aptos.ledger({"chain_id": 1, "ledger_version": str(n)}),
    "a Solana block's parent": lambda n: solana_block(n, TIME),
    "a Solana transaction": lambda n: solana.slot_of({"slot": n}),
    "a Solana signature": lambda n: solana.statuses({"value": [{"slot": n, "err": None}]}, 1),
}

TIMES: dict[str, tuple[int, Callable[[int], Any]]] = {
    "EVM": (1, lambda time: evm_block(7, time)),
    "Solana": (1, lambda time: solana_block(7, time)),
    "Tron": (1_000, lambda time: tron_block(7, time)),
    "Tron's execution": (1_000, lambda time: tron_info(7, time)),
    "Aptos": (1_000_000, lambda time: aptos_span(7, time)),
    "Aptos's opening": (1_000_000, lambda time: aptos_opening(7, time)),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_a_number_that_does_not_fit_into_a_bigint_is_malformed(what: str) -> None:
    NUMBERS[what](BIGINT_MAX)
    for number in (BIGINT_MAX + 1, 2**64 - 1, 2**64, 10**25):
        with pytest.raises(MalformedError):
            NUMBERS[what](number)


@pytest.mark.parametrize("number", [2**31, 2**63])
def test_a_number_of_a_bitcoin_block_has_32_bits(number: int) -> None:
    assert bitcoin.number_of(2**31 - 1) == 2**31 - 1
    with pytest.raises(MalformedError):
        bitcoin.number_of(number)


@pytest.mark.parametrize("chain", TIMES)
def test_a_time_that_no_calendar_has_is_malformed(chain: str) -> None:
    unit, read = TIMES[chain]
    read(0)
    read((YEAR_9999 - 1) * unit)
    for time in (YEAR_9999 * unit, 2**63 - 1, 2**63, 2**64, 10**25, -unit, -(10**25)):
        with pytest.raises(MalformedError):
            read(time)


def test_a_nonce_has_64_bits() -> None:
    """It becomes text that is read again as an input (`ChainTx.inputs`), of 20 digits at most."""
    tx = {"hash": HASH, "from": "0x" + "22" * 20}
    assets = evm.Assets(chain="eip155:1", native=None, tokens={})
    found = evm.chain_tx(HASH, tx | {"nonce": hex(2**64 - 1)}, None, assets)
    assert found.inputs == (f"{tx['from']}/{2**64 - 1}",)
    with pytest.raises(MalformedError):
        evm.chain_tx(HASH, tx | {"nonce": hex(2**64)}, None, assets)


def test_a_deadline_can_be_added_to_any_time_that_is_read() -> None:
    last = fields.time_of(YEAR_9999 - 1, timedelta(seconds=1))
    assert last + timedelta(days=300) > last
    assert last.astimezone(tz=None) == last == datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, True, "7", 7.0, -1, [7], {}])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(MalformedError):
        fields.whole(value)


@pytest.mark.parametrize(
    "value", [None, 7, "", "11" * 31, "11" * 32 + "\n", "11" * 33, "1g" * 32, "\u0661" * 64, b"11" * 32]
)
def test_what_is_no_hash(value: object) -> None:
    for read in (fields.plain_hash, fields.prefixed_hash):
        with pytest.raises(MalformedError):
            read(value)
    if isinstance(value, str):
        with pytest.raises(MalformedError):
            fields.prefixed_hash("0x" + value)


def test_a_hash_is_spelled_one_way() -> None:
    assert fields.prefixed_hash("0x" + "AB" * 32) == "0x" + "ab" * 32
    assert fields.plain_hash("ab" * 32) == "ab" * 32
    for value in ("AB" * 32, "0x" + "ab" * 32):
        with pytest.raises(MalformedError):
            fields.plain_hash(value)


@pytest.mark.parametrize("value", [None, 7, "x", True])
def test_what_is_no_object_and_no_list(value: object) -> None:
    for read in (fields.mapping, fields.listing):
        with pytest.raises(MalformedError):
            read(value)
    if not isinstance(value, str):
        with pytest.raises(MalformedError):
            fields.text(value)
