"""From a node's JSON to facts. Pure.

What no node may say raises MalformedError. What anybody may put on a chain never does: one fraud would stop the rest.
Shapes: java-tron's framework/src/main/java/org/tron/core/services/http (Util, JsonFormat), Tron.proto.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from chains.base import Block, ChainTx, Transfer, TxStatus
from chains.errors import MalformedError
from chains.fields import Json, listing, mapping, plain_hash, text, time_of, whole
from chains.tron import formats, rawdata
from core.errors import InvalidRequestError

TRANSFER_TOPIC = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256 of Transfer(address,address,uint256): TRC-20 with three topics, TRC-721 with four."""

_HASH = re.compile(r"[0-9a-f]{64}")
_ADDRESS_TOPIC = re.compile(r"0{24}[0-9a-f]{40}")
_HEX = re.compile(r"([0-9a-f]{2})*")
_HEX_20 = re.compile(r"[0-9a-f]{40}")
_TOKEN_ID = re.compile(r"[0-9]{1,20}")
_MILLISECOND = timedelta(milliseconds=1)
_SUCCESS = "SUCCESS"
_CALLS = {note.encode().hex() for note in ("call", "create", "suicide")}
"""What every node that records internal transactions records; some record more, which moves nothing to others."""
_BY_RECEIPT = (rawdata.TRIGGER_SMART_CONTRACT, rawdata.CREATE_SMART_CONTRACT)

INTERNAL_INDEX = 1_000_000
"""The `Transfer.index` of what contracts pass on: this, and twice the place of the call (and 1 for a TRC-10 token)."""
NEXT_TOKEN = 1 << 32
"""So much more for each further TRC-10 token: a contract that destroys itself leaves all it has to one account."""


@dataclass(frozen=True)
class Assets:
    """The assets of one chain."""

    chain: str
    native: str | None
    trc20: Mapping[str, str]
    """Contract in base58 -> CAIP-19 id."""
    trc10: Mapping[str, str]
    """Token id in decimal digits -> CAIP-19 id."""


@dataclass(frozen=True)
class Tx:
    """A transaction, without what became of it."""

    id: str
    raw: rawdata.RawData | None
    result: str | None
    """`contractRet` of its block; None: it is in none, or in one of a time that wrote none."""


@dataclass(frozen=True)
class Info:
    """What a block's execution made of a transaction (TransactionInfo)."""

    id: str
    block_number: int
    block_time: datetime
    failed: bool
    result: str | None
    """`receipt.result`; None for what is no smart contract."""
    logs: tuple[Json, ...]
    internal: tuple[Json, ...]
    """Calls of contracts by contracts, with the coins they take along. Empty on a node that does not record them."""


def block(value: object) -> Block:
    """A block, or its header alone. Its id begins with its number in 8 bytes."""
    raw = mapping(value)
    header = mapping(mapping(raw.get("block_header")).get("raw_data"))
    found = Block(
        number=whole(header.get("number", 0)),  # zeros are left out: the genesis block has neither number nor time
        hash=plain_hash(raw.get("blockID")),
        parent_hash=plain_hash(header.get("parentHash")),
        time=time_of(whole(header.get("timestamp", 0)), _MILLISECOND),
    )
    if int(found.hash[:16], 16) != found.number:
        raise MalformedError(f"block {found.number} has the id {found.hash}")
    return found


def transaction(value: object) -> Tx:
    """Raises MalformedError unless its id is the hash of `raw_data_hex`; no other account of what it says is read."""
    given = mapping(value)
    id_, content = plain_hash(given.get("txID")), given.get("raw_data_hex")
    if not isinstance(content, str) or not _HEX.fullmatch(content):
        raise MalformedError(f"the transaction {id_} has no raw_data_hex")
    signed = bytes.fromhex(content)
    if hashlib.sha256(signed).hexdigest() != id_:
        raise MalformedError(f"the transaction {id_} has the raw data of another")
    results = listing(given.get("ret", []))
    result = mapping(results[0]).get("contractRet") if results else None
    return Tx(id=id_, raw=rawdata.read(signed), result=_result(result))


