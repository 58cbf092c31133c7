"""What Solana keeps at an address: a wallet, a token's mint, somebody's account of a token.

Layouts: SPL Token's state.rs, which Token-2022 begins with and extends by records of type, length and value.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

from solders.pubkey import Pubkey

from chains.errors import MalformedError
from chains.fields import Json, listing, mapping
from chains.http import HttpEndpoint
from chains.solana.fields import address, u64
from chains.solana.instructions import SYSTEM, TOKENS

_TOKEN_ACCOUNT = 165
_MINT = 82
_FROZEN = 2
_MINT_TYPE = 1
_TRANSFER_FEE = 1
_TRANSFER_FEE_BYTES = 108


@dataclass(frozen=True)
class Account:
    lamports: int
    owner: str
    """The program that it belongs to."""
    data: bytes = field(repr=False)

    @property
    def is_wallet(self) -> bool:
        """Whether it is nothing but a key's coins: no token account, nonce, stake or program."""
        return self.owner == SYSTEM and not self.data


@dataclass(frozen=True)
class TokenAccount:
    mint: str
    owner: str
    units: int
    frozen: bool


@dataclass(frozen=True)
class Mint:
    program: str
    decimals: int
    takes_fee: bool
    """Of its transfers, now or soon (Token-2022): then who is paid gets less than was sent."""


def read_accounts(endpoint: HttpEndpoint, addresses: Sequence[str], config: Json) -> list[Account | None]:
    """As of the commitment that `config` names, all at one slot. None where nothing is."""
    asked = {**config, "encoding": "base64"}
    (answer,) = endpoint.ask([("getMultipleAccounts", [list(addresses), asked])])
    rows = listing(mapping(answer).get("value"))
    if len(rows) != len(addresses):
        raise MalformedError(f"asked for {len(addresses)} accounts, told of {len(rows)}")
    return [None if row is None else _account(mapping(row)) for row in rows]


def _account(raw: Json) -> Account:
    match raw.get("data"):
        case [str() as text, "base64"]:
            pass
        case _:
            raise MalformedError("an account's data is not in base64")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("an account's data is not base64") from None
    return Account(lamports=u64(raw.get("lamports")), owner=address(raw.get("owner")), data=data)


def token_account(account: Account | None) -> TokenAccount | None:
    """None for what is none."""
    if account is None or account.owner not in TOKENS or len(account.data) < _TOKEN_ACCOUNT:
        return None
    data = account.data
    return TokenAccount(
        mint=str(Pubkey(data[:32])),
        owner=str(Pubkey(data[32:64])),
        units=int.from_bytes(data[64:72], "little"),
        frozen=data[108] == _FROZEN,
    )


def mint(account: Account | None) -> Mint | None:
    """None for what is none."""
    if account is None or account.owner not in TOKENS or len(account.data) < _MINT:
        return None
    return Mint(program=account.owner, decimals=account.data[44], takes_fee=_takes_fee(account.data))


def _takes_fee(data: bytes) -> bool:
    at = _TOKEN_ACCOUNT + 1
    if len(data) <= at or data[_TOKEN_ACCOUNT] != _MINT_TYPE:
        return False
    while at + 4 <= len(data):
        kind, length = (int.from_bytes(data[start : start + 2], "little") for start in (at, at + 2))
        value = data[at + 4 : at + 4 + length]
        if kind == _TRANSFER_FEE and length == _TRANSFER_FEE_BYTES:
            # The rate, in hundredths of a percent, ends each of two records: that of now, and that of an epoch to come.
            return any(value[88:90]) or any(value[106:108])
        at += 4 + length
    return False
