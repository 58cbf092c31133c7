"""Razorpay: `X-Razorpay-Signature`, hex HMAC-SHA256 of the raw body by the webhook's secret. It has no time.

Repeats have the same `x-razorpay-event-id`, which is not signed. https://razorpay.com/docs/webhooks/validate-test/
"""

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from providers.webhooks.base import Genuine, Scheme
from providers.webhooks.comparing import fitting, header
from providers.webhooks.ids import id_beside


def check(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes], _now: datetime) -> Genuine:
    given = header(headers, "x-razorpay-signature")
    secret = fitting([given], secrets, lambda key: hmac.new(key, body, "sha256").hexdigest())
    return Genuine(id_beside(headers.get("x-razorpay-event-id"), body), secret)


SCHEME = Scheme("razorpay", check)
X = Scheme("razorpayx", check)
"""Payouts are webhooks of their own, with a secret of their own."""
