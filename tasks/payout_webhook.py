"""What webhooks say of payouts. None of it is believed: each leads to a look, in the queue of payouts.

Gateways and payout providers of one name share a URL. Whoever handles a receipt asks both what it is about.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from core.errors import TransientError
from domain.payout import service
from providers.payout import registry
from providers.payout.base import Notice
from tasks.base import transaction


class Spoken(NamedTuple):
    provider: str | None
    """None: no payout provider has that name."""
    notices: Sequence[Notice]
    away: TransientError | None
    """Why this process can't say what it is about, though workers send payouts there."""


Notices = Callable[[str, bytes, Mapping[str, str]], Spoken]
"""(provider, body, headers) -> what it says of payouts."""


def none(provider: str, body: bytes, headers: Mapping[str, str]) -> Spoken:  # noqa: ARG001
    return Spoken(None, (), None)


def notices(provider: str, body: bytes, headers: Mapping[str, str]) -> Spoken:
    """Raises PermanentError if it is unreadable."""
    if provider not in registry.PROVIDERS:
        return Spoken(None, (), None)
    try:
        found = registry.get(provider)
    except TransientError as error:
        with transaction() as session:
            is_used = any(row.name == provider for row in service.providers(session))
        return Spoken(provider, (), error if is_used else None)
    return Spoken(provider, found.notices(body, headers), None)


def need_answer(spoken: Spoken) -> None:
    """Nobody else knows what it is about. Raises TransientError if a payout provider might: it is tried again."""
    if spoken.away is not None:
        raise spoken.away


def hear(session: Session, provider: str, spoken: Spoken) -> list[Notice]:
    """Ask for a look at each payout that it is about. Returns what is about none that we know."""
    return [
        notice
        for notice in spoken.notices
        if not service.hear(session, provider=provider, reference=notice.reference, provider_ref=notice.provider_ref)
    ]
