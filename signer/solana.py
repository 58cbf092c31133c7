"""Solana: payments of SOL and of tokens, built by chains/solana/payments.py and signed by ed25519 (RFC 8032).

Such a signature is the same each time, so the transaction's id, which is its first signature, is too. An order has one
version here: two of them would exclude each other only by time.
"""

from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from chains.sending import Order, Terms
from chains.solana.payments import LIFE, message, plan_of
from signer.base import Signed, UnfitError

SECRET_BYTES = 32


class SolanaSigner:
    """`secret`: an ed25519 seed, the first half of what Solana's tools call a key pair."""

    def address(self, chain: str, secret: bytes) -> str:  # noqa: ARG002  # the same on every cluster
        return str(_pair(secret).pubkey())

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        pair = _pair(secret)
        if order.wallet != str(pair.pubkey()):
            raise UnfitError("the wallet is not this key's")
        if terms.inputs or terms.cancels or terms.ends is None or terms.ends < LIFE:
            raise UnfitError("on Solana a version uses nothing up, cancels none, and ends at a block height")
        try:
            plan = plan_of(terms.fields)
            tx = VersionedTransaction(message(order, plan), [pair])
        except ValueError as error:
            raise UnfitError(str(error)) from None
        return Signed(chain_tx=str(tx.signatures[0]), raw=bytes(tx).hex(), fee_max=plan.fee_max, ends=terms.ends)


def _pair(secret: bytes) -> Keypair:
    if len(secret) != SECRET_BYTES:
        raise UnfitError(f"an ed25519 seed has {SECRET_BYTES} bytes")
    return Keypair.from_seed(secret)
