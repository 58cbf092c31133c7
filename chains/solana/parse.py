"""From a node's JSON to facts: blocks, statuses, listings, transactions. Pure. Transfers: transfers.py.

What no node may say raises MalformedError. What anybody may put on a chain never does: one fraud would stop the rest.
Source: Solana's JSON-RPC (solana.com/docs/rpc).
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from solders.transaction import VersionedTransaction

from chains.base import Block, ChainTx, TxStatus
from chains.errors import MalformedError
from chains.fields import Json, listing, mapping, time_of, whole
from chains.solana.fields import address, signature
from chains.solana.transfers import Assets, Unsettled, transfers

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Header:
    """A block, and how it is joined to those before it."""

    block: Block
    parent_slot: int
    """Slots between were skipped."""
    height: int | None
    """How many blocks stand before it; skipped slots don't count."""


@dataclass(frozen=True)
class Status:
    slot: int
    failed: bool


@dataclass(frozen=True)
class Listed:
    """A line of getSignaturesForAddress."""

    signature: str
    slot: int
    failed: bool


def header(slot: int, value: object) -> Header:
    """The answer of getBlock without transactions."""
    raw = mapping(value)
    seconds = raw.get("blockTime")
    if seconds is None:
        raise MalformedError(f"the block of slot {slot} has no time")
    parent_slot = whole(raw.get("parentSlot"))
    if parent_slot >= slot > 0:
        raise MalformedError(f"the block of slot {slot} follows that of slot {parent_slot}")
    height = raw.get("blockHeight")
    return Header(
        block=Block(
            number=slot,
            hash=address(raw.get("blockhash")),
            parent_hash=address(raw.get("previousBlockhash")),
            time=time_of(whole(seconds), _SECOND),
        ),
        parent_slot=parent_slot,
        height=None if height is None else whole(height),
    )


def has_time(value: object) -> bool:
    """Whether getBlock's answer says when. Blocks of the first months have no time."""
    return value is None or mapping(value).get("blockTime") is not None


def statuses(value: object, asked: int) -> list[Status | None]:
    """The answer of getSignatureStatuses; None for a signature that the node has never seen."""
    rows = listing(mapping(value).get("value"))
    if len(rows) != asked:
        raise MalformedError(f"asked for {asked} statuses, told of {len(rows)}")
    return [
        None if row is None else Status(slot=whole(mapping(row).get("slot")), failed=has_failed(row)) for row in rows
    ]


def listed(value: object) -> list[Listed]:
    """A page of getSignaturesForAddress: newest first."""
    rows = [
        Listed(
            signature=signature(mapping(row).get("signature")),
            slot=whole(row.get("slot")),
            failed=has_failed(row),
        )
        for row in listing(value)
    ]
    if any(newer.slot < older.slot for newer, older in pairwise(rows)):
        raise MalformedError("signatures out of order")
    return rows


def has_failed(raw: Json) -> bool:
    """Success is an `err` that is null, not one that is missing."""
    if "err" not in raw:
        raise MalformedError("neither success nor an error is told")
    return raw["err"] is not None


def slot_of(value: object) -> int | None:
    """The slot of a getTransaction's answer; None if the node has no such transaction that is final."""
    return None if value is None else whole(mapping(value).get("slot"))


def chain_tx(id_: str, status: Status | None, value: object, block: Block | None, assets: Assets) -> ChainTx:
    """One transaction from what getSignatureStatuses and getTransaction (finalized) say, and its slot's block.

    The two are read one after the other, perhaps from two machines: where they contradict each other, and where the
    node has kept too little to tell what moved, the answer is MEMPOOL, which proves nothing and is asked again.
    """
    if value is None:
        return ChainTx(id=id_, status=TxStatus.MISSING if status is None else TxStatus.MEMPOOL)
    raw = mapping(value)
    tx = signed(id_, raw.get("transaction"))
    keys = tx.message.account_keys
    unsettled = ChainTx(id=id_, status=TxStatus.MEMPOOL, sender=str(keys[0]) if keys else None)
    if raw.get("meta") is None or block is None:
        return unsettled
    meta = mapping(raw["meta"])
    failed = has_failed(meta)
    if status is not None and (status.slot, status.failed) != (block.number, failed):
        return unsettled
    try:
        moved = () if failed else transfers(id_, tx, meta, block, assets)
    except Unsettled:
        return unsettled
    return ChainTx(
        id=id_,
        status=TxStatus.REVERTED if failed else TxStatus.SUCCEEDED,
        sender=unsettled.sender,
        block_number=block.number,
        block_hash=block.hash,
        block_time=block.time,
        transfers=moved,
    )


def signed(id_: str, value: object) -> VersionedTransaction:
    """The transaction, by its bytes: the very ones that were signed by who pays its fee, as its id proves."""
    match value:
        case [str() as text, "base64"]:
            pass
        case _:
            raise MalformedError(f"{value!r:.80} is not a transaction in base64")
    try:
        tx = VersionedTransaction.from_bytes(base64.b64decode(text, validate=True))
        checked = tx.verify_with_results()  # of each signature for which there is a key: none, if there are no keys
    except (binascii.Error, ValueError):
        raise MalformedError(f"the bytes of {id_} are no transaction") from None
    if not tx.signatures or str(tx.signatures[0]) != id_:
        raise MalformedError(f"asked for {id_}, told of another transaction")
    if not all(checked) or not len(checked) == len(tx.signatures) == tx.message.header.num_required_signatures:
        raise MalformedError(f"the bytes of {id_} are not what was signed")
    return tx
