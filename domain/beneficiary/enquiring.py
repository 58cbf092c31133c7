"""Whose account it is: a provider is asked, with no transaction open, and what it says decides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote, quote_plus
from uuid import UUID

import structlog

from core import clock
from core.db import transaction
from core.errors import PermanentError, TransientError
from domain.beneficiary import names, queries, sealing
from domain.beneficiary.history import move, tell_payouts
from domain.beneficiary.states import BeneficiaryState
from providers.payout.base import Destination, Kind, PayoutProvider

log = structlog.stdlib.get_logger(__name__)

ACTOR = "beneficiary"
BY_CHECKS = frozenset({Kind.BANK_IN, Kind.UPI})
"""Kinds that are verified without an enquiry where no provider here makes any."""
NO_ACCOUNT, HOLDER_DIFFERS = "no_such_account", "holder_differs"
BY_ENQUIRY = frozenset({NO_ACCOUNT, HOLDER_DIFFERS})
"""Failures that another enquiry, or the right name, may mend."""
ASK_AGAIN = timedelta(minutes=10)
"""Where nobody can tell yet."""


@dataclass(frozen=True, slots=True)
class _Told:
    provider: str
    holder: str | None
    """None: there is no such account."""


def verify(beneficiary_id: UUID, providers: Mapping[str, PayoutProvider]) -> None:
    """Ask whose it is and write down whether it can be paid. Safe to run any number of times.

    Raises TransientError if nobody answered, or nobody here can tell.
    """
    with transaction() as session:
        row = queries.get(session, beneficiary_id)
        if row is None or row.current is not BeneficiaryState.PENDING:
            return  # another run has done it, or a person
        destination = sealing.opened(row)
    told = _ask(destination, providers)
    if told is None and destination.kind not in BY_CHECKS:
        raise TransientError(
            f"no provider here tells whose {destination.kind} accounts are: beneficiary {beneficiary_id} waits for one,"
            " or for a person",
            retry_after=ASK_AGAIN,
        )
    _record(beneficiary_id, destination, told)


def _ask(destination: Destination, providers: Mapping[str, PayoutProvider]) -> _Told | None:
    """What the first provider says that answers. None: none of them tells holders of that kind.

    Raises TransientError if those that should tell don't, be it for their credentials: then it isn't for want of one
    that a destination is taken by its checks.
    """
    failed: TransientError | None = None
    for name, provider in sorted(providers.items()):
        if destination.kind not in provider.abilities.enquires:
            continue
        try:
            return _Told(name, provider.holder(destination))
        except (TransientError, PermanentError) as error:
            spoken = _without(destination, name, error)
            log.warning("beneficiary.not_told", provider=name, error=str(spoken))
            failed = failed or spoken
    if failed is not None:
        # Neither it nor its cause is chained: where the account stands in a URL, it stands in their words.
        raise failed from None
    return None


def _without(destination: Destination, provider: str, error: Exception) -> TransientError:
    """The error without the destination: what a job failed with is kept and shown."""
    words = f"{provider} did not tell the holder: {error}"
    for secret in filter(None, (destination.number, destination.holder)):
        for spelled in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret)):
            words = re.sub(re.escape(spelled), "...", words, flags=re.IGNORECASE)
    return TransientError(words, retry_after=getattr(error, "retry_after", None))


def _record(beneficiary_id: UUID, destination: Destination, told: _Told | None) -> None:
    with transaction() as session:
        row = queries.lock(session, beneficiary_id)
        if row is None or row.current is not BeneficiaryState.PENDING:
            return
        now = clock.now()
        tell_payouts(session, row)
        if told is None:
            row.verified_at = now
            move(session, row, "verify", now=now, actor=ACTOR, by="checks")
            return
        row.verified_by = told.provider
        if told.holder is None:
            row.failure = NO_ACCOUNT
            move(session, row, "refuse", now=now, actor=f"provider:{told.provider}", failure=NO_ACCOUNT)
            return
        row.holder_matches = names.matches(destination.holder or "", told.holder)
        if row.holder_matches:
            row.verified_at = now
            move(session, row, "verify", now=now, actor=f"provider:{told.provider}")
        else:
            row.failure = HOLDER_DIFFERS
            move(session, row, "refuse", now=now, actor=f"provider:{told.provider}", failure=HOLDER_DIFFERS)
