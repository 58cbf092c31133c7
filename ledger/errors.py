"""The ledger's own refusals. Each leaves the books as they were.

InvalidRequestError
|- NotFoundError
`- ConflictError
   |- InsufficientFundsError    a floor would be crossed
   `- AlreadyReversedError      under another reference
InvariantError
`- ReferenceReusedError         one reference, two contents
"""

from uuid import UUID

from core.errors import ConflictError, InvariantError


class InsufficientFundsError(ConflictError):
    """The posting would take an account below its floor. `available` is what could still be taken out of it."""

    def __init__(self, *, account: str, asset: str, available: int, needed: int) -> None:
        super().__init__(
            f"{account} has {available} units of {asset} available, and {needed} were asked for", field="units"
        )
        self.account, self.asset, self.available, self.needed = account, asset, available, needed


class AlreadyReversedError(ConflictError):
    """The journal was reversed before, under another reference."""

    def __init__(self, journal_id: UUID, by: UUID) -> None:
        super().__init__(f"journal {journal_id} was already reversed by journal {by}")
        self.journal_id, self.by = journal_id, by


class ReferenceReusedError(InvariantError):
    """The reference names a journal of other content.

    An InvariantError, not a refusal of a request: references are made by our own code from the event they book, so two
    contents under one reference mean that two paths claim the same event or that a row changed after it was booked.
    Going on would lose one of the two. Where a caller of ours chooses references, its endpoint answers with a conflict.
    """

    def __init__(self, reference: str, journal_id: UUID) -> None:
        super().__init__(f"the reference {reference!r} was booked with other content as journal {journal_id}")
        self.reference, self.journal_id = reference, journal_id
