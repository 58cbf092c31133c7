"""How EVM chains spell addresses (EIP-55), transactions and payment requests (EIP-681)."""

import re

from eth_utils.address import is_checksum_formatted_address, to_checksum_address

from core.errors import InvalidRequestError

TELLS_PAYER = True
TAKES_TAGS = False
DERIVES = True

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_CHAIN_TX = re.compile(r"(0x)?[0-9a-fA-F]{64}")


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
