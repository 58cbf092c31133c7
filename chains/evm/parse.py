"""From a node's JSON to facts. Pure.

What no node may say raises MalformedError. What anybody may put on a chain never does: one fraud would stop the rest.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from eth_utils.address import to_checksum_address

from chains.base import NATIVE_INDEX, Block, ChainTx, Transfer, TxStatus
from chains.errors import MalformedError
from chains.fields import U64_MAX, Json, bounded, listing, mapping, prefixed_hash, time_of
from config.assets import Asset
from core.errors import PermanentError

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256 of Transfer(address,address,uint256): ERC-20 with three topics, ERC-721 with four."""

_ASSET = re.compile(r"slip44:\d+|erc20:0x[0-9a-f]{40}")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*")
_INPUT = re.compile(r"(0x[0-9a-fA-F]{40})/([0-9]{1,20})")
_SECOND = timedelta(seconds=1)
_ADDRESS_TOPIC = re.compile(r"0x0{24}[0-9a-fA-F]{40}")


@dataclass(frozen=True)
class Assets:
    """The assets of one chain."""

    chain: str
    native: str | None
    tokens: Mapping[str, str]
    """Contract in lower case -> CAIP-19 id."""
    fee_on_transfer: frozenset[str] = frozenset()
    """Contracts whose logs may tell more than arrives."""


def assets_of(chain: str, assets: Sequence[Asset]) -> Assets:
    """Raises PermanentError: a token whose id is misspelled would be taken for the chain's own coin, and its coin for
    that token.
    """
    for asset in assets:
        if not _ASSET.fullmatch(asset.id.partition("/")[2]):
            raise PermanentError(f"{asset.id!r} names neither {chain}'s coin (slip44:...) nor a token (erc20:0x...)")
    if len(coins := [asset.id for asset in assets if asset.contract is None]) > 1:
        raise PermanentError(f"{chain} has one coin, and {' and '.join(coins)} are given")
    return Assets(
        chain=chain,
        native=next(iter(coins), None),
        tokens={asset.contract: asset.id for asset in assets if asset.contract is not None},
        fee_on_transfer=frozenset(
            asset.contract for asset in assets if asset.contract is not None and asset.fee_on_transfer
        ),
    )


def quantity(value: object) -> int:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise MalformedError(f"{value!r:.80} is not a quantity")
    return int(value, 16)


def number_of(value: object) -> int:
    """Of a block, or of a log in it."""
    return bounded(quantity(value))


