"""What all schemes share: a header that must be there, and signatures compared so that the time taken tells nothing."""

import hmac
from collections.abc import Callable, Mapping, Sequence

from providers.webhooks.base import ForgedError


def header(headers: Mapping[str, str], name: str) -> str:
    """Raises ForgedError if it is missing or empty."""
    found = headers.get(name, "")
    if not found:
        raise ForgedError(f"there is no {name}")
    return found


def fitting(given: Sequence[str], secrets: Sequence[bytes], sign: Callable[[bytes], str]) -> int:
    """Which of the secrets made one of the signatures that were given, counted from 0.

    Every secret is tried with each, whichever fits: how long it takes says only how many there are. An empty secret
    would be one that everybody knows, so it fits nothing. Raises ForgedError.
    """
    offered = [each.encode(errors="replace") for each in given]
    found = -1
    for place, secret in enumerate(secrets):
        expected = sign(secret).encode()
        same = [hmac.compare_digest(expected, each) for each in offered]
        if secret and any(same) and found < 0:
            found = place
    if found < 0:
        raise ForgedError("the signature fits none of the secrets")
    return found
