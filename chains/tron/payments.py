"""A payment as the bytes that Tron signs: the same for the sender, which plans it, and for the signer. Pure.

`Terms.ends` is its expiration. `Terms.fields`, numbers as strings:

    block, block_hash      a solid block, which it names (TAPOS): no chain without that block can take it
    fee_limit              of a token: sun at most for the energy of the call

Two orders that are alike would be one transaction, and pay once: so its `timestamp`, which nobody checks (some wallets
write .NET's ticks), is made of the order's reference.

Protocol buffers' wire format and java-tron's messages (protocol/src/main/protos/core: Tron.proto, contract/*.proto).
The protobuf package would be needed for tronpy's own writer.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chains.sending import Order, Terms
from chains.tron.formats import canonical_tag, parse_address, raw_address
from chains.tron.rawdata import TRANSFER, TRIGGER_SMART_CONTRACT
from core.errors import InvalidRequestError

BYTE_SUN = 1_000
ACTIVATION_SUN = 1_100_000
"""Of a recipient that has never had anything: the account, and what it takes instead of bandwidth. Tokens need none."""
MEMO_SUN = 1_000_000
"""What the network has asked for since 2022 or longer. The sender refuses to pay more (planning.py)."""
RESULT_BYTES = 64
"""Counted for each transaction, on top of its own."""
SIGNATURE_BYTES = 65
FEE_LIMIT_MAX = 15_000_000_000
"""Sun. The network takes no larger one."""
INT64_MAX = 2**63 - 1
UINT256_MAX = 2**256 - 1

TRANSFER_FUNCTION = "transfer(address,uint256)"
_SELECTOR = bytes.fromhex("a9059cbb")
"""The first four bytes of its keccak256."""
_NOBODY = bytes([0x41]) + bytes(20)
_KINDS = {TRANSFER: "TransferContract", TRIGGER_SMART_CONTRACT: "TriggerSmartContract"}
_HASH = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a payment is made, as `Terms` say it."""

    block: int
    block_hash: str
    expires_ms: int
    fee_limit: int | None = None
    """None: it pays TRX."""

    def fields(self) -> dict[str, Any]:
        told = {"block": str(self.block), "block_hash": self.block_hash}
        return told if self.fee_limit is None else told | {"fee_limit": str(self.fee_limit)}


def plan_of(terms: Terms) -> Plan:
    """Raises ValueError for what is none."""
    fields: Mapping[str, Any] = terms.fields
    if terms.inputs or terms.cancels or terms.ends is None or not 0 < terms.ends <= INT64_MAX:
        raise ValueError("on Tron a version uses nothing up, cancels none, and ends at a block's time")
    if fields.keys() - {"fee_limit"} != {"block", "block_hash"}:
        raise ValueError(f"{sorted(fields)} are not the fields of a payment")
    block, block_hash = _number(fields["block"], INT64_MAX), fields["block_hash"]
    if not isinstance(block_hash, str) or not _HASH.fullmatch(block_hash) or int(block_hash[:16], 16) != block:
        raise ValueError("the block's id does not begin with its number")
    limit = _number(fields["fee_limit"], FEE_LIMIT_MAX) if "fee_limit" in fields else None
    return Plan(block=block, block_hash=block_hash, expires_ms=terms.ends, fee_limit=limit)


def _number(value: object, most: int) -> int:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or int(value) > most:
        raise ValueError(f"{value!r:.40} is not a number from 0 to {most}")
    return int(value)


def token_of(order: Order) -> str | None:
    """The contract; None: it pays TRX. Raises ValueError for an asset that is no payment of this chain's."""
    chain, _, asset = order.asset.partition("/")
    if chain == order.chain:
        if asset == "slip44:195":
            return None
        kind, _, contract = asset.partition(":")
        if kind == "trc20":
            _canonical(order.chain, contract)
            return contract
    raise ValueError(f"{order.asset!r:.120} is nothing that is paid on {order.chain}")


