"""Where a payout goes, as its row has it: sealed for that row alone (core.vault)."""

import json
from typing import Final
from uuid import UUID

from core import vault
from core.errors import InvariantError
from core.vault import Sealed
from domain.payout.models import Payout
from providers.payout.base import Destination, Kind

PURPOSE: Final = "payout"


def seal(payout_id: UUID, destination: Destination) -> Sealed:
    """Raises VaultOffError."""
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
