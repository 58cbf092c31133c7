"""What a transaction says, out of the bytes whose SHA-256 is its id. Pure.

A node also renders these bytes as JSON, which nothing ties to the id: that is never read. Protocol buffers' wire format
and java-tron's messages (protocol/src/main/protos/core: Tron.proto, contract/*.proto). tronpy can write two kinds of
contracts with the protobuf package, and reads none.

Whoever pays may put anything into the bytes that the network lets pass (unknown fields, a field twice), so what can't
be read is no error: it has moved nothing that we would book.
"""

from collections.abc import Iterator
from dataclasses import dataclass

TRANSFER = 1
TRANSFER_ASSET = 2
CREATE_SMART_CONTRACT = 30
TRIGGER_SMART_CONTRACT = 31
"""Transaction.Contract.ContractType."""

TRX_INDEX = -1
TRC10_INDEX = -2
"""The `Transfer.index` of what the contract itself moves; a log's transfer has the log's place in the transaction."""

_INT64_MAX = 2**63 - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Move:
    """Coins that the transaction's own contract moves, if it succeeds."""

    index: int
    recipient: bytes
    units: int
    token: bytes | None
    """The TRC-10 token's id in ASCII digits; None: TRX."""


@dataclass(frozen=True)
class RawData:
    kind: int | None
    """The ContractType; None if there is none, or more than the one that the network allows."""
    sender: bytes | None
    moves: tuple[Move, ...]
    memo: bytes
    expires_ms: int


def read(content: bytes) -> RawData | None:
    """Transaction.raw; None if it is no such message."""
    try:
        fields = _fields(content)
        contracts = [value for number, value in fields if number == 11 and isinstance(value, bytes)]  # noqa: PLR2004
        kind, sender, moves = _contract(contracts[0]) if len(contracts) == 1 else (None, None, ())
        return RawData(kind, sender, moves, memo=_bytes(fields, 10), expires_ms=_number(fields, 8))
    except ValueError:
        return None


Fields = list[tuple[int, int | bytes]]


def _contract(content: bytes) -> tuple[int, bytes | None, tuple[Move, ...]]:
    fields = _fields(content)
    kind, parameter = _number(fields, 1), _fields(_bytes(fields, 2))
    try:
        value = _fields(_bytes(parameter, 2))
    except ValueError:
        return kind, None, ()
    moves: tuple[Move, ...] = ()
    sender = _bytes(value, 2 if kind == TRANSFER_ASSET else 1)
    if kind == TRANSFER:
        moves = (Move(TRX_INDEX, _bytes(value, 2), _number(value, 3), None),)
    elif kind == TRANSFER_ASSET:
        moves = (Move(TRC10_INDEX, _bytes(value, 3), _number(value, 4), _bytes(value, 1)),)
    elif kind == TRIGGER_SMART_CONTRACT:
        contract, token = _bytes(value, 2), str(_number(value, 6)).encode()
        coins = Move(TRX_INDEX, contract, _number(value, 3), None)
        tokens = Move(TRC10_INDEX, contract, _number(value, 5), token)
        moves = tuple(move for move in (coins, tokens) if move.units)  # a call that sends nothing is no transfer
    return kind, sender, tuple(move for move in moves if 0 <= move.units <= _INT64_MAX)


def _number(fields: Fields, wanted: int) -> int:
    """The last one counts, and none is 0: proto3."""
    return next((value for number, value in reversed(fields) if number == wanted and isinstance(value, int)), 0)


def _bytes(fields: Fields, wanted: int) -> bytes:
    return next((value for number, value in reversed(fields) if number == wanted and isinstance(value, bytes)), b"")


def _fields(content: bytes) -> Fields:
    return list(_each_field(content))


def _each_field(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Raises ValueError if the content is cut short or has what java-tron's messages don't (groups)."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(content, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("a field of an unknown kind")
        if at + size > len(content):
            raise ValueError("a field is cut short")
        if kind == _BYTES:
            yield key >> 3, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # no more to come
            return value & (2**64 - 1), at
    raise ValueError("a number is cut short, or too long")
