"""The error tree. What a failure proves about the outside world decides what may be done next.

TallyrailError
|- TransientError         proven not done: back off and do it again
|- PermanentError         can never succeed as asked: fail the row, dead letter
|- OutcomeUnknownError    may have happened: look it up, never resend
|- InvariantError         our books or our code are wrong: stop, page a person
`- InvalidRequestError    the caller asked for something that can't be: refuse, write nothing
   |- NotFoundError
   `- ConflictError       well-formed, but not in this state
"""

from datetime import timedelta


class TallyrailError(Exception):
    """Base of every error we raise on purpose. The message is a plain sentence for a person."""


class TransientError(TallyrailError):
    """Proven not done; doing it again is safe. `retry_after` is the other side's wish, where it has one."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(TallyrailError):
    """Can never succeed as it stands. Retrying would only repeat the answer."""


class OutcomeUnknownError(TallyrailError):
    """The outside effect may or may not have happened. The next run looks it up by our key."""


class InvariantError(TallyrailError):
    """Something that can't be so is so. Nothing is retried until a person has looked."""


class InvalidRequestError(TallyrailError):
    """The request can't be carried out. `field` names the part at fault, where there is one."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(InvalidRequestError):
    """There is no such thing, or it is not the caller's."""


class ConflictError(InvalidRequestError):
    """Asked of a thing that is not in a state to do it."""
