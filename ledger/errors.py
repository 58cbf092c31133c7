"""The ledger's own refusals. Each leaves the books as they were.

InvalidRequestError
|- NotFoundError
`- ConflictError
   |- InsufficientFundsError    a floor would be crossed, or a hold binds the money
   |- CeilingExceededError      an account would have more than it may
   |- AccountFrozenError        nothing may leave it
   |- AccountClosedError        nothing may move in it
   |- AlreadyReversedError      under another reference
   |- BatchRefusedError         all or nothing, and one of the batch could not be booked
   |- HoldSettledError          the hold is no longer pending
   |- HoldExceededError         more would be captured than is held
   |- AccountNotEmptyError      what has a balance or holds can't be closed
   `- LimitCrossedError         the balance is outside the limit that was asked for
InvariantError
`- ReferenceReusedError         one reference, two contents
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from core.errors import ConflictError, InvariantError, TallyrailError


class InsufficientFundsError(ConflictError):
    """The posting would take an account below its floor. `available` is what could still be taken out of it."""

    def __init__(self, *, account: str, asset: str, available: int, needed: int) -> None:
        super().__init__(
            f"{account} has {available} units of {asset} available, and {needed} were asked for", field="units"
        )
        self.account, self.asset, self.available, self.needed = account, asset, available, needed


class CeilingExceededError(ConflictError):
    """The posting would take an account above its ceiling. `room` is what could still be put into it."""

    def __init__(self, *, account: str, asset: str, room: int, offered: int) -> None:
        super().__init__(f"{account} has room for {room} units of {asset}, and {offered} were offered", field="units")
        self.account, self.asset, self.room, self.offered = account, asset, room, offered


class AccountFrozenError(ConflictError):
    """A person has frozen the account: what arrives is booked, and nothing leaves but the reversal of a journal."""

    def __init__(self, account: str, asset: str) -> None:
        super().__init__(f"{account} is frozen in {asset}: nothing may leave it", field="account")
        self.account, self.asset = account, asset


class AccountClosedError(ConflictError):
    """The account is closed: nothing moves in it."""

    def __init__(self, account: str, asset: str) -> None:
        super().__init__(f"{account} is closed in {asset}", field="account")
        self.account, self.asset = account, asset


class AlreadyReversedError(ConflictError):
    """The journal was reversed before, under another reference."""

    def __init__(self, journal_id: UUID, by: UUID) -> None:
        super().__init__(f"journal {journal_id} was already reversed by journal {by}")
        self.journal_id, self.by = journal_id, by


class BatchRefusedError(ConflictError):
    """Some journals of an all-or-nothing batch can't be booked, so none was. `refused`: (reference, why) of each."""

    def __init__(self, refused: Sequence[tuple[str, TallyrailError]], of: int) -> None:
        reference, error = refused[0]
        super().__init__(f"{len(refused)} of {of} journals can't be booked; the first is {reference!r}: {error}")
        self.refused = tuple(refused)


class HoldSettledError(ConflictError):
    """The hold is not pending any more: it was posted, voided, or its deadline has passed (by the database's clock)."""

    def __init__(self, hold_id: UUID, state: str, deadline: datetime | None = None) -> None:
        past = "" if deadline is None else f": its deadline was {deadline.astimezone(UTC).isoformat()}"
        super().__init__(f"hold {hold_id} is {state} already{past}")
        self.hold_id, self.state, self.deadline = hold_id, state, deadline


class HoldExceededError(ConflictError):
    """A capture asks for more units than the hold has. The hold stays as it is."""

    def __init__(self, hold_id: UUID, *, held: int, asked: int) -> None:
        super().__init__(f"hold {hold_id} holds {held} units, and {asked} were to be captured", field="units")
        self.hold_id, self.held, self.asked = hold_id, held, asked


class AccountNotEmptyError(ConflictError):
    """An account is closed when nothing is in it and nothing is held in it. `balance` is on its normal side."""

    def __init__(self, account: str, asset: str, *, balance: int, held: int) -> None:
        super().__init__(
            f"{account} has a balance of {balance} units of {asset} and {held} held: it must be empty to be closed",
            field="account",
        )
        self.account, self.asset, self.balance, self.held = account, asset, balance, held


class LimitCrossedError(ConflictError):
    """The account is outside the limit already, so it can't be set. `balance` is on its normal side."""

    def __init__(self, account: str, asset: str, *, limit: str, bound: int, balance: int, held: int) -> None:
        super().__init__(
            f"{account} can't have a {limit} of {bound} units of {asset}: its balance is {balance}, with {held} held",
            field=limit,
        )
        self.account, self.asset, self.limit, self.bound = account, asset, limit, bound
        self.balance, self.held = balance, held


class ReferenceReusedError(InvariantError):
    """The reference names a journal of other content, or a hold.

    An InvariantError, not a refusal of a request: references are made by our own code from the event they book, so two
    contents under one reference mean that two paths claim the same event or that a row changed after it was booked.
    Going on would lose one of the two. Where an app's key makes the reference, the endpoint answers 422.
    """

    def __init__(self, reference: str, first_id: UUID, *, noun: str = "journal") -> None:
        super().__init__(f"the reference {reference!r} was booked with other content as {noun} {first_id}")
        self.reference, self.journal_id = reference, first_id
