"""From the bytes a node sends to facts. Pure.

A block is read from its raw bytes and believed only if they are what its hash stands for: the header's hash, the work
it shows, the Merkle root over the ids of its transactions. So a node can hold back a block, but not change one.

What no node may say raises MalformedError. What anybody may put on a chain never does: one fraud would stop the rest.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from btclib.block.block import Block as RawBlock
from btclib.block.block_header import BlockHeader
from btclib.network import NETWORKS
from btclib.p2p.merkleblock import MerkleBlock
from btclib.tx.tx import Tx

from chains.base import Block, ChainTx, Transfer, TxStatus
from chains.bitcoin import formats
from chains.errors import MalformedError
from chains.fields import whole

COINBASE_MATURITY = 100
"""Blocks that must stand on a block before what its miner was paid can be spent (Bitcoin Core, consensus.h)."""

UNITS_MAX = 21_000_000 * 10**8
"""There will never be more (Bitcoin Core, MAX_MONEY)."""

_LEAST_WORK = bytes.fromhex("1801fffe")
_WORKED_SINCE, _WORKED_FROM = datetime(2017, 6, 15, tzinfo=UTC), 470_000
"""Difficulty 2^39: no block of the main network has been easier since then. The network's own limit, difficulty 1, is
what one machine does in a moment: a node could make up any block."""

_NUMBER_MAX = 2**31 - 1

_BAD_BYTES = (ValueError, TypeError, OverflowError)
"""What btclib raises on bytes that are not what they should be. Its own errors are among these."""


@dataclass(frozen=True)
class Assets:
    """The chain and its coin."""

    chain: str
    native: str | None


def number_of(value: object) -> int:
    """Of a block. Bitcoin Core counts them in 32 bits."""
    return whole(value, _NUMBER_MAX)


def octets(value: object) -> bytes:
    if not isinstance(value, str):
        raise MalformedError(f"{value!r:.80} is not hex")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise MalformedError(f"{value!r:.80} is not hex") from error


def satoshi(value: object) -> int:
    """Of an amount in BTC, or a rate in BTC for 1,000 vbytes. Exact: no two amounts there can be are the same float."""
    if type(value) in (int, float):
        units = Decimal(repr(value)).scaleb(formats.SCALE)
        if units == units.to_integral_value() and 0 <= units <= UNITS_MAX:
            return int(units)
    raise MalformedError(f"{value!r:.80} is no amount")


# Blocks


def block(assets: Assets, number: int, hash_: str, raw: object) -> Block:
    """The block of this hash from its header of 80 bytes. That it has this number is what the node says."""
    try:
        header = BlockHeader.parse(octets(raw))
    except _BAD_BYTES as error:
        raise MalformedError(f"the header of block {number} can't be read: {error}") from error
    return _block(assets, number, hash_, header)


def _block(assets: Assets, number: int, hash_: str, header: BlockHeader) -> Block:
    if header.hash.hex() != hash_:
        raise MalformedError(f"the header of {hash_} has another hash")
    network = formats.network(assets.chain)
    limit = NETWORKS[network].consensus.pow_limit_bits
    # The number may be the node's word. The time is part of the work, and payments of such a time are none of ours.
    if network == "mainnet" and (number >= _WORKED_FROM or header.time >= _WORKED_SINCE):
        limit = _LEAST_WORK
    try:
        header.assert_valid_pow(limit)
    except _BAD_BYTES as error:
        raise MalformedError(f"block {number} shows no work: {error}") from error
    return Block(number=number, hash=hash_, parent_hash=header.previous_block_hash.hex(), time=header.time)


def full_block(assets: Assets, number: int, hash_: str, raw: object) -> tuple[Block, list[Tx]]:
    """The block of this hash and the transactions in it, from its raw bytes."""
    try:
        # Whether it obeys all other rules is the network's business; btclib's opinion of them must not stop us.
        content = RawBlock.parse(octets(raw), check_validity=False)
        content.header.assert_valid()
        content.assert_valid_merkle_root()
        if number >= NETWORKS[formats.network(assets.chain)].consensus.bip34_height:
            content.assert_valid_coinbase_height(number)
    except _BAD_BYTES as error:
        raise MalformedError(f"block {number} is not what its header stands for: {error}") from error
    # Inner nodes of the tree that are passed off as its leaves don't begin with one: a hash would have to be 0.
    if not content.transactions or not content.transactions[0].is_coinbase:
        raise MalformedError(f"block {number} does not begin with a coinbase")
    return _block(assets, number, hash_, content.header), content.transactions


def proven(assets: Assets, number: int, hash_: str, proof: object) -> tuple[Block, frozenset[str]]:
    """The block of this hash, and the ids that the proof (`gettxoutproof`, BIP-37's merkleblock) shows to be in it.

    An inner node of the tree, 64 bytes long, could be passed off as a transaction of that size. No such transaction has
    room for an output that pays an address: it would have no transfers. The other way round (CVE-2017-12842) a real
    transaction of 64 bytes is passed off as an inner node above a made up one: some 2^70 hashes, and a node that lies.
    """
    try:
        content = MerkleBlock.parse(octets(proof))
        root, matches = content.tree.merkle_root, content.tree.matches
    except _BAD_BYTES as error:
        raise MalformedError(f"the proof for block {number} can't be read: {error}") from error
    if root != content.header.merkle_root:
        raise MalformedError(f"the proof for block {number} does not lead to its Merkle root")
    return _block(assets, number, hash_, content.header), frozenset(id_.hex() for _, id_ in matches)


# Transactions


def tx(id_: str, raw: object) -> Tx:
    """The transaction of this id from its raw bytes."""
    try:
        parsed = Tx.parse(octets(raw), check_validity=False)
    except _BAD_BYTES as error:
        raise MalformedError(f"the transaction {id_} can't be read: {error}") from error
    if parsed.id.hex() != id_:
        raise MalformedError(f"asked for {id_}, told of {parsed.id.hex()}")
    return parsed


def inputs(parsed: Tx) -> tuple[str, ...]:
    """The outputs it spends, `txid:vout`. A coinbase spends none."""
    if parsed.is_coinbase:
        return ()
    return tuple(f"{each.prev_out.tx_id.hex()}:{each.prev_out.vout}" for each in parsed.vin)


def chain_tx(id_: str, parsed: Tx, where: Block | None, assets: Assets, *, status: TxStatus) -> ChainTx:
    """`where` is its block, or None. A status other than SUCCEEDED is told without the block."""
    if where is None or status is not TxStatus.SUCCEEDED:
        return ChainTx(id=id_, status=status, inputs=inputs(parsed))
    return ChainTx(
        id=id_,
        status=status,
        inputs=inputs(parsed),
        block_number=where.number,
        block_hash=where.hash,
        block_time=where.time,
        transfers=tuple(transfers(id_, parsed, where, assets)),
    )


def transfers(
    id_: str, parsed: Tx, where: Block, assets: Assets, *, watched: Collection[bytes] | None = None
) -> list[Transfer]:
    """One for each output that pays an address (of these scripts), also of nothing. `index` is the output's number."""
    found = []
    for index, output in enumerate(parsed.vout):
        script = output.script_pub_key.script
        if watched is not None and script not in watched:
            continue
        recipient = formats.address_of(assets.chain, script)
        if recipient is None:
            continue
        found.append(
            Transfer(
                chain=assets.chain,
                chain_tx=id_,
                index=index,
                asset=assets.native,
                contract=None,
                sender=None,
                recipient=recipient,
                units=output.value,
                block_number=where.number,
                block_hash=where.hash,
                block_time=where.time,
            )
        )
    return found
