"""The life of a webhook that was kept."""

from enum import StrEnum

from core.machine import Machine


class ReceiptState(StrEnum):
    RECEIVED = "received"
    """Kept, and its job asked for."""
    WAITING = "waiting"
    """About something that we don't know yet. Its job looks again and again, and is a dead letter at last."""
    HANDLED = "handled"
    IGNORED = "ignored"
    """Authentic, and about nothing of ours."""


WEBHOOK = Machine(
    name="webhook",
    initial=ReceiptState.RECEIVED,
    edges={
        ReceiptState.RECEIVED: {
            "wait": ReceiptState.WAITING,
            "handle": ReceiptState.HANDLED,
            "ignore": ReceiptState.IGNORED,
            "replay": ReceiptState.RECEIVED,  # its job is a dead letter, or a person won't wait for its next try
        },
        ReceiptState.WAITING: {
            "handle": ReceiptState.HANDLED,
            "ignore": ReceiptState.IGNORED,
            "replay": ReceiptState.RECEIVED,
        },
        # Handling is idempotent, so that doing it again is a way to mend what a fault of ours has missed.
        ReceiptState.HANDLED: {"replay": ReceiptState.RECEIVED},
        ReceiptState.IGNORED: {"replay": ReceiptState.RECEIVED},
    },
)
