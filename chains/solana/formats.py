"""How Solana spells addresses, signatures, tags and payment requests (Solana Pay). Asks no node.

CAIP-2: `solana:` and the first 32 characters of the genesis hash. CAIP-19: `slip44:501`, `token:<mint>`. Base58 has
both cases of most letters: nothing here is ever lower-cased, and one value has one spelling.
"""

import secrets
import unicodedata
from typing import NoReturn
from urllib.parse import quote

from solders.pubkey import Pubkey
from solders.signature import Signature

from core.errors import InvalidRequestError

TELLS_PAYER = True
TAKES_TAGS = True
DERIVES = False
"""Ed25519 keys (SLIP-10) derive hardened children only, which takes the private key. Addresses come from a pool."""

TAG_BYTES_MAX = 64
"""Room for a reference key (44 characters) and for what people write."""
_TEXT_CHARS_MAX = 4 * TAG_BYTES_MAX


def parse_address(chain: str, text: str) -> str:
    """A wallet: 32 bytes in base58 that are a point of the curve.

    Solana's addresses have no checksum. Only keys lie on the curve: derived addresses never do, so that a token account
    in place of its owner is refused, and with it half of all misspelled addresses. Raises InvalidRequestError.
    """
    found = key(text)
    if found is None:
        raise InvalidRequestError(f"{text!r} is not an address of {chain}: 32 bytes in base58", field="address")
    if not found.is_on_curve():
        raise InvalidRequestError(
            f"{text!r} is no wallet of {chain}: nobody can have its key. Is it a token account, or misspelled?",
            field="address",
        )
    return str(found)


def parse_chain_tx(chain: str, text: str) -> str:
    """The transaction's first signature: 64 bytes in base58."""
    try:
        return str(Signature.from_string(text))
    except ValueError:
        raise InvalidRequestError(
            f"{text!r} is not a transaction's signature on {chain}: 64 bytes in base58", field="chain_tx"
        ) from None


def parse_tag(chain: str, text: str) -> str:
    """A reference key or a memo: printable text of 1 to 64 bytes of UTF-8, without blanks around it, composed (NFC)."""
    tag = canonical_tag(text)
    if tag is None:
        raise InvalidRequestError(f"a tag on {chain} is printable text of 1 to {TAG_BYTES_MAX} bytes", field="tag")
    return tag


def canonical_tag(text: str) -> str | None:
    """As `parse_tag`, for memos that anybody may have written: None where it would refuse."""
    if len(text) > _TEXT_CHARS_MAX:
        return None
    tag = unicodedata.normalize("NFC", text.strip())
    return tag if tag and tag.isprintable() and len(tag.encode()) <= TAG_BYTES_MAX else None


def new_tag(chain: str) -> str:  # noqa: ARG001  # the interface's
    """A reference key of Solana Pay: 32 random bytes, which need be no key of anybody's."""
    return str(Pubkey(secrets.token_bytes(Pubkey.LENGTH)))


def check_extended_key(chain: str, key: str) -> str:  # noqa: ARG001  # the key is not repeated: it may be private
    _no_derivation(chain)


def derive(chain: str, key: str, index: int) -> str:  # noqa: ARG001
    _no_derivation(chain)


def payment_uri(
    chain: str,  # noqa: ARG001  # a transfer request doesn't say which cluster is meant
    address: str,
    *,
    asset: str,
    scale: int,
    units: int | None,
    tag: str | None,
) -> str:
    """A transfer request (docs.solanapay.com/spec). A tag of 32 bytes in base58 is a reference, any other a memo."""
    fields = {}
    if units is not None:
        fields["amount"] = _decimal(units, scale)
    kind, _, mint = asset.partition("/")[2].partition(":")
    if kind == "token":
        fields["spl-token"] = mint
    if tag is not None:
        fields["memo" if key(tag) is None else "reference"] = tag
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
    return f"solana:{address}?{query}" if query else f"solana:{address}"


def key(text: str) -> Pubkey | None:
    """The 32 bytes that the text spells, or None."""
    try:
        return Pubkey.from_string(text)
    except ValueError:
        return None


def _decimal(units: int, scale: int) -> str:
    """Exact, in the asset's unit of display, without trailing zeros."""
    whole, part = divmod(units, 10**scale)
    decimals = str(part).rjust(scale, "0").rstrip("0") if part else ""
    return f"{whole}.{decimals}" if decimals else str(whole)


def _no_derivation(chain: str) -> NoReturn:
    raise InvalidRequestError(
        f"addresses of {chain} can't be derived from a public key (ed25519): register a pool of them", field="key"
    )
