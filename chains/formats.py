"""How addresses and transaction ids are spelled, by CAIP-2 namespace. Pure: importable where no node is ever asked."""

import re

from eth_utils.address import is_checksum_formatted_address, to_checksum_address

from core.errors import InvalidRequestError

_EVM_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_EVM_CHAIN_TX = re.compile(r"(0x)?[0-9a-fA-F]{64}")


def parse_address(chain: str, text: str) -> str:
    """The address in the chain's canonical spelling (EVM: EIP-55 mixed case).

    Raises InvalidRequestError if it is malformed, or mixed case with a wrong EIP-55 checksum.
    """
    _need_evm(chain)
    if not _EVM_ADDRESS.fullmatch(text):
        raise InvalidRequestError(f"{text!r} is not an address of {chain}: 0x and 40 hex digits", field="address")
    canonical: str = to_checksum_address(text)
    if is_checksum_formatted_address(text) and text != canonical:
        raise InvalidRequestError(f"the address {text!r} has a wrong checksum (EIP-55)", field="address")
    return canonical


def parse_chain_tx(chain: str, text: str) -> str:
    """The transaction id in canonical spelling (EVM: 0x and lower case), so that one transaction has one name.

    Raises InvalidRequestError if it is malformed.
    """
    _need_evm(chain)
    if not _EVM_CHAIN_TX.fullmatch(text):
        raise InvalidRequestError(f"{text!r} is not a transaction hash of {chain}: 64 hex digits", field="chain_tx")
    return "0x" + text.removeprefix("0x").lower()


def _need_evm(chain: str) -> None:
    if not chain.startswith("eip155:"):
        raise InvalidRequestError(f"the chain {chain!r} is not supported", field="chain")
