"""What the signer knows of a chain: how a key's address is spelled, and how a version of an order is built and signed.

It builds what it signs from an order's fields; it never signs bytes that somebody brings. So it knows no other chain
transactions than payments of what its policy lists, and those that cancel one.
"""

from dataclasses import dataclass, field
from typing import Protocol

from chains.sending import Order, Terms


class UnfitError(ValueError):
    """The order or its terms are nothing that this chain's signer can build. Its words hold no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    chain_tx: str
    raw: str = field(repr=False)
    """In hex."""
    fee_max: int
    """Units of the chain's coin that it costs at most, as computed from what was built: the policy goes by this."""
    conflicts: frozenset[str] = frozenset()
    """What it uses up, as `Terms.inputs`. Empty where it ends by time."""
    ends: int | None = None


class ChainSigner(Protocol):
    """Pure: no network, no clock, no state. `secret`: 32 bytes, a private key (Solana: an ed25519 seed)."""

    def address(self, chain: str, secret: bytes) -> str:
        """As `chains.formats` spells it."""

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        """The same for the same, to the byte. Raises UnfitError, also if the wallet is not the key's."""
