"""What public nodes said of real transactions, read and bent. Sources: tests/support/solana_transactions.json."""

import base64
import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import base58
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.hash import Hash
from solders.instruction import CompiledInstruction
from solders.message import MessageAddressTableLookup, MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from chains.base import TxStatus
from chains.errors import MalformedError
from chains.solana import parse
from chains.solana.fields import unspelled
from chains.solana.transfers import REST
from tests.support.solana import ASSETS, MAINNET, USDC, Recorded, recorded

NAMES = ["coin", "token with a new account", "usdc", "many", "failed", "swap by a lookup table"]
OUTER = 1 << 28
INNER = 1 << 12

Told = tuple[int, str | None, str | None, str, int]


def told(name: str) -> list[Told]:
    """Index, mint, sender, recipient, units."""
    transfers = recorded(name).parsed().transfers
    return [(one.index, one.contract, one.sender, one.recipient, one.units) for one in transfers]


def test_lamports_that_were_sent() -> None:
    payer, payee = "BLw3RweJmfbTapJRgnPRvd962YDjFYAnVGd1p5hmZ5tP", "FDUGdV6bjhvw5gbirXCvqbTSWK9999kcrZcrHoCQzXJK"
    tx = recorded("coin").parsed()
    assert (tx.status, tx.sender, tx.block_number) == (TxStatus.SUCCEEDED, payer, 353_101_424)
    assert told("coin") == [(0, None, payer, payee, 100_000_000)]
    assert tx.transfers[0].asset == f"{MAINNET}/slip44:501" and tx.transfers[0].tags == ()


def test_tokens_whose_account_was_opened_for_them() -> None:
    """The recipient is the owner, not the account; the account's rent is no payment; an unknown mint is no asset."""
    payer, payee = "EMmTjuHsYCYX7vgPcQ2QVbNwYAwcvGoSMCEaHKc19DdE", "BYh4CfuGDvFMKaZp3RPmkw9y6qg3sWukA2TiGJDeLKZi"
    mint = "HeLp6NuQkmYB4pYWo2zYs22mESHXPQYzXbB8n4V98jwC"
    assert told("token with a new account") == [(2 * OUTER, mint, payer, payee, 10_000_000)]
    assert recorded("token with a new account").parsed().transfers[0].asset is None


def test_a_known_token() -> None:
    payer, payee = "FQT9SSwEZ6UUQxsmTzgt5JzjrS4M5zm13M1QiYF8TEo6", "9fE6zKgca6K2EEa3yjbcq7zGMusUNqSQeWQNL2YDZ2Yi"
    assert told("usdc") == [(2 * OUTER, USDC, payer, payee, 1_000_000)]
    assert recorded("usdc").parsed().transfers[0].asset == f"{MAINNET}/token:{USDC}"


def test_twenty_payments_in_one_transaction_have_an_index_each() -> None:
    transfers = told("many")
    assert [index for index, *_ in transfers] == [place * OUTER for place in range(2, 22)]
    assert len({recipient for *_, recipient, _ in transfers}) == 20
    assert {units for *_, units in transfers} == {1}


def test_a_failed_transaction_moved_nothing_whatever_its_instructions_say() -> None:
    tx = recorded("failed").parsed()
    assert tx.status is TxStatus.REVERTED and tx.transfers == () and tx.block_number == 335_785_189


def test_a_swap_by_a_lookup_table_is_read_to_its_inner_instructions() -> None:
    """Wrapped SOL went for USDC, a fee was paid, and what the wrapping account still held came back with its rent."""
    trader, pool = "3xTPAZxmpwd8GrNEKApaTw6VH4jqJ31WFXUvQzgwhR7c", "Fn68NZzCCgZKtYmnAYbkL6w5NNx3TgjW91dGkLA3hsDK"
    assert told("swap by a lookup table") == [
        (4 * OUTER + 3 * INNER, USDC, pool, trader, 167_225),
        (6 * OUTER, None, trader, "4cLUBQKZgCv2AqGXbh8ncGhrDRcicUe3WSDzjgPY2oTA", 8_750),
        (REST, None, None, trader, 1_024_208),
    ]
    meta = recorded("swap by a lookup table").answer["meta"]
    assert meta["postBalances"][0] - meta["preBalances"][0] == 1_024_208


# --- what nodes may not say, and what they may lack ------------------------------------------------------------------


def bent(name: str, bend: Callable[[Any], Any]) -> Recorded:
    original = recorded(name)
    answer = copy.deepcopy(original.answer)
    bend(answer)
    return Recorded(original.id, answer)


