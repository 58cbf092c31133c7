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

NAMES_ITS_CHAIN = frozenset({"eip155"})


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
    found: dict[str, Wallet] = {}
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
        _check_alone(name, each.chain, key.secret, found)
        found[each.chain] = Wallet(address, each, signer, key.secret)
    return found


def _check_alone(name: str, chain: str, secret: bytes, others: Mapping[str, Wallet]) -> None:
    """Only where a signature names its chain (EIP-155) may a key be used on several of a kind.

    Elsewhere what was signed for a test network is as good on the main one, if its block or its inputs are: then the
    limits of one would be the limits of the other.
    """
    namespace = registry.namespace_of(chain)
    for other, wallet in others.items():
        if namespace not in NAMES_ITS_CHAIN and registry.namespace_of(other) == namespace and wallet.secret == secret:
            raise BootError(f"the wallet {name!r}: its key is that of {other}, and what is signed there is good here")


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