def check_recipient(order: Order) -> None:
    """Raises ValueError unless somebody can be paid there."""
    if order.to in (order.wallet, token_of(order)):
        raise ValueError("it pays the wallet that pays it, or the token itself")
    if _canonical(order.chain, order.to) == _NOBODY:
        raise ValueError("that is nobody's address")
    if order.tag is not None and canonical_tag(order.tag) != order.tag:
        raise ValueError("the tag is not printable text of 1 to 64 bytes")


def units_max(order: Order) -> int:
    return INT64_MAX if token_of(order) is None else UINT256_MAX


def fee_max(order: Order, plan: Plan) -> int:
    """Sun, with neither bandwidth nor energy that is staked or free."""
    size = len(transaction(raw_data(order, plan), bytes(SIGNATURE_BYTES))) + RESULT_BYTES
    memo = MEMO_SUN if order.tag is not None else 0
    return size * BYTE_SUN + memo + (ACTIVATION_SUN if plan.fee_limit is None else plan.fee_limit)


def raw_data(order: Order, plan: Plan) -> bytes:
    """Transaction.raw, whose SHA-256 is the id. Raises ValueError for what can't be paid like that."""
    check_recipient(order)
    token = token_of(order)
    if (token is None) != (plan.fee_limit is None):
        raise ValueError("a token's terms for TRX, or the other way round")
    if not 0 < order.units <= units_max(order):
        raise ValueError(f"{order.units} units can't be paid")
    owner = _canonical(order.chain, order.wallet)
    parts: list[int | bytes]
    if token is None:
        kind, parts = TRANSFER, [owner, _canonical(order.chain, order.to), order.units]
    else:
        kind, parts = (
            TRIGGER_SMART_CONTRACT,
            [owner, _canonical(order.chain, token), 0, _SELECTOR + transfer_parameter(order)],
        )
    return encoded(
        block_hash=plan.block_hash,
        expires_ms=plan.expires_ms,
        memo=(order.tag or "").encode(),
        kind=kind,
        value=b"".join(field(number, part) for number, part in enumerate(parts, 1)),
        timestamp=_timestamp(order.reference),
        fee_limit=plan.fee_limit or 0,
    )


def encoded(
    *, block_hash: str, expires_ms: int, memo: bytes, kind: int, value: bytes, timestamp: int, fee_limit: int
) -> bytes:
    url = f"type.googleapis.com/protocol.{_KINDS[kind]}".encode()
    contract = field(1, kind) + field(2, field(1, url) + field(2, value))
    named = bytes.fromhex(block_hash)
    parts: dict[int, int | bytes] = {
        1: named[6:8],
        4: named[8:16],
        8: expires_ms,
        10: memo,
        11: contract,
        14: timestamp,
        18: fee_limit,
    }
    return b"".join(field(number, part) for number, part in parts.items())


def transaction(raw: bytes, signature: bytes) -> bytes:
    return field(1, raw) + field(2, signature)


def transfer_parameter(order: Order) -> bytes:
    """As the ABI has an address and a number: 32 bytes each."""
    return word(_canonical(order.chain, order.to)) + order.units.to_bytes(32, "big")


def word(address: bytes) -> bytes:
    """An address of 21 bytes, as the ABI has it: without 41."""
    return bytes(12) + address[1:]


def field(number: int, value: int | bytes) -> bytes:
    """Nothing for what is 0 or empty: proto3."""
    if not value:
        return b""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits a byte
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def _timestamp(reference: str) -> int:
    """47 bits: some read it as a time, and beyond the year 9999 not all can."""
    return int.from_bytes(hashlib.sha256(f"tallyrail:{reference}".encode()).digest()[:8], "big") >> 17


def _canonical(chain: str, address: str) -> bytes:
    try:
        if parse_address(chain, address) != address:
            raise ValueError(f"{address!r:.60} is spelled oddly")
        return raw_address(chain, address)
    except InvalidRequestError as error:
        raise ValueError(str(error)) from None
