"""What asking for a payout proves, which is the same for all providers.

connect errors, full pools, 429                 NOT_SENT   it did not get there
timeouts, 5xx, 408, 409, 3xx, unreadable 2xx    UNKNOWN    it may have been made
401, 403                                        REJECTED   nobody was let in: PROVIDER
400, 402, 404, 405, 413, 415, 422               REJECTED   if no payout is found under our reference, and unless
                                                           they say that there is one, or speak of trouble of
                                                           their own, or aren't the provider's: then UNKNOWN
other 4xx                                       UNKNOWN    424 and whatever servers in between make up

That a refusal is looked into costs one read in a rare case. A refusal may be the answer to a repeat of ours.
"""

import re
from collections.abc import Callable
from typing import Any

from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import RefusedError
from providers.fiat import fields
from providers.fiat.fields import Json
from providers.payout.base import Kind, PayoutRequest, Refusal, Remittance, Sent, Standing

NOT_LET_IN = frozenset({401, 403})
PROOF = frozenset({400, 402, 404, 405, 413, 415, 422})
"""Statuses that say that the request itself is what is wrong with it."""
_CODE = re.compile(r"[A-Za-z0-9_.\[\]-]{1,60}")


def sent(
    ask: Callable[[], Any],
    read: Callable[[Any], Remittance],
    refused: Callable[[RefusedError], Sent],
) -> Sent:
    """One try. `ask` gives the answer's JSON, `read` what it says, `refused` what a refusal means."""
    try:
        answer = ask()
    except TransientError as error:
        return Sent(standing=Standing.NOT_SENT, why=fields.why(error))
    except OutcomeUnknownError as error:
        return Sent(standing=Standing.UNKNOWN, why=fields.why(error))
    except RefusedError as error:
        return refused(error)
    except PermanentError as error:  # it can't even be asked
        return rejected(Refusal.REQUEST, fields.why(error))
    try:
        return Sent(standing=Standing.ACCEPTED, remittance=read(answer))
    except PermanentError as error:
        return Sent(standing=Standing.UNKNOWN, why=fields.why(error))


def judged(
    error: RefusedError, *, unsure: bool, find: Callable[[], Remittance | None], refusal: Refusal, why: str
) -> Sent:
    """Of a refusal. `unsure`: by its own words it is no proof. `refusal`: what it means if it is one."""
    status = error.reply.status
    if status in NOT_LET_IN:
        return rejected(Refusal.PROVIDER, why)
    try:
        known = find()
    except (TransientError, PermanentError):
        return Sent(standing=Standing.UNKNOWN, why=why)
    if known is not None:
        return Sent(standing=Standing.ACCEPTED, remittance=known)
    if unsure or status not in PROOF:
        return Sent(standing=Standing.UNKNOWN, why=why)
    return rejected(refusal, why)


def rejected(refusal: Refusal, why: str) -> Sent:
    return Sent(standing=Standing.REJECTED, refusal=refusal, why=why)


def unfit(request: PayoutRequest, kinds: frozenset[Kind], *, coded: frozenset[Kind] = frozenset()) -> Sent | None:
    """What no such provider can be asked: another kind of destination, or one of `coded` without its bank."""
    kind = request.destination.kind
    if kind not in kinds:
        return rejected(Refusal.REQUEST, f"it takes no {kind}")
    if kind in coded and request.destination.bank_code is None:
        return rejected(Refusal.REQUEST, f"a {kind} needs a bank_code")
    return None


def why(error: RefusedError, *codes: object) -> str:
    """Status and codes, such as `400: balance_insufficient`. Words are left out: they may name beneficiaries."""
    return ": ".join([str(error.reply.status), *filter(None, map(code, codes))])


def code(value: object) -> str | None:
    """A code as a provider writes it; None if it is none, or might be somebody's number."""
    if not isinstance(value, str) or not _CODE.fullmatch(value) or fields.why(value) != value:
        return None
    return value


def only(found: list[Remittance]) -> Remittance | None:
    """Raises PermanentError if there are several: then the key's time was over, and it is a person's."""
    if len(found) > 1:
        raise PermanentError("the provider has several payouts of one reference")
    return found[0] if found else None


def same(found: Remittance, reference: str) -> Remittance:
    """Raises PermanentError if it is of another reference than was asked for."""
    if found.reference != reference:
        raise PermanentError("the provider answers with another payout than asked for")
    return found


def units(row: Json, name: str) -> int:
    """Of an amount that is written as a whole number of units, and can't be negative."""
    found = fields.whole(row, name)
    if found < 0:
        raise PermanentError(f"{name} is negative")
    return found
