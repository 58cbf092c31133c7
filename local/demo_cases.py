"""Who pays what in the demo, and what must come of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

from core.money import display
from local.devchain import DevChain

CHAIN = "eip155:31337"
COIN = f"{CHAIN}/slip44:60"
ETHER = 10**18
DOLLAR = 10**6
TOKEN = "token"
"""Stands for the demo's ERC-20, whose address is known only once it is deployed."""


@dataclass(frozen=True)
class Cast:
    """The addresses of the play."""

    token: str
    lookalike: str
    """An ERC-20 with the same name and symbol, and worth nothing."""
    shop: str
    """The app's address that everybody pays to and claims by hash."""
    pool: tuple[str, ...]
    """Addresses that the app hands out, one to each owner."""
    beggar: str
    """Has ether for fees and not one token."""

    @classmethod
    def on(cls, chain: DevChain) -> Self:
        names = ("USD X", "USDX", 6, 10**9 * DOLLAR)
        return cls(
            token=chain.deploy("TestToken", *names),
            lookalike=chain.deploy("TestToken", *names),
            shop=chain.new_account(),
            pool=tuple(chain.new_account() for _ in range(4)),
            beggar=chain.new_account(units=ETHER),
        )

    @property
    def token_asset(self) -> str:
        return f"{CHAIN}/erc20:{self.token.lower()}"


Pay = Callable[[DevChain, Cast, str], str]
"""(chain, cast, address to pay) -> the hash of the transaction."""


@dataclass
class Case:
    """One deposit: what the app asks for, what the payer does, and what must come of it."""

    name: str
    title: str
    asset: str
    units: int
    """What the app expects."""
    send: Pay
    state: str = "credited"
    reason: str | None = None
    booked: int = 0
    """What must end up in the books."""
    tolerance_bps: int = 0
    by_hash: bool = True
    paid: list[str] = field(default_factory=list)
    raw: str = ""
    """The signed transaction."""

    @property
    def account(self) -> str:
        return f"user:{self.name}:available"

    @property
    def pays_first(self) -> bool:
        """Who pays to the shop's address tells the hash afterwards; the others must be told where to pay."""
        return self.by_hash

    def asset_of(self, cast: Cast) -> str:
        return cast.token_asset if self.asset == TOKEN else self.asset

    def pay(self, chain: DevChain, cast: Cast, address: str | None) -> None:
        chain_tx = self.send(chain, cast, address or cast.shop)
        self.paid.append(chain_tx)
        self.raw = chain.rpc("eth_getRawTransactionByHash", chain_tx)

    def request(self, cast: Cast) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "asset": self.asset_of(cast),
            "units": str(self.units),
            "account": self.account,
            "tolerance_bps": self.tolerance_bps,
        }
        return asked | ({"chain_tx": self.paid[0], "address": cast.shop} if self.by_hash else {})

    def amount(self, units: str | None) -> str:
        if units is None:
            return ""
        return f"{display(int(units), 18)} ETH" if self.asset == COIN else f"{display(int(units), 6)} USDX"


def _ether(units: int) -> Pay:
    return lambda chain, _cast, to: chain.send(to, units)


def _token(units: int) -> Pay:
    return lambda chain, cast, to: chain.send_token(cast.token, to, units)


@cache
def cases() -> tuple[Case, ...]:
    return (
        Case("alice", "ether, by hash", COIN, 3 * ETHER // 2, _ether(3 * ETHER // 2), booked=3 * ETHER // 2),
        Case("bob", "tokens, to an address allotted to him", TOKEN, 250 * DOLLAR, _token(250 * DOLLAR),
             by_hash=False, booked=250 * DOLLAR),
        Case("carol", "tokens, by hash, 5 % tolerance", TOKEN, 100 * DOLLAR, _token(97 * DOLLAR),
             tolerance_bps=500, booked=97 * DOLLAR),
        Case("dave", "tokens, by hash, pays too little", TOKEN, 100 * DOLLAR, _token(60 * DOLLAR),
             state="suspended", reason="underpaid", booked=60 * DOLLAR),
        Case("erin", "tokens, by hash, has none to send", TOKEN, 40 * DOLLAR,
             lambda chain, cast, to: chain.send_token(cast.token, to, 40 * DOLLAR, sender=cast.beggar),
             state="rejected", reason="reverted"),
        Case("frank", "tokens, by hash, of a look-alike contract", TOKEN, 500 * DOLLAR,
             lambda chain, cast, to: chain.send_token(cast.lookalike, to, 500 * DOLLAR),
             state="rejected", reason="wrong_token"),
        Case("grace", "ether, to an address allotted to her", COIN, 2 * ETHER // 5, _ether(2 * ETHER // 5),
             by_hash=False, booked=2 * ETHER // 5),
    )  # fmt: skip


@cache
def reorged_case() -> Case:
    return Case("heidi", "ether, by hash, lost in a reorg, sent again", COIN, ETHER // 4, _ether(ETHER // 4),
                booked=ETHER // 4)  # fmt: skip
