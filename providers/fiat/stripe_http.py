"""Stripe's SDK over core.http, so that its failures are judged where all others are, and its figures are whole.

The SDK would retry by itself, take 409 for a thing to retry, tell Stripe about this machine (telemetry and
`X-Stripe-Client-User-Agent`) and put bodies into its log at level DEBUG. Here it makes one request, of four headers,
and no log.
"""

import logging
from collections.abc import Mapping
from typing import Any

import stripe

from core.http import HttpClient

_PASSED = frozenset({"authorization", "content-type", "idempotency-key", "stripe-version"})

# The payer's email is part of what the SDK would write.
logging.getLogger("stripe").disabled = True


class StripeHttp(stripe.HTTPClient):
    """What fails raises an error of core.http, which the SDK lets through."""

    name = "tallyrail"

    def __init__(self, base_url: str, http: HttpClient) -> None:
        super().__init__()
        self._base = base_url.rstrip("/")
        self._http = http

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: str | None = None,
        **_: Any,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Raises TransientError, OutcomeUnknownError, RefusedError."""
        path = url.removeprefix(self._base)
        passed = {name: value for name, value in (headers or {}).items() if name.lower() in _PASSED}
        if method.upper() == "GET":
            reply = self._http.read(path, headers=passed)
        else:
            reply = self._http.send(method.upper(), path, content=(post_data or "").encode(), headers=passed)
        reply.json()  # what is none would be quoted by the SDK's own error
        return reply.body, reply.status, {}

    def close(self) -> None:
        """core.http closes its own."""
