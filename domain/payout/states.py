"""The life of a payout, of one attempt to send it, and what people decide about it."""

from enum import StrEnum

from core.machine import Machine


class PayoutState(StrEnum):
    CREATED = "created"
    HELD = "held"
    """Its money is bound. It stands here while its destination's holder is being asked for."""
    SCREENED = "screened"
    """Rules and limits are decided. Nothing is ever committed in this state."""
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    """It may be sent; `waits_for` says what it waits for."""
    SUBMITTING = "submitting"
    """The intent is committed. Found by another run, it is as good as unknown."""
    SUBMITTED = "submitted"
    """A provider has it under way."""
    UNKNOWN = "unknown"
    """Nobody knows whether a provider has it. It is looked up; only proof or two people end this."""
    PAID = "paid"
    FAILED = "failed"
    """It certainly did not leave, and the money is its owner's again."""
    RETURNED = "returned"
    """It left and came back. Its owner has the money again."""
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FROZEN = "frozen"
    """Nothing goes on until a person, or the end of what froze it, says so."""


S = PayoutState

PAYOUT = Machine(
    name="payout",
    initial=S.CREATED,
    edges={
        S.CREATED: {"hold": S.HELD},
        S.HELD: {"screen": S.SCREENED, "reject": S.REJECTED, "cancel": S.CANCELLED, "freeze": S.FROZEN},
        S.SCREENED: {"ask": S.AWAITING_APPROVAL, "approve": S.APPROVED, "freeze": S.FROZEN},
        S.AWAITING_APPROVAL: {"approve": S.APPROVED, "reject": S.REJECTED, "cancel": S.CANCELLED, "freeze": S.FROZEN,
                              "edit": S.HELD},
        S.APPROVED: {"submit": S.SUBMITTING, "reject": S.REJECTED, "cancel": S.CANCELLED, "freeze": S.FROZEN,
                     "edit": S.HELD,
                     "pay_by_hand": S.PAID, "fail": S.FAILED},  # no provider takes it: its destination is refused
        S.SUBMITTING: {"accept": S.SUBMITTED, "pay": S.PAID, "fail": S.FAILED, "lose": S.UNKNOWN,
                       "return": S.RETURNED,
                       "refuse": S.APPROVED, "not_sent": S.APPROVED},  # proven: it may be sent again, or elsewhere
        S.UNKNOWN: {"accept": S.SUBMITTED, "pay": S.PAID, "fail": S.FAILED, "return": S.RETURNED,
                    "refuse": S.APPROVED, "absent": S.APPROVED,  # its time at the provider is over: it has none
                    "resend": S.SUBMITTING},  # under the same key, which makes none twice
        S.SUBMITTED: {"pay": S.PAID, "fail": S.FAILED, "return": S.RETURNED, "lose": S.UNKNOWN,
                      "refuse": S.APPROVED},  # it failed there in a way that another try may mend
        S.PAID: {"return": S.RETURNED},
        S.FAILED: {"pay": S.PAID, "accept": S.SUBMITTED},  # a provider took its word back
        S.RETURNED: {"pay": S.PAID},
        S.FROZEN: {"thaw": S.HELD, "reject": S.REJECTED, "cancel": S.CANCELLED},
    },
)  # fmt: skip

OPEN = frozenset({S.HELD, S.AWAITING_APPROVAL, S.APPROVED, S.SUBMITTING, S.SUBMITTED, S.UNKNOWN, S.FROZEN})
"""What still may leave. It counts against the limits, as what has left does."""
UNSENT = frozenset({S.HELD, S.AWAITING_APPROVAL, S.APPROVED, S.FROZEN})


class AttemptState(StrEnum):
    """Of asking one provider, under one key."""

    ASKING = "asking"
    """The intent, written before the call."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    FAILED = "failed"
    """It was accepted, and failed there for good: nothing left."""
    ABSENT = "absent"
    """It was unknown, and the provider certainly has none."""


UNSETTLED_ATTEMPTS = frozenset({AttemptState.ASKING, AttemptState.ACCEPTED, AttemptState.UNKNOWN})
"""While there is one of these no other attempt is made."""


class Wait(StrEnum):
    """What keeps an approved payout from being sent until it passes by itself."""

    PROVIDER = "provider"
    """None that can take it is healthy and has credentials here."""
    HOURS = "hours"
    BALANCE = "balance"
    """We have too little at every provider that could."""


class Decision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


class Verdict(StrEnum):
    """Of one finding of the screening. The gravest counts."""

    NOTE = "note"
    REVIEW = "review"
    FREEZE = "freeze"
    REFUSE = "refuse"
