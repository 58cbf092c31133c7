"""The life of a payment by card, bank or wallet, and of a refund that was asked for."""

from enum import StrEnum

from core.machine import Machine


class PaymentState(StrEnum):
    CREATED = "created"
    """Written, and no gateway is known to have taken the order."""
    PENDING = "pending"
    """A gateway has the order. The payer may pay."""
    PAID = "paid"
    """The gateway has the money, and it is not the owner's: it waits for a rate, or for a person (`hold_reason`)."""
    CREDITED = "credited"
    FAILED = "failed"
    EXPIRED = "expired"
    REFUNDED = "refunded"
    """All of it went back to the payer. A part that went back is told by the amounts alone."""
    DISPUTED = "disputed"
    """The payer's bank contests it. What is contested was taken back from its owner meanwhile."""
    CHARGED_BACK = "charged_back"


S = PaymentState

FIAT_PAYMENT = Machine(
    name="fiat_payment",
    initial=S.CREATED,
    edges={
        S.CREATED: {"order": S.PENDING, "pay": S.PAID, "fail": S.FAILED, "expire": S.EXPIRED},  # a webhook may be first
        S.PENDING: {"pay": S.PAID, "fail": S.FAILED, "expire": S.EXPIRED},
        S.FAILED: {"pay": S.PAID},  # a second try of the payer, or a status that the provider took back
        S.EXPIRED: {"pay": S.PAID},  # money that comes late is still money
        S.PAID: {"credit": S.CREDITED, "refund": S.REFUNDED, "dispute": S.DISPUTED, "charge_back": S.CHARGED_BACK},
        S.CREDITED: {"refund": S.REFUNDED, "dispute": S.DISPUTED, "charge_back": S.CHARGED_BACK},
        S.DISPUTED: {"win": S.CREDITED, "reopen": S.PAID, "refund": S.REFUNDED, "charge_back": S.CHARGED_BACK},
        S.CHARGED_BACK: {"win": S.CREDITED, "reopen": S.PAID, "refund": S.REFUNDED,
                         "dispute": S.DISPUTED},  # presented again, which may be won; or a second dispute
        S.REFUNDED: {"win": S.CREDITED, "reopen": S.PAID,  # the payer paid once more
                     "dispute": S.DISPUTED, "charge_back": S.CHARGED_BACK},  # paid back twice
    },
)  # fmt: skip


class HoldReason(StrEnum):
    """Why a person has to decide. docs/fiat-payments.md says what each means."""

    AMOUNT = "amount"
    CURRENCY = "currency"
    SLIPPAGE = "slippage"
    ACCOUNT = "account"
    """The account to credit can't take it: it is closed, or has its most."""
    TOO_SMALL = "too_small"
    """What is left of it after our fee, or what it converts into, would be nothing."""
    DUPLICATE = "duplicate"
    """It is the second payment of one order: what another gateway took as well."""


class Wait(StrEnum):
    """What keeps a paid payment from being credited until it passes by itself."""

    RATE = "rate"


class AttemptState(StrEnum):
    """Of asking one gateway for the order."""

    ASKING = "asking"
    """The intent, written before the call. Found by another run, it is as good as unknown."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    LEFT = "left"
    """It may have an order. The money came to one of an earlier gateway, which is the payment's now."""
    LOST = "lost"
    """Unknown, and the provider knew none when its time was over. The same gateway is asked again, and no other."""


MAY_BE_THERE = frozenset({AttemptState.ASKING, AttemptState.UNKNOWN, AttemptState.ACCEPTED})


class RefundState(StrEnum):
    REQUESTED = "requested"
    ASKING = "asking"
    UNKNOWN = "unknown"
    PENDING = "pending"
    """The provider has it under way."""
    DONE = "done"
    FAILED = "failed"


R = RefundState

FIAT_REFUND = Machine(
    name="fiat_refund",
    initial=R.REQUESTED,
    edges={
        R.REQUESTED: {"ask": R.ASKING, "fail": R.FAILED},
        R.ASKING: {"accept": R.PENDING, "finish": R.DONE, "fail": R.FAILED, "not_sent": R.REQUESTED, "lose": R.UNKNOWN},
        R.UNKNOWN: {"accept": R.PENDING, "finish": R.DONE, "fail": R.FAILED, "not_found": R.REQUESTED},
        R.PENDING: {"finish": R.DONE, "fail": R.FAILED},
        R.DONE: {"fail": R.FAILED},  # a bank may send it back days later
    },
)  # fmt: skip

OPEN_REFUNDS = frozenset({R.REQUESTED, R.ASKING, R.UNKNOWN, R.PENDING})
UNPAID = frozenset({S.CREATED, S.PENDING, S.FAILED, S.EXPIRED})
ORDERED = frozenset({S.CREATED, S.PENDING})


class Source(StrEnum):
    """Who told us of an order."""

    CREATE = "create"
    WEBHOOK = "webhook"
    """A hint: what doesn't only grow is asked for before it is believed."""
    FIND = "find"
