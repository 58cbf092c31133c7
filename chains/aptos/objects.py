"""Addresses that follow from others on Aptos: where an owner's store of an asset lies, and what asset a coin is now.

Source: aptos-core, framework `object.move` (derivation schemes), `primary_fungible_store.move`, `coin.move` (pairing).
Addresses are taken and given in the long form, 0x and 64 lower-case hex digits.
"""

import hashlib
from functools import lru_cache

APT_COIN = "0x1::aptos_coin::AptosCoin"
APT_METADATA = "0x" + "a".rjust(64, "0")
"""The same money: APT was a coin, and is a fungible asset since the migration (AIP-63). Not derived, but given."""

_FROM_USER = b"\xfc"
_FROM_SEED = b"\xfe"


def long(text: str) -> str:
    """The address in the long form. Nodes drop leading zeros."""
    return "0x" + text.removeprefix("0x").lower().rjust(64, "0")


@lru_cache(maxsize=65_536)  # the same payers and wallets come again
def primary_store(owner: str, metadata: str) -> str:
    """Where this owner's units of the asset lie, unless somebody chose another place for them."""
    return _hashed(_raw(owner) + _raw(metadata) + _FROM_USER)


@lru_cache(maxsize=4_096)
def paired_metadata(coin_type: str) -> str:
    """The fungible asset that a coin is paired with: units of either become the other, one for one.

    `coin_type` as nodes spell it, `0x1::aptos_coin::AptosCoin`: without leading zeros.
    """
    if coin_type == APT_COIN:
        return APT_METADATA
    return _hashed(_raw(APT_METADATA) + coin_type.encode() + _FROM_SEED)


def _raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def _hashed(content: bytes) -> str:
    return "0x" + hashlib.sha3_256(content).hexdigest()
