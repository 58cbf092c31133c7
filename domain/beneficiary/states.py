"""The life of a destination in somebody's book."""

from enum import StrEnum

from core.machine import Machine


class BeneficiaryState(StrEnum):
    PENDING = "pending"
    """Its holder is being asked for."""
    VERIFIED = "verified"
    """It can be paid."""
    REFUSED = "refused"
    """There is no such account, or it is somebody else's."""
    REMOVED = "removed"


S = BeneficiaryState

BENEFICIARY = Machine(
    name="beneficiary",
    initial=S.PENDING,
    edges={
        S.PENDING: {"verify": S.VERIFIED, "refuse": S.REFUSED, "remove": S.REMOVED},
        S.VERIFIED: {"refuse": S.REFUSED, "remove": S.REMOVED},  # a provider learned that it is closed; a person
        S.REFUSED: {"retry": S.PENDING, "verify": S.VERIFIED, "remove": S.REMOVED},  # a person looked
    },
)
