"""What a token of EIP-20 is asked and told: call data and answers. Pure."""

import re

from chains.errors import MalformedError
from chains.http import Call

BALANCE_OF = "0x70a08231"
"""First four bytes of keccak256 of balanceOf(address)."""
TRANSFER = "0xa9059cbb"
"""Likewise of transfer(address,uint256)."""

_WORD = re.compile(r"0x[0-9a-fA-F]{64}")
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*")


def word(address: str) -> str:
    """An address as 32 bytes: a topic, or an argument."""
    return "0x" + address.lower().removeprefix("0x").rjust(64, "0")


def balance_call(contract: str, owner: str, at: object) -> Call:
    """`at`: a tag, a number, or a block's hash as EIP-1898 has it."""
    return ("eth_call", [{"to": contract, "data": BALANCE_OF + word(owner)[2:]}, at])


def transfer_data(to: str, units: int) -> str:
    return f"{TRANSFER}{word(to)[2:]}{units:064x}"


def number(answer: object) -> int | None:
    """Of an answer to eth_call; None where the contract told no number. Raises MalformedError for no answer at all."""
    if not isinstance(answer, str) or not _DATA.fullmatch(answer):
        raise MalformedError(f"{answer!r:.80} is not what a contract answers")
    return int(answer, 16) if _WORD.fullmatch(answer) else None
