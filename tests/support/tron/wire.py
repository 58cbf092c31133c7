"""java-tron's messages as bytes, from the JSON that its HTTP interface shows: the inverse of chains/tron/rawdata.py.

That the two sides are right is shown by real transactions (recorded.py): these bytes' hash is their id.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

Json = Mapping[str, Any]

KINDS = {
    "AccountCreateContract": 0,
    "TransferContract": 1,
    "TransferAssetContract": 2,
    "TriggerSmartContract": 31,
    "CancelAllUnfreezeV2Contract": 59,
}
VALUES: dict[str, list[tuple[int, str]]] = {
    "AccountCreateContract": [(1, "owner_address"), (2, "account_address")],
    "TransferContract": [(1, "owner_address"), (2, "to_address"), (3, "amount")],
    "TransferAssetContract": [(1, "asset_name"), (2, "owner_address"), (3, "to_address"), (4, "amount")],
    "TriggerSmartContract": [
        (1, "owner_address"),
        (2, "contract_address"),
        (3, "call_value"),
        (4, "data"),
        (5, "call_token_value"),
        (6, "token_id"),
    ],
    "CancelAllUnfreezeV2Contract": [(1, "owner_address")],
}
HEADER = [
    (1, "timestamp"),
    (2, "txTrieRoot"),
    (3, "parentHash"),
    (7, "number"),
    (9, "witness_address"),
    (10, "version"),
]


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number: int, value: int | bytes) -> bytes:
    """Nothing for what is 0 or empty: proto3."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value if value else b""


def raw_data(raw: Json) -> bytes:
    """Transaction.raw. Addresses and other bytes of the JSON are hex (`visible` false)."""
    contracts = b"".join(field(11, _contract(contract)) for contract in raw["contract"])
    return b"".join(
        [
            field(1, bytes.fromhex(raw["ref_block_bytes"])),
            field(4, bytes.fromhex(raw["ref_block_hash"])),
            field(8, raw["expiration"]),
            field(10, bytes.fromhex(raw.get("data", ""))),
            contracts,
            field(14, raw.get("timestamp", 0)),
            field(18, raw.get("fee_limit", 0)),
        ]
    )


def block_id(header: Json) -> str:
    """The number in 8 bytes, and the rest of the hash of the header."""
    content = _message(HEADER, header)
    return f"{header['number']:016x}" + hashlib.sha256(content).hexdigest()[16:]


def changed(value: Json, convert: Callable[[str], str]) -> dict[str, Any]:
    """The JSON with its addresses in the other spelling."""
    return {name: convert(text) if name.endswith("_address") else text for name, text in value.items()}


def _contract(contract: Json) -> bytes:
    kind, parameter = contract["type"], contract["parameter"]
    value = _message(VALUES[kind], parameter["value"])
    held = field(1, parameter["type_url"].encode()) + field(2, value)
    return field(1, KINDS[kind]) + field(2, held) + field(5, contract.get("Permission_id", 0))


def _message(fields: list[tuple[int, str]], value: Json) -> bytes:
    made = b""
    for number, name in fields:
        given = value.get(name, 0)
        made += field(number, bytes.fromhex(given) if isinstance(given, str) else given)
    return made
