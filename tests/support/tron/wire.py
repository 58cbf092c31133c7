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


def read_transaction(content: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The raw data as the JSON of it, and the signatures, of a transaction that only has what `raw_data` writes."""
    parts = _read(content)
    (contents,) = parts[1]
    raw = _read(contents)
    (contract,) = raw[11]
    outer = _read(contract)
    kind = next(name for name, number in KINDS.items() if [number] == outer[1])
    held = _read(outer[2][0])
    value = _read(held[2][0])
    shown = {name: _shown(value[number][0]) for number, name in VALUES[kind] if number in value}
    made: dict[str, Any] = {
        "contract": [{"parameter": {"value": shown, "type_url": held[1][0].decode()}, "type": kind}],
        "ref_block_bytes": raw[1][0].hex(),
        "ref_block_hash": raw[4][0].hex(),
        "expiration": raw[8][0],
    }
    more = {"data": 10, "timestamp": 14, "fee_limit": 18}
    made |= {name: _shown(raw[number][0]) for name, number in more.items() if number in raw}
    if raw_data(made) != contents:
        raise ValueError("it has more, or has it otherwise")
    return made, parts.get(2, [])


def _shown(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _read(content: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(content):
        key = number()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(number())
        else:
            size = number()
            found.setdefault(key >> 3, []).append(content[at : at + size])
            at += size
    return found


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
