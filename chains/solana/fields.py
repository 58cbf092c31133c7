"""Fields of a node's JSON that only Solana has. What no node may say raises MalformedError."""

import base58
from solders.pubkey import Pubkey
from solders.signature import Signature

from chains.errors import MalformedError
from chains.fields import U64_MAX, whole

_DIGITS = {letter: digit for digit, letter in enumerate(base58.BITCOIN_ALPHABET.decode())}
_AT_ONCE = 11
"""Digits of base58 that fit into 64 bits."""


def u64(value: object) -> int:
    """An amount."""
    return whole(value, U64_MAX)


def address(value: object) -> str:
    """32 bytes in base58: a key, or a hash."""
    try:
        return str(Pubkey.from_string(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise MalformedError(f"{value!r:.80} is not 32 bytes in base58") from None


def signature(value: object) -> str:
    try:
        return str(Signature.from_string(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise MalformedError(f"{value!r:.80} is not a signature") from None


def unspelled(text: str) -> bytes:
    """Base58 of any length, as the library reads it, in a tenth of its time for a long one: anybody can write such."""
    try:
        digits = [_DIGITS[letter] for letter in text]
    except KeyError:
        raise MalformedError(f"{text!r:.80} is not base58") from None
    number = 0
    for start in range(0, len(digits), _AT_ONCE):
        part, some = 0, digits[start : start + _AT_ONCE]
        for digit in some:
            part = part * 58 + digit
        number = number * 58 ** len(some) + part
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