def address(value: object) -> str:
    """In EIP-55 spelling."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise MalformedError(f"{value!r:.80} is not an address")
    return _checksummed(value.lower())


@lru_cache(maxsize=16_384)  # a keccak in Python; the same payers and wallets come again
def _checksummed(lower: str) -> str:
    return str(to_checksum_address(lower))


def block(value: object) -> Block:
    raw = mapping(value)
    return Block(
        number=number_of(raw.get("number")),
        hash=prefixed_hash(raw.get("hash")),
        parent_hash=prefixed_hash(raw.get("parentHash")),
        time=time_of(quantity(raw.get("timestamp")), _SECOND),
    )


def input_of(sender: str, nonce: int) -> str:
    """What a transaction uses up. `sender` in EIP-55 spelling."""
    return f"{sender}/{nonce}"


def sender_and_nonce(input_: str) -> tuple[str, int]:
    """The other way round. Raises ValueError for what is no input."""
    if not (match := _INPUT.fullmatch(input_)):
        raise ValueError(f"{input_!r} is no sender and nonce")
    return match[1], int(match[2])


def chain_tx(id_: str, tx: object, receipt: object, assets: Assets) -> ChainTx:
    """One transaction from the node's two answers about it.

    The two are read one after the other, so a reorg may fall between them. Unless both name the same block the answer
    is MEMPOOL, which proves nothing and is asked again.
    """
    if tx is None:
        # A receipt alone is a node in the middle of a reorg.
        return ChainTx(id=id_, status=TxStatus.MISSING if receipt is None else TxStatus.MEMPOOL)
    tx = mapping(tx)
    if prefixed_hash(tx.get("hash")) != id_:
        raise MalformedError(f"asked for {id_}, told of {tx.get('hash')}")
    sender = address(tx.get("from"))
    inputs = (input_of(sender, bounded(quantity(tx.get("nonce")), U64_MAX)),)  # EIP-2681
    unsettled = ChainTx(id=id_, status=TxStatus.MEMPOOL, sender=sender, inputs=inputs)
    if tx.get("blockHash") is None or receipt is None:
        return unsettled
    receipt = mapping(receipt)
    if prefixed_hash(receipt.get("transactionHash")) != id_:
        raise MalformedError(f"asked for the receipt of {id_}, told of {receipt.get('transactionHash')}")
    number, block_hash = number_of(tx.get("blockNumber")), prefixed_hash(tx.get("blockHash"))
    if (number_of(receipt.get("blockNumber")), prefixed_hash(receipt.get("blockHash"))) != (number, block_hash):
        return unsettled
    if receipt.get("status") is None:
        return unsettled
    status = quantity(receipt.get("status"))
    if status not in (0, 1):
        raise MalformedError(f"{status} is no status")
    succeeded = status == 1
    return ChainTx(
        id=id_,
        status=TxStatus.SUCCEEDED if succeeded else TxStatus.REVERTED,
        sender=sender,
        inputs=inputs,
        block_number=number,
        block_hash=block_hash,
        transfers=_transfers(tx, receipt, assets) if succeeded else (),
    )


def without_status(receipt: object) -> bool:
    """Receipts had a root in the place of the status before October 2017 (EIP-658): such a transaction proves nothing
    to us. One that has neither is half an answer.
    """
    return isinstance(receipt, dict) and receipt.get("status") is None and receipt.get("root") is not None


def _transfers(tx: Json, receipt: Json, assets: Assets) -> tuple[Transfer, ...]:
    found = [_native_transfer(tx, assets)]
    for log in listing(receipt.get("logs")):
        if prefixed_hash(mapping(log).get("blockHash")) != prefixed_hash(receipt.get("blockHash")):
            raise MalformedError("a receipt holds a log of another block")
        if prefixed_hash(log.get("transactionHash")) != prefixed_hash(tx.get("hash")):
            raise MalformedError("a receipt holds a log of another transaction")
        found.append(token_transfer(log, assets))
    made = tuple(transfer for transfer in found if transfer is not None)
    if len({transfer.index for transfer in made}) < len(made):
        raise MalformedError("a receipt that tells one log twice")
    return made


def _native_transfer(tx: Json, assets: Assets) -> Transfer | None:
    """The transaction's own value, also when it is zero; None if it creates a contract. Says nothing of success."""
    if tx.get("to") is None:
        return None
    return Transfer(
        chain=assets.chain,
        chain_tx=prefixed_hash(tx.get("hash")),
        index=NATIVE_INDEX,
        asset=assets.native,
        contract=None,
        sender=address(tx.get("from")),
        recipient=address(tx.get("to")),
        units=quantity(tx.get("value")),
        block_number=number_of(tx.get("blockNumber")),
        block_hash=prefixed_hash(tx.get("blockHash")),
    )


def token_transfer(value: object, assets: Assets) -> Transfer | None:
    """The ERC-20 transfer that a log claims, or None if it claims none.

    Any contract can emit any log: only `asset` tells that this one is a token we know.
    """
    log = mapping(value)
    topics, data = listing(log.get("topics")), log.get("data")
    if log.get("removed"):
        raise MalformedError("a log of a block that was undone")
    if not isinstance(data, str) or not _DATA.fullmatch(data):
        raise MalformedError(f"{data!r:.80} is no log's data")
    if len(topics) != 3 or prefixed_hash(topics[0]) != TRANSFER_TOPIC:  # noqa: PLR2004
        return None
    if not all(_ADDRESS_TOPIC.fullmatch(prefixed_hash(topic)) for topic in topics[1:]):
        return None
    if not _HASH.fullmatch(data):  # exactly 32 bytes
        return None
    contract = address(log.get("address")).lower()
    return Transfer(
        chain=assets.chain,
        chain_tx=prefixed_hash(log.get("transactionHash")),
        index=number_of(log.get("logIndex")),
        asset=assets.tokens.get(contract),
        contract=contract,
        sender=address("0x" + topics[1][26:]),
        recipient=address("0x" + topics[2][26:]),
        units=int(data, 16),
        block_number=number_of(log.get("blockNumber")),
        block_hash=prefixed_hash(log.get("blockHash")),
    )
