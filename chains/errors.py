"""What can go wrong with a node, by what it means for whoever asked."""

from core.errors import TransientError


class MalformedError(ValueError):
    """The node's answer is not what the method answers with. Inside adapters only: `Nodes` makes it transient."""


class RefusedError(TransientError):
    """The node answered this one call with an error: it won't do this, as asked, now. Asking for less may help."""

    code: int | None = None
    """The node's own, JSON-RPC or HTTP."""
    words: str = ""
    """The node's own, to be understood and not to be shown: they may hold a key."""


class TooLongError(RefusedError):
    """The answer was longer than any that is read."""


class LimitedError(TransientError):
    """It would be one request more than the endpoint takes of us (`rate`). Not asked; `retry_after` says when."""


class WrongChainError(TransientError):
    """The node is one of another chain. Raised by `verify`: it is asked nothing until it has had time to be mended."""


class DisagreementError(TransientError):
    """Two nodes tell the same thing differently. Nothing may rest on either until they agree."""
