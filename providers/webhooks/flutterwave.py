"""Flutterwave, by the version of the API that an account uses.

v3: `verif-hash` is the secret itself. Nothing of the body is covered, and whoever saw one webhook can make others: what
it says is a hint. https://developer.flutterwave.com/v3.0/docs/webhooks
v4: `flutterwave-signature`, base64 HMAC-SHA256 of the raw body. https://developer.flutterwave.com/docs/webhooks

Two names, since what the body is worth depends on the version: a webhook of one is never taken for one of the other.
Repeats of v4 have the same `id` in the body.
"""

import hmac
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime

from providers.webhooks.base import Genuine, Scheme
from providers.webhooks.comparing import fitting, header
from providers.webhooks.ids import id_in


def check_v3(_body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes], _now: datetime) -> Genuine:
    # No event id: one that is not covered could be chosen to hide another.
    given = header(headers, "verif-hash")
    return Genuine(None, fitting([given], secrets, lambda secret: secret.decode(errors="replace")))


def check_v4(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes], _now: datetime) -> Genuine:
    given = header(headers, "flutterwave-signature")
    secret = fitting([given], secrets, lambda key: b64encode(hmac.digest(key, body, "sha256")).decode())
    return Genuine(id_in(body), secret)


V3 = Scheme("flutterwave", check_v3, signs_body=False)
V4 = Scheme("flutterwave_v4", check_v4)
