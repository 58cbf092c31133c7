"""Holding three accounts of one payout at one provider against each other: its row, the statement, and the books.

Pure: from facts to what differs. What left is told as units without the fee, positive if the provider has less by it.

- The row and the books must agree at any moment: they are written together. If they don't, that is `payout.books`.
- The row and the statement agree in the end. Until the provider was asked again (what we know may be old), or for
  `grace`, nothing is said; while the payout is under way some providers have taken its money already (`under_way`).
- What a person booked to settle a difference stands on the row's side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

MISSING, UNKNOWN, AMOUNT, FEE, STATE, BOOKS, BALANCE = (
    "payout.statement_missing",
    "payout.statement_unknown",
    "payout.statement_amount",
    "payout.statement_fee",
    "payout.statement_state",
    "payout.books",
    "payout.balance",
)
"""Kinds of breaks: of a payout at a provider, but for UNKNOWN (a line) and BALANCE (a day)."""
OF_PAYOUT = frozenset({MISSING, AMOUNT, FEE, STATE, BOOKS})
KINDS = OF_PAYOUT | {UNKNOWN, BALANCE}


class Waiting(StrEnum):
    """Why nothing is said yet of what differs."""

    ASKED = "asked"
    """The provider is asked what became of it."""
    UNDER_WAY = "under_way"
    NOT_YET = "not_yet"
    """Its line may still come."""
    NOT_COVERED = "not_covered"
    """No statement has all of its time."""


@dataclass(frozen=True, slots=True)
class Moved:
    gone: int = 0
    fee: int = 0

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(self.gone + other.gone, self.fee + other.fee)

    @property
    def total(self) -> int:
        return self.gone + self.fee


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    state: str
    """Of the payout, for the words."""
    currency: str
    row: Moved
    books: int
    """Fees and all, without what settled a difference with the statement."""
    settled: Moved
    """What people booked for that."""
    told: Moved
    """By the lines in its currency."""
    strange: Sequence[str]
    """What lines in other currencies say."""
    lines: int
    told_at: datetime | None
    """When the newest of them was told so."""
    booked_at: datetime | None
    """When the provider booked the newest."""
    is_under_way: bool
    """A provider may have it, and hasn't said what becomes of it."""
    asked_at: datetime | None
    """When the provider was last asked about it and answered."""
    begun_at: datetime | None
    """When it was first sent there."""
    ended_at: datetime | None
    """When its row said that it had left."""
    covered: bool
    """If there are no lines: a statement has all of its time, and was read late enough."""


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str
    expected: str
    found: str
    units: int
    """What the provider has more of ours than the books say; negative: less. A journal of so much settles it."""
    fee_units: int = 0
    """Likewise, of fees."""


@dataclass(frozen=True, slots=True)
class Verdict:
    findings: Sequence[Finding] = ()
    waits: Waiting | None = None

    @property
    def agrees(self) -> bool:
        return not self.findings and self.waits is None


def judge(facts: Facts, *, now: datetime, grace: timedelta, under_way: timedelta) -> Verdict:
    found = _books(facts)
    ours = facts.row + facts.settled
    if not facts.lines:
        if not ours.gone:
            return Verdict(found)  # of what came back some tell neither side
        waits = _until_told(facts, now=now, grace=grace)
        if waits is not None:
            return Verdict(found, waits)
        return Verdict([*found, Finding(MISSING, _said(ours, facts), "no line", ours.gone, ours.fee)])
    differs = _differences(facts, ours)
    if not differs:
        return Verdict(found)
    waits = _until_known(facts, now=now, grace=grace, under_way=under_way)
    return Verdict(found, waits) if waits is not None else Verdict([*found, *differs])


def _books(facts: Facts) -> list[Finding]:
    row, books = facts.row.total, facts.books
    if row == books:
        return []
    expected, found = (f"{units} {facts.currency} gone, fee and all" for units in (row, books))
    return [Finding(BOOKS, expected, found, books - row)]  # the books are to become what the row says


def _differences(facts: Facts, ours: Moved) -> list[Finding]:
    theirs = facts.told
    if facts.strange:
        found = ", ".join([*([_said(theirs, facts)] if theirs != Moved() else []), *facts.strange])
        return [Finding(AMOUNT, _said(ours, facts), found, ours.gone - theirs.gone, ours.fee - theirs.fee)]
    of_fee = ours.fee - theirs.fee
    if theirs.gone != ours.gone:  # its fee goes with it: one cause, one break
        kind = AMOUNT if theirs.gone and ours.gone else STATE
        before = "" if kind == AMOUNT else f"{facts.state}, "
        said = f"{before}{_said(ours, facts)}"
        return [Finding(kind, said, _said(theirs, facts), ours.gone - theirs.gone, of_fee)]
    if of_fee:
        expected, found = f"a fee of {ours.fee} {facts.currency}", f"{theirs.fee} {facts.currency}"
        return [Finding(FEE, expected, found, 0, of_fee)]
    return []


def _until_told(facts: Facts, *, now: datetime, grace: timedelta) -> Waiting | None:
    if facts.ended_at is not None and now < facts.ended_at + grace:
        return Waiting.NOT_YET
    return None if facts.covered else Waiting.NOT_COVERED


def _until_known(facts: Facts, *, now: datetime, grace: timedelta, under_way: timedelta) -> Waiting | None:
    if facts.told_at is None or facts.booked_at is None:
        return None
    if facts.is_under_way:
        return Waiting.UNDER_WAY if now < facts.booked_at + under_way else None
    if facts.asked_at is not None and facts.asked_at > facts.told_at:
        return None
    return Waiting.ASKED if now < facts.told_at + grace else None


def _said(moved: Moved, facts: Facts) -> str:
    return f"{moved.gone} {facts.currency} gone, fee {moved.fee}"
