"""Tron: payments of TRX and of TRC-20 tokens, built by chains/tron/payments.py and signed with secp256k1.

Signatures are deterministic (RFC 6979). They are for one chain by the block that a transaction names. An order has one
version here: two of them would exclude each other only by time.
"""

import hashlib
import re

from coincurve import PrivateKey
from eth_utils.crypto import keccak

from chains.sending import Order, Terms
from chains.tron.formats import PREFIX, spelled
from chains.tron.payments import fee_max, plan_of, raw_data, transaction
from signer.base import Signed, UnfitError

SECRET_BYTES = 32

_CHAIN = re.compile(r"tron:(0|[1-9][0-9]{0,9})")


class TronSigner:
    def address(self, chain: str, secret: bytes) -> str:
        """The same on every Tron network."""
        if not _CHAIN.fullmatch(chain):
            raise UnfitError(f"{chain!r:.60} is no Tron network")
        public = _key(secret).public_key.format(compressed=False)
        return spelled(bytes([PREFIX]) + keccak(public[1:])[-20:])

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        if order.wallet != self.address(order.chain, secret):
            raise UnfitError("the wallet is not this key's")
        try:
            plan = plan_of(terms)
            raw, most = raw_data(order, plan), fee_max(order, plan)
        except ValueError as error:
            raise UnfitError(str(error)) from None
        digest = hashlib.sha256(raw).digest()
        signature = _key(secret).sign_recoverable(digest, hasher=None)
        return Signed(chain_tx=digest.hex(), raw=transaction(raw, signature).hex(), fee_max=most, ends=plan.expires_ms)


def _key(secret: bytes) -> PrivateKey:
    if len(secret) != SECRET_BYTES:
        raise UnfitError(f"a private key has {SECRET_BYTES} bytes")
    try:
        return PrivateKey(secret)
    except ValueError:
        raise UnfitError("that is no private key of secp256k1") from None
