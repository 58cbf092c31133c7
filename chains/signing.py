"""Asking the signer, a process of its own that holds the keys (signer/, docs/signer.md), for a signature.

The signer answers the same request with the same bytes, so asking again is always safe. JSON over HTTP:

    POST {url}/v1/sign      {"order": {...}, "number": 1, "terms": {...}}     amounts are strings
      200 {"reference": "...", "number": 1, "chain_tx": "...", "raw": "hex"}
      403 application/problem+json, `code`: the policy refuses it      409: it contradicts what was signed before
    GET  {url}/v1/wallets   {"wallets": [{"chain": "eip155:1", "address": "0x..."}]}

with `Authorization: Bearer <token>`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from chains.sending import Order, Terms, Version
from core.errors import PermanentError


class SigningRefusedError(PermanentError):
    """The signer's policy doesn't allow it. Nothing was signed. `code` says which rule: see docs/signer.md."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Signer(Protocol):
    """Safe to use from several threads."""

    def sign(self, order: Order, number: int, terms: Terms) -> Version:
        """Raises SigningRefusedError, TransientError (it did not answer: ask again), PermanentError (a bug of ours)."""

    def wallets(self) -> Mapping[str, str]:
        """Chain -> the address that it pays from. Raises TransientError."""


def order_body(order: Order) -> dict[str, Any]:
    return {
        "reference": order.reference,
        "chain": order.chain,
        "wallet": order.wallet,
        "asset": order.asset,
        "to": order.to,
        "units": str(order.units),
        "tag": order.tag,
    }


def terms_body(terms: Terms) -> dict[str, Any]:
    """Also how terms are kept in the database."""
    return {
        "inputs": list(terms.inputs),
        "ends": None if terms.ends is None else str(terms.ends),
        "fee_max": str(terms.fee_max),
        "cancels": terms.cancels,
        "fields": dict(terms.fields),
    }


def terms_of(body: Mapping[str, Any]) -> Terms:
    """The other way round. Raises KeyError, ValueError or TypeError for what is none."""
    ends = body["ends"]
    return Terms(
        inputs=tuple(str(each) for each in body["inputs"]),
        ends=None if ends is None else int(ends),
        fee_max=int(body["fee_max"]),
        cancels=bool(body["cancels"]),
        fields=dict(body["fields"]),
    )
