"""Unlimit: `Signature`, lowercase hex SHA-512 of the raw body with the callback secret behind it. No time, no event id.

https://integration.unlimit.com/doc-guides/, "Callbacks"; the same in their SDKs (cardpay/java-sdk-v3). A plain hash
with the secret behind the text: what is known of SHA-512 forges none, since its inner state ends with the secret.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from providers.webhooks.base import Genuine, Scheme
from providers.webhooks.comparing import fitting, header


def check(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes], _now: datetime) -> Genuine:
    given = header(headers, "signature")
    return Genuine(None, fitting([given], secrets, lambda secret: hashlib.sha512(body + secret).hexdigest()))


SCHEME = Scheme("unlimit", check)
