"""How Aptos spells addresses (AIP-40), transactions and assets. Asks no node."""

import re
from urllib.parse import quote, unquote

from chains.aptos.objects import long
from core.errors import InvalidRequestError

TELLS_PAYER = True
TAKES_TAGS = False
DERIVES = False
"""Keys are ed25519: by SLIP-10 every child is hardened, so that no public key tells of the next address."""

_ADDRESS = re.compile(r"0x([0-9a-fA-F]{64}|[0-9a-fA-F])")
_CHAIN_TX = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_METADATA = re.compile(r"0x[0-9a-f]{64}")
_COIN_TYPE = re.compile(r"0x[1-9a-f][0-9a-f]{0,63}::[A-Za-z_]\w*::[A-Za-z_]\w*(<[\w:<>, ]+>)?", re.ASCII)


def parse_address(chain: str, text: str) -> str:
    """The long form, 0x and 64 lower-case hex digits, of every address. AIP-40's short form of 0x0 to 0xf is taken too.

    An address that lacks leading zeros is refused, as AIP-40 has it: it looks the same as one that was cut off.
    """
    if not _ADDRESS.fullmatch(text):
        raise InvalidRequestError(f"{text!r} is not an address of {chain}: 0x and 64 hex digits", field="address")
    return long(text)


def parse_chain_tx(chain: str, text: str) -> str:
    """0x and lower case."""
    if not _CHAIN_TX.fullmatch(text):
        raise InvalidRequestError(f"{text!r} is not a transaction hash of {chain}: 64 hex digits", field="chain_tx")
    return "0x" + text.removeprefix("0x").lower()


def parse_tag(chain: str, text: str) -> str:  # noqa: ARG001  # the interface's
    raise InvalidRequestError(f"payments on {chain} carry no tag", field="tag")


def new_tag(chain: str) -> str:
    return parse_tag(chain, "")


def check_extended_key(chain: str, key: str) -> str:  # noqa: ARG001  # what is refused is not repeated: it may be private
    raise InvalidRequestError(
        f"addresses on {chain} can't be derived from a public key; give a pool of them", field="key"
    )


def derive(chain: str, key: str, index: int) -> str:  # noqa: ARG001
    return check_extended_key(chain, key)


def payment_uri(
    chain: str,  # noqa: ARG001  # the interface's
    address: str,  # noqa: ARG001
    *,
    asset: str,  # noqa: ARG001
    scale: int,  # noqa: ARG001
    units: int | None,  # noqa: ARG001
    tag: str | None,  # noqa: ARG001
) -> str | None:
    """None: Aptos's wallets have agreed on no form."""
    return None


def coin_reference(coin_type: str) -> str:
    """The coin's type as CAIP-19's reference: it takes neither `::` nor `_`, and recommends percent encoding."""
    return quote(coin_type, safe="").replace("_", "%5F").replace("~", "%7E")


def asset_metadata(reference: str) -> str | None:
    """The fungible asset's metadata object, if the reference is one's canonical spelling."""
    return reference if _METADATA.fullmatch(reference) else None


def asset_coin_type(reference: str) -> str | None:
    """The coin's type, if the reference is one's canonical spelling."""
    coin_type = unquote(reference)
    return coin_type if _COIN_TYPE.fullmatch(coin_type) and coin_reference(coin_type) == reference else None
