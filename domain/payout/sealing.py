"""Where a payout goes, as its row has it: sealed for that row alone (core.vault)."""

import json
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import vault
from core.errors import InvariantError
from core.vault import Sealed
from domain.payout.models import Payout
from providers.payout.base import Destination, Kind

log = structlog.stdlib.get_logger(__name__)

PURPOSE: Final = "payout"


def seal(payout_id: UUID, destination: Destination) -> Sealed:
    """Encrypt it for this payout's row. Raises VaultOffError."""
    fields = {
        "kind": str(destination.kind),
        "number": destination.number,
        "bank_code": destination.bank_code,
        "holder": destination.holder,
        "tag": destination.tag,
    }
    return vault.seal(PURPOSE, payout_id, json.dumps(fields, separators=(",", ":")).encode())


def opened(payout: Payout) -> Destination:
    """Raises InvariantError if the row is not as it was written or its key is gone, VaultOffError without any key."""
    sealed = Sealed(payout.destination_sealed, payout.destination_sealed_by)
    found = json.loads(vault.opened(PURPOSE, payout.id, sealed))
    if found["kind"] != payout.destination_kind:
        raise InvariantError(f"the destination of payout {payout.id} is of another kind than its row says")
    return Destination(
        kind=Kind(found["kind"]),
        number=found["number"],
        bank_code=found["bank_code"],
        holder=found["holder"],
        tag=found["tag"],
    )


# --- keys ------------------------------------------------------------------------------------------------------------


def count_by_key(session: Session) -> dict[str, int]:
    """How many payouts each key has sealed the destination of, by its id."""
    rows = session.execute(select(Payout.destination_sealed_by, func.count()).group_by(Payout.destination_sealed_by))
    return {row[0]: row[1] for row in rows}


def reseal(session: Session, *, after: UUID | None = None, limit: int = 500) -> UUID | None:
    """Seal payouts of other keys by the first one, oldest first. Returns the last that was tried; None: there are none.

    One that can't be opened is left as it is, and logged. Raises VaultOffError.
    """
    query = select(Payout).where(Payout.destination_sealed_by != vault.current())
    if after is not None:
        query = query.where(Payout.id > after)
    rows = session.scalars(query.order_by(Payout.id).limit(limit).with_for_update(skip_locked=True)).all()
    for row in rows:
        try:
            sealed = seal(row.id, opened(row))
        except InvariantError as error:
            log.error("payout.not_resealed", payout_id=str(row.id), error=str(error))  # noqa: TRY400  # says all
            continue
        row.destination_sealed, row.destination_sealed_by = sealed.content, sealed.by
    session.flush()
    return rows[-1].id if rows else None
