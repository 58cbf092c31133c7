"""Flutterwave, API v3: `verif-hash` is the secret itself. https://developer.flutterwave.com/v3.0/docs/webhooks

Nothing of the body is covered, and whoever saw one webhook can make others: what it says is a hint.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from providers.webhooks.base import Genuine, Scheme
from providers.webhooks.comparing import fitting, header


def check(_body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes], _now: datetime) -> Genuine:
    # No event id: one that is not covered could be chosen to hide another.
    given = header(headers, "verif-hash")
    return Genuine(None, fitting([given], secrets, lambda secret: secret.decode(errors="replace")))


SCHEME = Scheme("flutterwave", check, signs_body=False)
