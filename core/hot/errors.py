"""Decisions that were not made, or of which it isn't known.

TransientError
|- StoreAwayError     nothing was decided: ask again later
OutcomeUnknownError
`- UndecidedError     the answer was lost on its way: ask again, every decision is idempotent
"""

from datetime import timedelta

from core.errors import OutcomeUnknownError, TransientError


class StoreAwayError(TransientError):
    """The hot store is away, or between two generations. Nothing was decided."""

    def __init__(self, message: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(message, retry_after=retry_after)


class UndecidedError(OutcomeUnknownError):
    """The decision may have been made, its answer was lost. Asked again, the same answer comes."""