def info(value: object) -> Info:
    given = mapping(value)
    return Info(
        id=plain_hash(given.get("id")),
        block_number=whole(given.get("blockNumber", 0)),
        block_time=time_of(whole(given.get("blockTimeStamp", 0)), _MILLISECOND),
        failed=given.get("result") not in (None, "SUCESS"),  # java-tron's spelling
        result=_result(mapping(given.get("receipt", {})).get("result")),
        logs=tuple(mapping(log) for log in listing(given.get("log", []))),
        internal=tuple(mapping(call) for call in listing(given.get("internal_transactions", []))),
    )


def _result(value: object) -> str | None:
    return None if _text(value) == "DEFAULT" else _text(value)


def _text(value: object) -> str | None:
    return None if value is None else text(value)


def unsettled(tx: Tx) -> ChainTx:
    """As long as it is in no solid block: nothing that it says has happened."""
    return ChainTx(id=tx.id, status=TxStatus.MEMPOOL, sender=_sender(tx), valid_until=_valid_until(tx))


def chain_tx(tx: Tx, executed: Info, within: Block, assets: Assets) -> ChainTx:
    """A transaction of a solid block."""
    done = succeeded(tx, executed)
    if done is None:
        return unsettled(tx)
    return ChainTx(
        id=tx.id,
        status=TxStatus.SUCCEEDED if done else TxStatus.REVERTED,
        sender=_sender(tx),
        valid_until=_valid_until(tx),
        block_number=within.number,
        block_hash=within.hash,
        block_time=within.time,
        transfers=transfers(tx, executed, within, assets) if done else (),
    )


def succeeded(tx: Tx, executed: Info) -> bool | None:
    """Whether it did what it says; None where the node says nothing of that (blocks before 2019).

    Smart contracts have `receipt.result`, and the same in the block (java-tron's TransactionTrace.check): all else has
    the block's `contractRet` only. `result: true`, which a node answers to whoever hands in a transaction, is not read.
    """
    if tx.id != executed.id:
        raise MalformedError(f"asked for the info of {tx.id}, told of {executed.id}")
    if tx.result is None:
        return None
    is_contract = tx.raw is not None and tx.raw.kind in _BY_RECEIPT
    said = {tx.result == _SUCCESS, not executed.failed}
    if is_contract or executed.result is not None:
        said.add(executed.result == _SUCCESS)
    if len(said) > 1:
        raise MalformedError(
            f"{tx.id} is {tx.result} in the block, {executed.result} in its receipt, failed: {executed.failed}"
        )
    return said == {True}


def transfers(
    tx: Tx, executed: Info, within: Block, assets: Assets, only: Collection[bytes] | None = None
) -> tuple[Transfer, ...]:
    """What the transaction, which has succeeded, moved; `only`: to these addresses (of 21 bytes)."""
    made = partial(
        Transfer,
        chain=assets.chain,
        chain_tx=tx.id,
        block_number=within.number,
        block_hash=within.hash,
        block_time=within.time,
        tags=_tags(tx),
    )
    found = [
        made(
            index=index,
            asset=assets.native if token is None else assets.trc10.get(token),
            contract=token,
            sender=None if sender is None else formats.spelled(sender),
            recipient=formats.spelled(recipient),
            units=units,
        )
        for index, sender, recipient, units, token in _coin_moves(tx, executed)
        if only is None or recipient in only
    ]
    for index, log in enumerate(executed.logs):
        if (moved := token_move(log)) is None or not (only is None or moved[1] in only):
            continue
        contract = formats.spelled(address_of(log.get("address")))
        found.append(
            made(
                index=index,
                asset=assets.trc20.get(contract),
                contract=contract,
                sender=formats.spelled(moved[0]),
                recipient=formats.spelled(moved[1]),
                units=moved[2],
            )
        )
    return tuple(found)


Moved = tuple[int, bytes | None, bytes, int, str | None]
"""Index, sender, recipient, units, and the TRC-10 token's id; None: TRX."""