@pytest.mark.parametrize(
    "bend",
    [
        lambda raw: raw.update(transaction=recorded("many").answer["transaction"]),
        lambda raw: raw.update(transaction={"message": {}, "signatures": []}),
        lambda raw: raw.update(transaction=["!", "base64"]),
        lambda raw: raw.update(transaction=["", "base64"]),
        lambda raw: raw["transaction"].__setitem__(1, "base58"),
        lambda raw: raw["meta"]["postBalances"].pop(),
        lambda raw: raw["meta"]["postBalances"].__setitem__(0, -1),
        lambda raw: raw["meta"]["postBalances"].__setitem__(0, 1.0),
        lambda raw: raw["meta"]["postBalances"].__setitem__(0, True),
        lambda raw: raw["meta"]["postBalances"].__setitem__(0, 2**64),
        lambda raw: raw["meta"]["loadedAddresses"]["writable"].pop(),
        lambda raw: raw["meta"].update(loadedAddresses=None),
        lambda raw: raw["meta"].pop("err"),
        lambda raw: raw["meta"]["innerInstructions"][0].update(index=99),
        lambda raw: raw["meta"]["innerInstructions"].append(raw["meta"]["innerInstructions"][0]),
        lambda raw: raw["meta"]["innerInstructions"][0]["instructions"][0].update(programIdIndex=99),
        lambda raw: raw["meta"]["innerInstructions"][0]["instructions"][0].update(data="0OIl"),
        lambda raw: raw["meta"]["innerInstructions"][0]["instructions"][0].update(accounts=[500]),
        lambda raw: raw["meta"]["postTokenBalances"][0].update(accountIndex=200),
        lambda raw: raw["meta"]["postTokenBalances"][0].update(mint="nonsense"),
        lambda raw: raw["meta"]["postTokenBalances"][0]["uiTokenAmount"].update(amount=5),
        lambda raw: raw["meta"]["postTokenBalances"][0]["uiTokenAmount"].update(amount="9" * 5_000),
        lambda raw: raw["meta"]["postTokenBalances"][0]["uiTokenAmount"].update(amount=str(2**64)),
        lambda raw: raw["meta"]["postTokenBalances"].append(raw["meta"]["postTokenBalances"][0]),
    ],
)
def test_what_no_node_may_say_is_malformed(bend: Callable[[Any], Any]) -> None:
    with pytest.raises(MalformedError):
        bent("swap by a lookup table", bend).parsed()


def test_bytes_that_were_not_signed_are_malformed() -> None:
    """The id is a signature of the bytes, so that no node can say that somebody else was paid."""

    def other_recipient(raw: Any) -> None:
        content = bytearray(base64.b64decode(raw["transaction"][0]))
        content[1 + 64 + 4 + 1 + 32 + 5] ^= 1
        raw["transaction"][0] = base64.b64encode(content).decode()

    with pytest.raises(MalformedError, match="not what was signed"):
        bent("coin", other_recipient).parsed()


@pytest.mark.parametrize("lacking", ["innerInstructions", "preTokenBalances", "postTokenBalances"])
def test_what_was_kept_with_too_little_proves_nothing(lacking: str) -> None:
    """Nodes recorded less in the first years. Such a transaction must not keep others from being read."""
    tx = bent("coin", lambda raw: raw["meta"].pop(lacking)).parsed()
    assert tx.status is TxStatus.MEMPOOL and tx.transfers == () and tx.block_hash is None


def test_answers_that_contradict_each_other_prove_nothing() -> None:
    coin = recorded("coin")
    block = parse.header(353_101_424, HEADER).block
    for status in (parse.Status(353_101_424, failed=True), parse.Status(353_101_425, failed=False)):
        tx = parse.chain_tx(coin.id, status, coin.answer, block, ASSETS)
        assert tx.status is TxStatus.MEMPOOL and tx.transfers == ()


def test_a_balance_without_an_owner_is_nobodys() -> None:
    for field in ("owner", "programId"):

        def bend(raw: Any, field: str = field) -> None:
            for balance in raw["meta"]["postTokenBalances"]:
                balance.pop(field)

        tx = bent("usdc", bend).parsed()
        assert tx.status is TxStatus.SUCCEEDED and tx.transfers == ()


def test_a_token_account_that_is_not_the_owners_associated_one_is_not_told() -> None:
    def elsewhere(raw: Any) -> None:
        for balance in raw["meta"]["postTokenBalances"]:
            balance["owner"] = "BLw3RweJmfbTapJRgnPRvd962YDjFYAnVGd1p5hmZ5tP"

    assert bent("usdc", elsewhere).parsed().transfers == ()


def test_what_arrived_counts_and_not_what_an_instruction_says() -> None:
    def with_arrived(units: int) -> Recorded:
        def bend(raw: Any) -> None:
            raw["meta"]["postBalances"][1] = raw["meta"]["preBalances"][1] + units

        return bent("coin", bend)

    assert [one.units for one in with_arrived(99_999_999).parsed().transfers] == [99_999_999]
    assert [one.units for one in with_arrived(0).parsed().transfers] == [0]
    more = with_arrived(100_000_007).parsed().transfers
    assert [(one.index, one.units, one.sender) for one in more] == [
        (0, 100_000_000, "BLw3RweJmfbTapJRgnPRvd962YDjFYAnVGd1p5hmZ5tP"),
        (REST + 1, 7, None),
    ]


