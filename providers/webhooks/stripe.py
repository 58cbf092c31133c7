"""Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]...`, hex HMAC-SHA256 of `<t>.<raw body>`.

The key is the endpoint's whole secret, `whsec_` included. While a secret is being rolled Stripe signs with both, so any
v1 may fit. https://docs.stripe.com/webhooks#verify-manually. Beyond Stripe's own library a time in the future is
refused as well, so that nobody can keep a signature for later.
"""

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from providers.webhooks.base import ForgedError, Genuine, Scheme
from providers.webhooks.comparing import fitting, header
from providers.webhooks.ids import id_in

TOLERANCE_S = 300
"""Between their clock and ours, both ways."""
SIGNATURES_MAX = 20
"""More than anybody needs: each costs a comparison with every secret."""
TIME_DIGITS_MAX = 12


def check(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes], now: datetime) -> Genuine:
    parts = [part.partition("=") for part in header(headers, "stripe-signature").split(",")]
    times = [value for key, _, value in parts if key == "t"]
    signatures = [value for key, _, value in parts if key == "v1"]
    if not times or not signatures or len(signatures) > SIGNATURES_MAX:
        raise ForgedError("the Stripe-Signature can't be understood")
    time = times[0]
    if not (time.isascii() and time.isdigit() and len(time) <= TIME_DIGITS_MAX):
        raise ForgedError("the Stripe-Signature has no time")
    signed = b"%d.%s" % (int(time), body)
    secret = fitting(signatures, secrets, lambda key: hmac.new(key, signed, "sha256").hexdigest())
    if abs(now.timestamp() - int(time)) > TOLERANCE_S:
        raise ForgedError(f"it was signed more than {TOLERANCE_S} s from now")
    return Genuine(id_in(body), secret)


SCHEME = Scheme("stripe", check)
