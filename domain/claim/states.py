"""The life of a red packet. It ends once: who asks later is told how it ended."""

from enum import StrEnum

from core.machine import Machine


class PacketState(StrEnum):
    FUNDED = "funded"
    """The sender's money is held. Nobody can claim yet."""
    OPEN = "open"
    """The money is in the packet's own account."""
    CLOSED = "closed"
    """Nobody can claim any more. `reason` says why."""


S = PacketState

PACKET = Machine(
    name="packet",
    initial=S.FUNDED,
    edges={
        S.FUNDED: {"open": S.OPEN, "expire": S.CLOSED, "cancel": S.CLOSED},  # its hold was not to be had
        S.OPEN: {"exhaust": S.CLOSED, "expire": S.CLOSED, "cancel": S.CLOSED},
    },
)  # fmt: skip


class Reason(StrEnum):
    """Why a packet is closed."""

    EMPTY = "empty"
    """Every share was won."""
    EXPIRED = "expired"
    CANCELLED = "cancelled"


EVENTS = {Reason.EMPTY: "exhaust", Reason.EXPIRED: "expire", Reason.CANCELLED: "cancel"}


class Shares(StrEnum):
    """How a packet is split."""

    EQUAL = "equal"
    RANDOM = "random"