HEADER = {
    "blockhash": "4NpjLLnFBqFzwFkRFBauGFYVnijcQhLBSPo9UhbZgqRf",
    "previousBlockhash": "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d",
    "parentSlot": 7,
    "blockHeight": 5,
    "blockTime": 1_700_000_000,
}


@pytest.mark.parametrize(
    "change",
    [
        {"blockhash": None},
        {"blockhash": "x"},
        {"previousBlockhash": 5},
        {"parentSlot": 8},
        {"parentSlot": -1},
        {"blockTime": None},
        {"blockTime": "soon"},
        {"blockTime": 2**62},
        {"blockHeight": "5"},
    ],
)
def test_blocks_that_no_node_may_tell(change: dict[str, Any]) -> None:
    assert parse.header(8, HEADER).block.number == 8
    with pytest.raises(MalformedError):
        parse.header(8, HEADER | change)


def test_lists_and_statuses_that_no_node_may_tell() -> None:
    row = {"signature": recorded("coin").id, "slot": 5, "err": None}
    assert parse.listed([row, row | {"slot": 4}])[1].slot == 4
    signature = row["signature"]
    wrong: list[Any] = [[row, row | {"slot": 6}], [row | {"signature": "x"}], [None], {}, [row | {"slot": "5"}]]
    for rows in [*wrong, [{"signature": signature}], [{"signature": signature, "slot": 5}]]:
        with pytest.raises(MalformedError):
            parse.listed(rows)
    status = {"slot": 5, "err": {"InstructionError": [0, "Custom"]}}
    assert parse.statuses({"value": [None, status]}, 2) == [None, parse.Status(5, failed=True)]
    told: list[Any] = [None, {"value": []}, {"value": [5, None]}, {"value": [{"slot": None}, None]}]
    for value in [*told, {"value": [{"slot": 5}, None]}]:
        with pytest.raises(MalformedError):
            parse.statuses(value, 2)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from places(child, (*path, name))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.floats(),
    st.text(max_size=50),
    st.just([]),
    st.just({}),
    st.just(["", "base64"]),
    st.just("11111111111111111111111111111111"),
)


@settings(deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_answer_is_read_or_called_malformed(data: st.DataObject, name: str) -> None:
    original = recorded(name)
    answer = copy.deepcopy(original.answer)
    path = data.draw(st.sampled_from([path for path in places(answer) if path and path[0] in ("meta", "transaction")]))
    inside = answer
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = data.draw(JUNK)
    try:
        tx = Recorded(original.id, answer).parsed()
    except MalformedError:
        return
    assert all(type(one.units) is int and one.units >= 0 for one in tx.transfers)


def test_a_transaction_without_the_keys_of_its_signatures_is_signed_by_nobody() -> None:
    """Its accounts come from lookup tables, which are the node's word, so that there is no signature to be wrong."""
    said = recorded("coin")
    table = MessageAddressTableLookup(Pubkey.default(), bytes([0, 1]), bytes([2]))
    paying = CompiledInstruction(2, (2).to_bytes(4, "little") + (10**9).to_bytes(8, "little"), bytes([0, 1]))
    for header, signatures in (
        (MessageHeader(0, 0, 0), [Signature.from_string(said.id)]),
        (MessageHeader(1, 0, 0), [Signature.from_string(said.id)]),
    ):
        message = MessageV0(header, [], Hash.default(), [paying], [table])
        content = bytes(VersionedTransaction.populate(message, signatures))
        with pytest.raises(MalformedError, match="signed"):
            parse.signed(said.id, [base64.b64encode(content).decode(), "base64"])


@given(content=st.binary(max_size=200))
def test_base58_of_any_length_is_read_as_the_library_reads_it(content: bytes) -> None:
    assert unspelled(base58.b58encode(content).decode()) == content


@pytest.mark.parametrize("text", ["0", "l", "é", " ", "1 ", "\ud800"])
def test_what_is_not_base58_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        unspelled(text)


def test_long_instructions_cost_little_time() -> None:
    """One payment's fee buys 63 of ten kilobytes, and whoever pays may name any address, to have them read for it."""
    said = recorded("swap by a lookup table")
    before = said.parsed().transfers
    meta = copy.deepcopy(said.answer["meta"])
    meta["innerInstructions"][0]["instructions"] += [{"programIdIndex": 0, "accounts": [], "data": "2" * 5_990}] * 63
    began = time.process_time()
    assert Recorded(said.id, said.answer | {"meta": meta}).parsed().transfers == before
    assert time.process_time() - began < 0.4  # with the library 1 to 3 s
