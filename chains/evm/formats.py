"""How EVM chains spell addresses (EIP-55), transactions, extended keys (BIP-32, 44) and payment requests (EIP-681)."""

import re
from typing import TYPE_CHECKING

from eth_utils.address import is_checksum_formatted_address, to_checksum_address
from eth_utils.crypto import keccak

from core.errors import InvalidRequestError

if TYPE_CHECKING:
    from bip32 import BIP32  # type: ignore[import-untyped]

TELLS_PAYER = True
TAKES_TAGS = False
DERIVES = True

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_ASSET = re.compile(r"slip44:\d+|erc20:(0x[0-9a-f]{40})")
_CHAIN_TX = re.compile(r"(0x)?[0-9a-fA-F]{64}")

_BASE58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{1,120}")
_XPUB = bytes.fromhex("0488b21e")
_XPRV = bytes.fromhex("0488ade4")
_EXTENDED_BYTES = 78
_HARDENED = 2**31
_ACCOUNT_DEPTH, _BRANCH_DEPTH = 3, 4


def parse_address(chain: str, text: str) -> str:
    """EIP-55 mixed case. Raises InvalidRequestError if it is malformed, or mixed case with a wrong checksum."""
    if not _ADDRESS.fullmatch(text):
        raise InvalidRequestError(f"{text!r} is not an address of {chain}: 0x and 40 hex digits", field="address")
    canonical: str = to_checksum_address(text)
    if is_checksum_formatted_address(text) and text != canonical:
        raise InvalidRequestError(f"the address {text!r} has a wrong checksum (EIP-55)", field="address")
    return canonical


def parse_chain_tx(chain: str, text: str) -> str:
    """0x and lower case."""
    if not _CHAIN_TX.fullmatch(text):
        raise InvalidRequestError(f"{text!r} is not a transaction hash of {chain}: 64 hex digits", field="chain_tx")
    return "0x" + text.removeprefix("0x").lower()


def parse_tag(chain: str, text: str) -> str:  # noqa: ARG001  # the interface's
    raise InvalidRequestError(f"payments on {chain} carry no tag", field="tag")


def new_tag(chain: str) -> str:
    return parse_tag(chain, "")


# Extended keys


def check_extended_key(chain: str, key: str) -> str:  # noqa: ARG001  # the same on every EVM chain
    """Of an account or of its external branch: an xpub, whatever the chain, as wallets show it.

    A master key (depth 0) is refused: addresses right below it are no wallet's, and it would show all other accounts.
    """
    _unpacked(key)
    return key


def derive(chain: str, key: str, index: int) -> str:  # noqa: ARG001
    """The address of the external branch's child `index`.

    | Key | Depth | Path |
    |---|---|---|
    | of an account, m/44'/60'/n' | 3 | 0/index |
    | of its external branch, m/44'/60'/n'/0 | 4 | index |
    """
    if not 0 <= index < _HARDENED:
        raise InvalidRequestError(f"there is no child {index}: 0 to {_HARDENED - 1}", field="index")
    from coincurve import PublicKey

    extended, above = _unpacked(key)
    point = PublicKey(extended.get_pubkey_from_path([*above, index])).format(compressed=False)
    address: str = to_checksum_address(keccak(point[1:])[-20:])
    return address


def _unpacked(key: str) -> "tuple[BIP32, list[int]]":
    """The key and the path from it to the external branch. No error repeats the key: it may be private."""
    from bip32 import BIP32
    from bip32.base58 import b58decode_check  # type: ignore[import-untyped]

    try:
        raw = b58decode_check(key) if _BASE58.fullmatch(key) else b""  # the library forgives white space
    except ValueError:
        raw = b""
    if len(raw) != _EXTENDED_BYTES:
        raise _refused("it is not base58 of 78 bytes with its checksum")
    if raw[:4] == _XPRV or raw[45] == 0:
        raise _refused("it is private: such a key must never be given to anybody, and has to be given up now")
    if raw[:4] != _XPUB:
        raise _refused("it is not an xpub")
    depth, number = raw[4], int.from_bytes(raw[9:13])
    if depth not in (_ACCOUNT_DEPTH, _BRANCH_DEPTH):
        raise _refused(f"its depth is {depth}; an account's is {_ACCOUNT_DEPTH}, its external branch's {_BRANCH_DEPTH}")
    if depth == _BRANCH_DEPTH and number != 0:
        raise _refused(f"it is branch {number} of an account; the external one is 0, and 1 is the wallet's change")
    try:
        extended = BIP32.from_xpub(key)
    except ValueError:
        raise _refused("it holds no point of the curve") from None
    return extended, [0] if depth == _ACCOUNT_DEPTH else []


def _refused(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"this extended key can't be used: {why}", field="key")


# Payment requests


def payment_uri(
    chain: str,
    address: str,
    *,
    asset: str,
    scale: int,  # noqa: ARG001  # EIP-681 counts in the smallest units
    units: int | None,
    tag: str | None,
) -> str | None:
    """EIP-681: of the coin `ethereum:<recipient>@<chain>?value=`, of a token a call of its contract's `transfer`."""
    if tag is not None:
        parse_tag(chain, tag)
    recipient, number = parse_address(chain, address), chain.partition(":")[2]
    on, _, reference = asset.partition("/")
    match = _ASSET.fullmatch(reference)
    if on != chain or match is None:
        raise InvalidRequestError(f"{asset!r} is no asset of {chain}", field="asset")
    if match[1] is None:
        return f"ethereum:{recipient}@{number}" + ("" if units is None else f"?value={units}")
    contract = parse_address(chain, match[1])
    amount = "" if units is None else f"&uint256={units}"
    return f"ethereum:{contract}@{number}/transfer?address={recipient}{amount}"
