"""Blocks, proofs and transactions from raw bytes: a real block, blocks made to measure, and bytes that lie."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from btclib.block.block import Block as RawBlock
from btclib.block.block_header import BlockHeader
from btclib.block.partial_merkle_tree import PartialMerkleTree
from btclib.hashes import hash256
from btclib.p2p.merkleblock import MerkleBlock
from btclib.tx.tx_out import TxOut
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.base import TxStatus
from chains.bitcoin import formats, parse
from chains.errors import MalformedError
from chains.fields import plain_hash
from tests.support.bitcoin import (
    MAIN,
    MAIN_ASSETS,
    REAL_HASH,
    REAL_NUMBER,
    REAL_RAW,
    REGTEST,
    REGTEST_ASSETS,
    block,
    coinbase,
    payment,
)

SCRIPT = b"\x00\x14" + b"\x07" * 20
ADDRESS = formats.address_of(REGTEST, SCRIPT)


def proof_of(raw: str, ids: Sequence[str]) -> str:
    """As `gettxoutproof` answers."""
    content = RawBlock.parse(bytes.fromhex(raw), check_validity=False)
    txids = [tx.id for tx in content.transactions]
    tree = PartialMerkleTree.from_txids(txids, [id_.hex() in ids for id_ in txids])
    return MerkleBlock(content.header, tree).serialize().hex()


# --- a real block --------------------------------------------------------------------------------------------------


def test_a_real_block_is_read() -> None:
    block, txs = parse.full_block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW)
    assert (block.number, block.hash) == (REAL_NUMBER, REAL_HASH)
    assert block.time == datetime(2017, 8, 30, 19, 2, 17, tzinfo=UTC)
    assert block == parse.block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW[:160])
    assert len(txs) == 12 and sum(tx.is_segwit for tx in txs) == 2
    first = txs[0]
    assert first.id.hex() == "a08b40a5bc30b5538d51c6bf385b59bf8ae5dc8c151a772e9c25cd64547bb395"
    assert parse.inputs(first) == ()
    transfers = [t for tx in txs for t in parse.transfers(tx.id.hex(), tx, block, MAIN_ASSETS)]
    assert len(transfers) == 24, "25 outputs, one of which is the coinbase's commitment"
    (reward,) = parse.transfers(first.id.hex(), first, block, MAIN_ASSETS)
    assert (reward.recipient, reward.units, reward.index) == ("16MdTdqmXusauybtXTmFEW4GNFPPgGxQYE", 1_256_817_877, 0)
    assert reward.asset == f"{MAIN}/slip44:0" and reward.sender is None and reward.contract is None
    assert (reward.block_number, reward.block_hash, reward.block_time) == (block.number, block.hash, block.time)


def test_btclib_has_nothing_against_the_real_block() -> None:
    judge = RawBlock.parse(bytes.fromhex(REAL_RAW))
    _, txs = parse.full_block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW)
    for tx, theirs in zip(txs, judge.transactions, strict=True):
        assert tx == theirs
        where = parse.block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW[:160])
        ours = {t.index: (t.recipient, t.units) for t in parse.transfers(tx.id.hex(), tx, where, MAIN_ASSETS)}
        assert ours == {
            n: (out.script_pub_key.address, out.value)
            for n, out in enumerate(theirs.vout)
            if out.script_pub_key.type in ("p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr")
        }
        assert tx.is_coinbase or parse.inputs(tx) == tuple(
            f"{each.prev_out.tx_id.hex()}:{each.prev_out.vout}" for each in theirs.vin
        )


@settings(max_examples=400, deadline=None)
@given(place=st.integers(0, len(REAL_RAW) // 2 - 1), byte=st.integers(1, 255), cut=st.none() | st.integers(0, 9_000))
def test_a_block_that_was_changed_anywhere_but_in_a_witness_is_refused(place: int, byte: int, cut: int | None) -> None:
    changed = bytearray.fromhex(REAL_RAW)
    changed[place] ^= byte
    try:
        _, txs = parse.full_block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, bytes(changed[:cut]).hex())
    except MalformedError:
        return
    # A witness is not under the Merkle root that ids make, and nothing is read from it.
    _, real = parse.full_block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW)
    assert [tx.id for tx in txs] == [tx.id for tx in real]
    assert cut is None or cut >= len(REAL_RAW) // 2


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    readings: list[Callable[[], object]] = [
        lambda: parse.full_block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, noise.hex()),
        lambda: parse.block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, noise.hex()),
        lambda: parse.proven(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, noise.hex()),
        lambda: parse.tx("00" * 32, noise.hex()),
    ]
    for read in readings:
        with pytest.raises(MalformedError):
            read()


@pytest.mark.parametrize("value", [None, 7, [], {}, "xyz", "0", "ff" * 10, True])
def test_what_is_not_hex_is_refused(value: object) -> None:
    for read in (parse.full_block, parse.block, parse.proven):
        with pytest.raises(MalformedError):
            read(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, value)
    with pytest.raises(MalformedError):
        parse.tx("00" * 32, value)
    with pytest.raises(MalformedError):
        plain_hash(value)


@pytest.mark.parametrize("value", [None, -1, 2**31, "7", 7.0, True])
def test_what_is_no_number_of_a_block_is_refused(value: object) -> None:
    with pytest.raises(MalformedError):
        parse.number_of(value)


# --- blocks that lie -----------------------------------------------------------------------------------------------


def test_a_block_of_another_hash_or_height_is_refused() -> None:
    with pytest.raises(MalformedError, match="another hash"):
        parse.full_block(MAIN_ASSETS, REAL_NUMBER, "00" * 32, REAL_RAW)
    for wrong in (REAL_NUMBER - 1, REAL_NUMBER + 1):
        with pytest.raises(MalformedError, match="coinbase height"):
            parse.full_block(MAIN_ASSETS, wrong, REAL_HASH, REAL_RAW)


def test_a_block_whose_transactions_are_not_under_its_root_is_refused() -> None:
    txs = [coinbase(5), payment((1, SCRIPT))]
    forged = [txs[0], payment((1_000_000, SCRIPT))]
    honest = RawBlock.parse(bytes.fromhex(block(5, txs)[1]), check_validity=False)
    hash_, raw = block(5, forged, root=honest.header.merkle_root)
    with pytest.raises(MalformedError, match="merkle root"):
        parse.full_block(REGTEST_ASSETS, 5, hash_, raw)


def test_a_block_that_says_a_transaction_twice_is_refused() -> None:
    """CVE-2012-2459: the root of [a, b, c] is that of [a, b, c, c]."""
    txs = [coinbase(5), payment((1, SCRIPT)), payment((2, SCRIPT))]
    hash_, _ = block(5, txs)
    twice, raw = block(5, [*txs, txs[-1]])
    assert twice == hash_
    with pytest.raises(MalformedError, match="duplicate"):
        parse.full_block(REGTEST_ASSETS, 5, hash_, raw)


def test_a_block_without_a_coinbase_is_refused() -> None:
    for txs in ([payment((1, SCRIPT)), payment((2, SCRIPT))], []):
        hash_, raw = block(0, txs, root=None if txs else bytes(32))
        with pytest.raises(MalformedError, match="coinbase"):
            parse.full_block(REGTEST_ASSETS, 0, hash_, raw)


def test_a_block_without_the_work_of_its_network_is_refused() -> None:
    hash_, raw = block(REAL_NUMBER, [coinbase(REAL_NUMBER)])
    assert parse.full_block(REGTEST_ASSETS, REAL_NUMBER, hash_, raw)
    with pytest.raises(MalformedError, match="shows no work"):
        parse.full_block(MAIN_ASSETS, REAL_NUMBER, hash_, raw)
    with pytest.raises(MalformedError, match="shows no work"):
        parse.block(MAIN_ASSETS, REAL_NUMBER, hash_, raw[:160])
    header = bytearray.fromhex(raw[:160])
    refused = 0
    for nonce in range(64):
        header[76] = nonce
        hash_ = hash256(bytes(header))[::-1].hex()
        if hash_ >= "8":  # regtest's limit is 7fffff00...
            with pytest.raises(MalformedError, match="shows no work"):
                parse.block(REGTEST_ASSETS, 5, hash_, bytes(header).hex())
            refused += 1
    assert refused > 0


def test_the_least_work_that_the_main_network_allows_is_not_believed_of_a_new_block() -> None:
    """Difficulty 1 takes one machine a moment, so a node could make up any block. The first block shows no more."""
    root = bytes.fromhex("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")
    made, easiest = datetime(2009, 1, 3, 18, 15, 5, tzinfo=UTC), bytes.fromhex("1d00ffff")
    first = BlockHeader(1, bytes(32), root, made, easiest, 2_083_236_893)
    assert first.hash.hex() == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    raw = first.serialize().hex()
    assert parse.block(MAIN_ASSETS, 0, first.hash.hex(), raw).time == made
    with pytest.raises(MalformedError, match="above the limit"):
        parse.block(MAIN_ASSETS, 900_000, first.hash.hex(), raw)
    # Of what number a block is, is the node's word; its time is part of the work.
    new = BlockHeader(1, bytes(32), root, datetime(2026, 11, 21, tzinfo=UTC), easiest, 0, check_validity=False)
    with pytest.raises(MalformedError, match="above the limit"):
        parse.block(MAIN_ASSETS, 0, new.hash.hex(), new.serialize().hex())


# --- proofs --------------------------------------------------------------------------------------------------------


def test_a_proof_shows_what_is_in_the_block() -> None:
    _, txs = parse.full_block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW)
    ids = [tx.id.hex() for tx in txs]
    for some in (ids[:1], ids[3:5], ids[-1:], ids):
        where, shown = parse.proven(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, proof_of(REAL_RAW, some))
        assert shown == set(some)
        assert where == parse.block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW[:160])


def test_a_proof_that_does_not_hold_is_refused() -> None:
    _, txs = parse.full_block(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, REAL_RAW)
    good = proof_of(REAL_RAW, [txs[4].id.hex()])
    with pytest.raises(MalformedError, match="another hash"):
        parse.proven(MAIN_ASSETS, REAL_NUMBER, "11" * 32, good)
    # The id of a transaction of our choice in the place of one that is there.
    forged = good.replace(txs[4].id[::-1].hex(), "ab" * 32)
    assert forged != good
    with pytest.raises(MalformedError, match="Merkle root"):
        parse.proven(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, forged)
    for broken in (good[:-2], good + "00", good[:160], good[:200] + "ff" + good[202:]):
        with pytest.raises(MalformedError):
            parse.proven(MAIN_ASSETS, REAL_NUMBER, REAL_HASH, broken)


# --- what anybody may put on a chain -------------------------------------------------------------------------------


def test_two_outputs_to_one_address_are_two_transfers() -> None:
    tx = payment((5, SCRIPT), (7, b"\x6a\x04memo"), (5, SCRIPT), (0, SCRIPT))
    hash_, raw = block(9, [coinbase(9), tx])
    where, _ = parse.full_block(REGTEST_ASSETS, 9, hash_, raw)
    found = parse.chain_tx(tx.id.hex(), tx, where, REGTEST_ASSETS, status=TxStatus.SUCCEEDED)
    assert [(t.index, t.units, t.recipient) for t in found.transfers] == [
        (0, 5, ADDRESS),
        (2, 5, ADDRESS),
        (3, 0, ADDRESS),
    ]
    assert found.inputs == ("22" * 32 + ":0",)


def test_only_a_success_has_transfers_and_a_block() -> None:
    tx = payment((5, SCRIPT))
    hash_, raw = block(9, [coinbase(9), tx])
    where, _ = parse.full_block(REGTEST_ASSETS, 9, hash_, raw)
    for status in (TxStatus.MEMPOOL, TxStatus.MISSING):
        found = parse.chain_tx(tx.id.hex(), tx, where, REGTEST_ASSETS, status=status)
        assert (found.status, found.block_number, found.block_hash, found.transfers) == (status, None, None, ())
        assert found.inputs == ("22" * 32 + ":0",), "by which its replacement is noticed"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 21 * 10**14),
            st.binary(max_size=60) | st.just(SCRIPT) | st.just(b"\x4c" * 10_000) | st.just(b"\x4e\xff\xff\xff\xff"),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_no_output_stops_a_block(outputs: list[tuple[int, bytes]], witness: bool) -> None:
    tx = payment(*outputs, witness=witness)
    hash_, raw = block(300, [coinbase(300, [TxOut(1, b"\xff\xff", check_validity=False)]), tx])
    where, txs = parse.full_block(REGTEST_ASSETS, 300, hash_, raw)
    assert [each.id for each in txs][1] == tx.id
    ours = parse.transfers(tx.id.hex(), txs[1], where, REGTEST_ASSETS, watched={SCRIPT})
    assert [(t.index, t.units) for t in ours] == [(n, u) for n, (u, script) in enumerate(outputs) if script == SCRIPT]
    assert parse.tx(tx.id.hex(), tx.serialize(include_witness=True, check_validity=False).hex()).id == tx.id


def test_a_transaction_of_another_id_is_refused() -> None:
    tx = payment((5, SCRIPT))
    raw = tx.serialize(include_witness=True, check_validity=False).hex()
    with pytest.raises(MalformedError, match="asked for"):
        parse.tx("22" * 32, raw)
    with pytest.raises(MalformedError):
        parse.tx(tx.id.hex(), raw + "00")


def test_a_block_of_three_thousand_transactions_is_read_to_the_last() -> None:
    """What a full block costs: docs/chains-bitcoin.md."""
    txs = [payment((n, SCRIPT), (n, b"\x51\x20" + bytes(32)), spends=f"{n:064x}") for n in range(1, 3_000)]
    hash_, raw = block(7, [coinbase(7), *txs])
    where, found = parse.full_block(REGTEST_ASSETS, 7, hash_, raw)
    paid = [t.units for tx in found for t in parse.transfers("", tx, where, REGTEST_ASSETS, watched={SCRIPT})]
    assert paid == list(range(1, 3_000))
