"""The life of a transfer that we send on a chain."""

from enum import StrEnum

from core.machine import Machine


class TransferState(StrEnum):
    PLANNED = "planned"
    """Nothing is signed. A version of it may be with the signer."""
    SIGNED = "signed"
    """A version is signed and stored, and may be in a block as soon as somebody shows it to a node."""
    SENT = "sent"
    """A node has it, or had."""
    MINED = "mined"
    """A version is in a block that may still be replaced."""
    CONFIRMED = "confirmed"
    """It paid, as deep in the chain as the chain's rule asks for. Watched until its block is final."""
    REFUSED = "refused"
    """Nothing was signed: the chain can't carry it, or the signer's policy doesn't allow it."""
    REVERTED = "reverted"
    """In a final block, where it failed: nothing moved but the chain's fee."""
    DEAD = "dead"
    """Final blocks prove that no version of it will ever be in one."""
    CANCELLED = "cancelled"
    """A version that pays nobody is in a final block; or a person ended it before anything was signed."""


S = TransferState

TRANSFER = Machine(
    name="transfer",
    initial=S.PLANNED,
    edges={
        S.PLANNED: {"sign": S.SIGNED, "refuse": S.REFUSED, "cancel": S.CANCELLED},
        # Signed is as good as shown to a node: whoever died in between may have done it.
        S.SIGNED: {"send": S.SENT, "mine": S.MINED, "die": S.DEAD},
        S.SENT: {"mine": S.MINED, "die": S.DEAD},
        S.MINED: {"confirm": S.CONFIRMED, "revert": S.REVERTED, "cancel": S.CANCELLED,
                  "vanish": S.SENT},  # its block is no longer part of the chain
        S.CONFIRMED: {"undo": S.SENT},  # the same, deeper than anybody should expect
    },
)  # fmt: skip

OPEN = frozenset({S.PLANNED, S.SIGNED, S.SENT, S.MINED})
"""It may still pay, and has not."""
WAITING = frozenset({S.SIGNED, S.SENT})
"""A version is signed and none is known to be in a block."""
FAILED = frozenset({S.REFUSED, S.REVERTED, S.DEAD, S.CANCELLED})
"""It did not pay and never will."""