def _coin_moves(tx: Tx, executed: Info) -> Iterator[Moved]:
    """TRX and TRC-10 that the transaction itself moves, and that contracts pass on while it runs."""
    sender = tx.raw.sender if tx.raw and tx.raw.sender and _is_address(tx.raw.sender) else None
    for move in tx.raw.moves if tx.raw else ():
        if _is_address(move.recipient):
            token = None if move.token is None else move.token.decode("ascii", "backslashreplace")
            yield move.index, sender, move.recipient, move.units, token
    # Counted without what only some nodes record: an index must be the same on all of them.
    for place, call in enumerate(call for call in executed.internal if _text(call.get("note")) in _CALLS):
        if call.get("rejected") or "transferTo_address" not in call:  # a call that was undone while the rest was not
            continue
        for index, units, token in _passed_on(call):
            caller, recipient = address_of(call.get("caller_address")), address_of(call["transferTo_address"])
            yield INTERNAL_INDEX + 2 * place + index, caller, recipient, units, token


def _passed_on(call: Json) -> list[tuple[int, int, str | None]]:
    """What one call takes along: 0 for TRX, 1 for a TRC-10 token and so on by their numbers; units; token."""
    parts: dict[str | None, int] = {}
    for part in map(mapping, listing(call.get("callValueInfo", []))):
        units, token = whole(part.get("callValue", 0)), part.get("tokenId") or None
        if token is not None and not (isinstance(token, str) and _TOKEN_ID.fullmatch(token)):
            raise MalformedError(f"{token!r:.80} is not the id of a TRC-10 token")
        if token in parts:
            raise MalformedError(f"a call takes {token or 'TRX'} along twice")
        if units:
            parts[token] = units
    # A map has no order of its own, so that nodes may write it in any.
    tokens = sorted((token for token in parts if token is not None), key=lambda token: (int(token), token))
    found = [(0, parts[None], None)] if None in parts else []
    return found + [(1 + nth * NEXT_TOKEN, parts[token], token) for nth, token in enumerate(tokens)]


def token_move(log: Json) -> tuple[bytes, bytes, int] | None:
    """Sender, recipient and units of the TRC-20 transfer that a log claims, or None if it claims none.

    Any contract can write any log: only its address tells that this one is a token we know.
    """
    topics, data = listing(log.get("topics", [])), log.get("data", "")
    if len(topics) != 3 or topics[0] != TRANSFER_TOPIC:  # noqa: PLR2004
        return None
    if not all(isinstance(topic, str) and _ADDRESS_TOPIC.fullmatch(topic) for topic in topics[1:]):
        return None
    if not isinstance(data, str) or not _HASH.fullmatch(data):  # exactly 32 bytes
        return None
    sender, recipient = (bytes([formats.PREFIX]) + bytes.fromhex(topic[24:]) for topic in topics[1:])
    return sender, recipient, int(data, 16)


def address_of(value: object) -> bytes:
    """21 bytes of what nodes write for an address: hex, in a log without the prefix, or with `visible` base58."""
    if isinstance(value, str):
        if _HEX_20.fullmatch(value):
            return bytes([formats.PREFIX]) + bytes.fromhex(value)
        try:
            return formats.raw_address("", value)
        except InvalidRequestError:
            pass
    raise MalformedError(f"{value!r:.80} is not an address")


def _is_address(value: bytes) -> bool:
    return len(value) == 21 and value[0] == formats.PREFIX  # noqa: PLR2004  # a prefix and 20 bytes


def _sender(tx: Tx) -> str | None:
    return formats.spelled(tx.raw.sender) if tx.raw and tx.raw.sender and _is_address(tx.raw.sender) else None


def _valid_until(tx: Tx) -> datetime | None:
    try:
        return time_of(tx.raw.expires_ms, _MILLISECOND) if tx.raw else None
    except MalformedError:  # anybody may write any number
        return None


def _tags(tx: Tx) -> tuple[str, ...]:
    """The memo, if it is text of a tag's kind."""
    try:
        tag = formats.canonical_tag(tx.raw.memo.decode()) if tx.raw else None
    except UnicodeDecodeError:
        return ()
    return () if tag is None else (tag,)
