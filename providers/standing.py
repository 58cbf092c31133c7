"""What a call to a provider that moves or promises money proves, whatever the kind of provider."""

from enum import StrEnum


class Standing(StrEnum):
    """What is proven of a call that asked a provider to do something."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    """It was understood and refused: asked alike, it will be again."""
    NOT_SENT = "not_sent"
    """It certainly did not get there: doing it again is safe."""
    UNKNOWN = "unknown"
    """It may have got there. Look it up by our reference; never send it again under another."""
