"""Whether a webhook is from whom it says. Pure: bytes, headers, secrets and a time, no network and no client.

The API may import this package, and nothing else of providers. What an authentic webhook means, adapters say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


class ForgedError(Exception):
    """Not signed by any of the secrets, stale, or not signed at all. The message is for the log, not for the sender."""


@dataclass(frozen=True, slots=True)
class Genuine:
    """An authentic webhook."""

    event_id: str | None
    """The provider's own, if it has any: what repeats are told by. None: by the body's digest."""
    secret: int
    """Which of the secrets fits, counted from 0: so that one sees when the old one is no longer used."""


Check = Callable[[bytes, Mapping[str, str], Sequence[bytes], datetime], Genuine]
"""(raw body, headers by lower-case name, secrets, now) -> Genuine. Raises ForgedError. Compares in constant time."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one provider signs."""

    provider: str
    check: Check
    signs_body: bool = True
    """False: what it says is a hint, and must be fetched from the provider before anything is done."""
