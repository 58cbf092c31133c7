"""A destination as its row has it: sealed, recognised by its fingerprint, and what people see of it."""

import json
from typing import Final

from core import vault
from core.errors import InvariantError
from core.vault import Sealed
from domain.beneficiary.models import Beneficiary
from providers.payout.base import Destination, Kind

PURPOSE: Final = "beneficiary"
_SHOWN_MAX = 4
_ENDS = 6
_STARS = "****"


def content(destination: Destination) -> bytes:
    """The destination as what is sealed: JSON, so that it can be read for ever."""
    fields = {
        "kind": str(destination.kind),
        "number": destination.number,
        "bank_code": destination.bank_code,
        "holder": destination.holder,
        "tag": destination.tag,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def opened(row: Beneficiary) -> Destination:
    """Raises InvariantError if the row is not as it was written or its key is gone, VaultOffError without any key."""
    text = vault.opened(PURPOSE, row.id, Sealed(row.sealed, row.sealed_by))
    found = json.loads(text)
    if found["kind"] != row.kind:
        raise InvariantError(f"beneficiary {row.id} is of another kind than its row says")
    return Destination(
        kind=Kind(found["kind"]),
        number=found["number"],
        bank_code=found["bank_code"],
        holder=found["holder"],
        tag=found["tag"],
    )


def fingerprint(destination: Destination, chain: str | None) -> str:
    """The same for the same place, however its holder was written. Raises VaultOffError.

    Made of the one spelling that `checks` leaves, so that case and spaces make no difference.
    """
    place = [str(destination.kind), chain, destination.bank_code, destination.number, destination.tag]
    return vault.fingerprint(PURPOSE, json.dumps(place, separators=(",", ":")))


def bank_of(destination: Destination) -> str | None:
    """Its bank, as far as it may stand in clear: of an IFSC without the branch."""
    code = destination.bank_code
    return code[:_SHOWN_MAX] if code is not None and destination.kind is Kind.BANK_IN else code


def masked(destination: Destination) -> str:
    """Enough for its owner to recognise it, never the whole.

    | `058 ******7890` | NUBAN: bank, the last four |
    | `HDFC ********1234` | India: bank without branch, the last four, or of short numbers half |
    | `ad***@okaxis` | UPI: two letters or, of short names, one; the handle |
    | `DE****3000` | IBAN: country, the last four |
    | `acct_****Xy12` | Stripe: the last four |
    | `0x5aAe****1BeAed` | address: six at both ends |
    """
    number, bank = destination.number, bank_of(destination)
    match destination.kind:
        case Kind.BANK_NG | Kind.BANK_IN:
            shown = min(_SHOWN_MAX, len(number) // 2)
            return f"{bank} {'*' * (len(number) - shown)}{number[-shown:]}"
        case Kind.UPI:
            name, _, handle = number.rpartition("@")
            return f"{name[: 2 if len(name) > _SHOWN_MAX else 1]}***@{handle}"
        case Kind.IBAN:
            return f"{number[:2]}{_STARS}{number[-_SHOWN_MAX:]}"
        case Kind.STRIPE:
            return f"acct_{_STARS}{number[-_SHOWN_MAX:]}"
        case Kind.CHAIN:
            return f"{number[:_ENDS]}{_STARS}{number[-_ENDS:]}"
