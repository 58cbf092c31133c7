"""The banks that providers send to: asked for daily, kept for whoever must check a code or show a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock
from core.db import transaction
from core.errors import InvalidRequestError, PermanentError, TransientError
from domain.beneficiary import queries
from domain.beneficiary.models import BankList
from providers.payout.base import Destination, Kind, PayoutProvider

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Banks:
    """All banks of a kind that any provider sends to."""

    names: Mapping[str, str]
    """Code -> name."""
    read_at: datetime | None
    """When the oldest of the lists was read; None: none ever was."""


def refresh(providers: Mapping[str, PayoutProvider]) -> None:
    """Read every list anew. A provider that doesn't answer keeps what it told last; the first such error is raised at
    the end, so that its job tries again. An empty list is none: its bank codes follow a rule.
    """
    failed: TransientError | None = None
    for name, provider in sorted(providers.items()):
        for kind in sorted(provider.abilities.kinds - {Kind.CHAIN}):
            try:
                banks = {bank.code: bank.name for bank in provider.banks(kind)}
            except TransientError as error:
                failed = failed or error
                continue
            except PermanentError as error:
                log.warning("beneficiary.no_banks", provider=name, kind=kind, error=str(error))
                continue
            if banks:
                _keep(name, kind, banks)
    if failed is not None:
        raise failed


def _keep(provider: str, kind: Kind, banks: dict[str, str]) -> None:
    told = {"banks": banks, "read_at": clock.now()}
    with transaction() as session:
        statement = insert(BankList).values(provider=provider, kind=str(kind), **told)
        session.execute(statement.on_conflict_do_update(index_elements=["provider", "kind"], set_=told))
    log.info("beneficiary.banks", provider=provider, kind=kind, banks=len(banks))


def banks(session: Session, kind: Kind) -> Banks:
    """In the order of their names. Where two providers call a bank otherwise, the first of them by name counts."""
    return _together(queries.bank_lists(session, kind))


def _together(lists: Sequence[BankList]) -> Banks:
    names: dict[str, str] = {}
    for each in reversed(lists):
        names.update(each.banks)
    ordered = dict(sorted(names.items(), key=lambda bank: (bank[1].casefold(), bank[0])))
    return Banks(ordered, min((each.read_at for each in lists), default=None))


def check(session: Session, destination: Destination) -> None:
    """Raises InvalidRequestError for a bank that nobody sends to. If no list was ever read, the enquiry will tell."""
    if destination.kind is not Kind.BANK_NG:
        return
    known = banks(session, destination.kind)
    if known.names and destination.bank_code not in known.names:
        raise InvalidRequestError(
            "nobody here sends to a bank of that code: GET /v1/banks?kind=bank_ng lists them", field="bank_code"
        )
