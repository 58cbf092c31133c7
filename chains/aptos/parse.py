"""From a full node's JSON to facts. Pure. The form is the OpenAPI document of aptos-core's `api`.

What no node may say raises MalformedError. What anybody may put on a chain never does: one fraud would stop the rest.
What moved is in `transfers.py`.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from chains.aptos.objects import long
from chains.base import Block, ChainTx, TxStatus
from chains.errors import MalformedError
from chains.fields import U64_MAX, Json, bounded, listing, mapping, prefixed_hash, text, time_of

USER = "user_transaction"
PENDING = "pending_transaction"
METADATA = "block_metadata_transaction"
"""The first of every block but the genesis."""

SEQUENCE_NUMBER_NONE = 2**64 - 1
"""What an orderless transaction (AIP-123) has for one: a nonce keeps it from being used twice."""

_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)
_U64 = re.compile(r"[0-9]{1,20}", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{1,64}")
_NEW_BLOCK = ("0x1::block::NewBlockEvent", "0x1::block::NewBlock")


@dataclass(frozen=True)
class Span:
    """A block, and the versions (transactions of the whole chain, counted) that are in it."""

    block: Block
    first: int
    last: int


@dataclass(frozen=True)
class Ledger:
    """Where a node stands."""

    chain_id: int
    version: int


def u64(value: object) -> int:
    """A number as nodes spell it: a string, since JavaScript knows no 64 bits."""
    if not isinstance(value, str) or not _U64.fullmatch(value):
        raise MalformedError(f"{value!r:.80} is not a number")
    return bounded(int(value), U64_MAX)


def number_of(value: object) -> int:
    """Of a block, or of a version."""
    return bounded(u64(value))


def address(value: object) -> str:
    """In the long form."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise MalformedError(f"{value!r:.80} is not an address")
    return long(value)


def ledger(value: object) -> Ledger:
    raw = mapping(value)
    chain_id = raw.get("chain_id")
    if type(chain_id) is not int:
        raise MalformedError(f"{chain_id!r:.80} is not a chain id")
    return Ledger(chain_id, number_of(raw.get("ledger_version")))


def span(value: object) -> Span:
    """A block without its transactions, and without its parent, which Aptos's blocks don't name: its hash is empty."""
    raw = mapping(value)
    first, last = number_of(raw.get("first_version")), number_of(raw.get("last_version"))
    if last < first:
        raise MalformedError(f"a block of the versions {first} to {last}")
    height = number_of(raw.get("block_height"))
    return Span(_block(height, raw.get("block_hash"), raw.get("block_timestamp")), first, last)


def block_begun(value: object) -> Block:
    """The block that this block metadata transaction opens."""
    raw = mapping(value)
    for event in map(mapping, listing(raw.get("events"))):
        if event.get("type") in _NEW_BLOCK:
            return _block(number_of(mapping(event.get("data")).get("height")), raw.get("id"), raw.get("timestamp"))
    raise MalformedError(f"version {raw.get('version')} opens a block and does not say which")


def chain_tx(id_: str, value: object) -> ChainTx:
    """One transaction, MEMPOOL, SUCCEEDED or REVERTED; without its transfers and its block, which others tell."""
    raw = mapping(value)
    if prefixed_hash(raw.get("hash")) != id_:
        raise MalformedError(f"asked for {id_}, told of {raw.get('hash')}")
    kind = text(raw.get("type"))
    status = TxStatus.MEMPOOL
    if kind != PENDING:
        status = TxStatus.SUCCEEDED if succeeded(raw) else TxStatus.REVERTED
    if kind not in (PENDING, USER):
        # The chain's own: it has no sender, and moves nobody's money.
        return ChainTx(id=id_, status=status)
    sender = address(raw.get("sender"))
    return ChainTx(
        id=id_,
        status=status,
        sender=sender,
        inputs=_inputs(sender, raw),
        valid_until=_valid_until(u64(raw.get("expiration_timestamp_secs"))),
    )


def succeeded(raw: Json) -> bool:
    """A transaction that failed is in its block all the same: it paid for gas, and moved nothing else."""
    success = raw.get("success")
    if not isinstance(success, bool):
        raise MalformedError(f"{success!r:.80} is neither success nor failure")
    return success


def sequence_number(value: object) -> int:
    return u64(mapping(value).get("sequence_number"))


def _inputs(sender: str, raw: Json) -> tuple[str, ...]:
    number = u64(raw.get("sequence_number"))
    orderless = raw.get("replay_protection_nonce") is not None or number == SEQUENCE_NUMBER_NONE
    return () if orderless else (f"{sender}/{number}",)


def _valid_until(seconds: int) -> datetime | None:
    """The sender's wish; so far in the future that no calendar has it, it is none."""
    try:
        return time_of(seconds, _SECOND)
    except MalformedError:
        return None


def _block(height: int, hash_: object, microseconds: object) -> Block:
    time = time_of(u64(microseconds), _MICROSECOND)
    return Block(number=height, hash=prefixed_hash(hash_), parent_hash="", time=time)
