"""How Tron spells addresses (base58check with the prefix 0x41), transactions and tags (memos). Asks no node.

Addresses and extended keys: developers.tron.network, BIP-32, SLIP-44 (coin type 195). tronpy is not imported here: it
takes more than a second, and this module is the API's too.
"""

import re
import secrets
import unicodedata
from functools import lru_cache

import base58

from core.errors import InvalidRequestError

TELLS_PAYER = True
TAKES_TAGS = True
DERIVES = True

PREFIX = 0x41
"""The first of an address's 21 bytes, on every Tron network."""
TAG_BYTES_MAX = 64

_ADDRESS = re.compile(r"T[1-9A-HJ-NP-Za-km-z]{33}")
_HEX_ADDRESS = re.compile(r"(0x)?[0-9a-fA-F]{42}")
_CHAIN_TX = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_EXTENDED_KEY = re.compile(r"[1-9A-HJ-NP-Za-km-z]{111,112}")
_PUBLIC = 0x0488B21E
_ACCOUNT_DEPTH = 3
_INDEX_MAX = 2**31 - 1

_TAG_ALPHABET = "346789ACDEFGHJKMNPQRTVWXY"
"""None looks like another: no 0 and O, 1 and I and L, 2 and Z, 5 and S, B and 8, U and V."""
_TAG_LENGTH = 10


def parse_address(chain: str, text: str) -> str:
    """Base58check. The hex form `41...` of 21 bytes is taken too; case is never changed, as base58 has both."""
    return spelled(raw_address(chain, text))


@lru_cache(maxsize=16_384)  # the same payers and wallets come again
def raw_address(chain: str, text: str) -> bytes:
    """The address's 21 bytes. Raises InvalidRequestError as `parse_address`."""
    raw: bytes | None = None
    if _ADDRESS.fullmatch(text):
        try:
            raw = base58.b58decode_check(text)
        except ValueError:
            raise InvalidRequestError(f"the address {text!r} has a wrong checksum", field="address") from None
    elif _HEX_ADDRESS.fullmatch(text):
        raw = bytes.fromhex(text.removeprefix("0x"))
    if raw is None or len(raw) != 21 or raw[0] != PREFIX:  # noqa: PLR2004  # a prefix and 20 bytes
        raise InvalidRequestError(f"{text!r} is not an address of {chain}: T and 33 more characters", field="address")
    return raw


@lru_cache(maxsize=16_384)
def spelled(raw: bytes) -> str:
    """The address of these 21 bytes."""
    return base58.b58encode_check(raw).decode("ascii")


def parse_chain_tx(chain: str, text: str) -> str:
    """64 lower-case hex digits, without 0x."""
    if not _CHAIN_TX.fullmatch(text):
        raise InvalidRequestError(f"{text!r} is not a transaction id of {chain}: 64 hex digits", field="chain_tx")
    return text.removeprefix("0x").lower()


def parse_tag(chain: str, text: str) -> str:
    """Printable text of at most 64 bytes of UTF-8, without blanks around it, in Unicode's composed form (NFC)."""
    tag = canonical_tag(text)
    if tag is None:
        raise InvalidRequestError(f"a tag on {chain} is printable text of 1 to {TAG_BYTES_MAX} bytes", field="tag")
    return tag


def canonical_tag(text: str) -> str | None:
    """As `parse_tag`, for memos that anybody may have written: None where it would refuse."""
    if len(text) > 4 * TAG_BYTES_MAX:
        return None
    tag = unicodedata.normalize("NFC", text.strip())
    return tag if tag and tag.isprintable() and len(tag.encode()) <= TAG_BYTES_MAX else None


def new_tag(chain: str) -> str:  # noqa: ARG001  # the interface's
    """46 bits at random, in letters that a person can read out."""
    return "".join(secrets.choice(_TAG_ALPHABET) for _ in range(_TAG_LENGTH))


def check_extended_key(chain: str, key: str) -> str:
    """An account's key (m/44'/195'/n') that begins with xpub. What is refused is not repeated: it may be private."""
    raw = b""
    if _EXTENDED_KEY.fullmatch(key):
        try:
            raw = base58.b58decode_check(key)
        except ValueError:
            raw = b""
    if len(raw) != 78:  # noqa: PLR2004  # BIP-32
        raise InvalidRequestError("this is not an extended public key: xpub, with a right checksum", field="key")
    version, public = int.from_bytes(raw[:4], "big"), raw[45] in (2, 3)
    if not public:
        raise InvalidRequestError("this is a private key, which has no place here; give its xpub", field="key")
    if version != _PUBLIC:
        raise InvalidRequestError(
            f"this is an extended key of another network than {chain}, which takes xpub", field="key"
        )
    if raw[4] != _ACCOUNT_DEPTH:
        raise InvalidRequestError(f"this is not an account's key (m/44'/195'/n'): its depth is {raw[4]}", field="key")
    _parent(key)
    return key


def derive(chain: str, key: str, index: int) -> str:
    """The address at 0/index of the account: what wallets call its external chain."""
    if not 0 <= index <= _INDEX_MAX:
        raise InvalidRequestError(f"{index} is not an index of an address on {chain}", field="index")
    return spelled(bytes([PREFIX]) + _last_20_of_hash(_parent(key), index))


def payment_uri(
    chain: str,  # noqa: ARG001  # the interface's
    address: str,  # noqa: ARG001
    *,
    asset: str,  # noqa: ARG001
    scale: int,  # noqa: ARG001
    units: int | None,  # noqa: ARG001
    tag: str | None,  # noqa: ARG001
) -> str | None:
    """None: Tron's wallets have agreed on no form."""
    return None


@lru_cache(maxsize=64)
def _parent(key: str) -> tuple[bytes, bytes]:
    """Chain code and public key of the external chain."""
    from bip32 import BIP32  # type: ignore[import-untyped]

    try:
        chaincode, public = BIP32.from_xpub(key).get_extended_pubkey_from_path([0])
    except (ValueError, AssertionError):
        raise InvalidRequestError("this is not an extended public key: no point of the curve", field="key") from None
    return chaincode, public


def _last_20_of_hash(parent: tuple[bytes, bytes], index: int) -> bytes:
    from bip32 import BIP32
    from coincurve import PublicKey
    from eth_utils.crypto import keccak

    chaincode, public = parent
    child = BIP32(chaincode, pubkey=public).get_pubkey_from_path([index])
    return keccak(PublicKey(child).format(compressed=False)[1:])[-20:]
