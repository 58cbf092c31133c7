"""One request through all that decides it: who pays, the policy, what the chain's signer builds, the journal."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chains.sending import Order, Terms
from signer import registry
from signer.base import ChainSigner, Signed, UnfitError
from signer.errors import BootError, RefusedError
from signer.journal import DayLimits, Journal
from signer.keys import Key
from signer.policy import Policy, WalletPolicy

SignerOf = Callable[[str], ChainSigner]
Clock = Callable[[], float]


class LateError(Exception):
    """Nothing was signed for this request."""


class BrokenError(Exception):
    """A fault of ours in building what is to be signed. It says what kind, and no more: the rest may hold a key."""


@dataclass(frozen=True, slots=True)
class Wallet:
    address: str
    policy: WalletPolicy
    signer: ChainSigner
    secret: bytes = field(repr=False)


def wallets(policy: Policy, keys: Mapping[str, Key], signer_of: SignerOf = registry.of) -> dict[str, Wallet]:
    """By chain. Raises BootError if a key is missing, or made for another kind of chain."""
    found = {}
    for name, each in policy.wallets.items():
        key, namespace = keys.get(each.key), registry.namespace_of(each.chain)
        if key is None:
            raise BootError(f"the wallet {name!r}: the keystore has no key {each.key!r}")
        if key.namespace != namespace:
            raise BootError(f"the wallet {name!r}: the key {each.key!r} was made for {key.namespace}")
        signer = signer_of(namespace)
        try:
            address = signer.address(each.chain, key.secret)
        except UnfitError as error:
            raise BootError(f"the wallet {name!r}: {error}") from None
        found[each.chain] = Wallet(address, each, signer, key.secret)
    return found


class Desk:
    """Safe to use from several threads."""

    def __init__(self, wallets_by_chain: Mapping[str, Wallet], journal: Journal) -> None:
        self.wallets = wallets_by_chain
        self.journal = journal

    def sign(
        self, order: Order, number: int, terms: Terms, *, until: float = math.inf, clock: Clock = time.monotonic
    ) -> tuple[Signed, bool]:
        """What was signed, and whether it was now. After `until`, by `clock`, nothing new is signed.

        Raises RefusedError, ContradictionError, UnfitError, LateError, BrokenError, sqlite3.Error. Nothing was signed
        for this request then, or it was and the next try is answered with it.
        """

        def build() -> tuple[Signed, DayLimits]:
            if clock() > until:
                raise LateError("it has waited for too long, and nobody may be there any more to take the answer")
            return self._built(order, terms)

        return self.journal.once(order, number, terms, build)

    def _built(self, order: Order, terms: Terms) -> tuple[Signed, DayLimits]:
        wallet = self.wallets.get(order.chain)
        if wallet is None or wallet.address != order.wallet:
            raise RefusedError("wallet", "the policy lists no such wallet on this chain")
        # What cancels moves nothing, and must still be possible when the policy has grown narrower.
        units_max = 0 if terms.cancels else wallet.policy.check(order).day_max
        signed = _built(wallet, order, terms)
        if signed.conflicts != frozenset(terms.inputs):
            raise UnfitError("it uses up other inputs than its terms say")
        if signed.ends != terms.ends or signed.fee_max > terms.fee_max:
            raise UnfitError("it ends or costs otherwise than its terms say")
        if not signed.conflicts and signed.ends is None:
            raise UnfitError("it uses nothing up and never ends")
        wallet.policy.check_fee(signed.fee_max)
        return signed, DayLimits(units_max=units_max, fee_max=wallet.policy.fee_day_max)


def _built(wallet: Wallet, order: Order, terms: Terms) -> Signed:
    try:
        return wallet.signer.build(wallet.secret, order, terms)
    except UnfitError:
        raise
    except Exception as error:  # noqa: BLE001  # libraries put what they were given into their words
        kind = type(error).__name__
    raise BrokenError(f"building it failed with {kind}")
