"""The life of a deposit. What rests on a block is undone when that block is, until the deposit is final."""

from enum import StrEnum

from core.machine import Machine


class DepositState(StrEnum):
    WATCHING = "watching"
    """In no block that we know of. A sighting in the mempool proves nothing and changes nothing."""
    PENDING = "pending"
    """In a block, which is not yet deep enough. `reason` already says what will come of it; none means a credit."""
    CREDITED = "credited"
    SUSPENDED = "suspended"
    """The money arrived, but not as asked. It waits in suspense for a person."""
    REJECTED = "rejected"
    """What was shown to us is not a payment of this deposit. Nothing was booked."""
    EXPIRED = "expired"
    """The chain went past the deadline without it."""
    REPLACED = "replaced"
    """Another transaction of the same sender took its nonce."""


S = DepositState

DEPOSIT = Machine(
    name="deposit",
    initial=S.WATCHING,
    edges={
        S.WATCHING: {"seen": S.PENDING, "expire": S.EXPIRED, "replace": S.REPLACED},
        S.PENDING: {"credit": S.CREDITED, "suspend": S.SUSPENDED, "reject": S.REJECTED, "reorged": S.WATCHING,
                    "overruled": S.WATCHING},  # two nodes tell otherwise than the one that was believed
        S.CREDITED: {"reorged": S.WATCHING},  # with a reversal; what was spent meanwhile becomes a debt
        S.SUSPENDED: {"release": S.CREDITED, "reorged": S.WATCHING},  # an operator gave the money to its owner
        S.REJECTED: {"reorged": S.WATCHING},  # a block said no; the block that takes its place may say yes
        S.EXPIRED: {"late": S.PENDING},  # money that comes too late is still money: it ends in suspense
        S.REPLACED: {"late": S.PENDING},  # the replacement was itself undone, or a node that lags misled us
    },
)  # fmt: skip


class Mode(StrEnum):
    """How a deposit finds its transfer."""

    TX = "tx"
    """By the hash of a transaction that pays to a shared address."""
    ADDRESS = "address"
    """By whatever arrives on an address that belongs to one owner."""
    UNEXPECTED = "unexpected"
    """Made by the scanner, for money that arrived on an owner's address while no deposit waited for it."""


class Reason(StrEnum):
    """Why a deposit is not simply credited. docs/deposits.md says what each means."""

    UNDERPAID = "underpaid"
    OVERPAID = "overpaid"
    LATE = "late"
    UNEXPECTED = "unexpected"

    TX_EXPIRED = "tx_expired"
    """The transaction says until when a block could take it in, and the chain is past it."""

    REVERTED = "reverted"
    WRONG_RECIPIENT = "wrong_recipient"
    WRONG_TOKEN = "wrong_token"  # noqa: S105  # no password
    WRONG_TAG = "wrong_tag"
    WRONG_PAYER = "wrong_payer"
    ZERO_VALUE = "zero_value"
    BELOW_MINIMUM = "below_minimum"
    OLDER_THAN_ORDER = "older_than_order"
    DUPLICATE = "duplicate"
    TOO_LARGE = "too_large"


SUSPENDING = frozenset({Reason.UNDERPAID, Reason.OVERPAID, Reason.LATE, Reason.UNEXPECTED})
"""Money arrived: it is booked, to suspense unless the deposit accepts that. Every other reason books nothing."""


class Wait(StrEnum):
    """What keeps a deposit pending that is deep enough."""

    AGREEMENT = "agreement"
    """Nodes tell its transaction differently."""
    SECOND_NODE = "second_node"
    """No second node of another host answers."""
    RATE = "rate"
    """No rate is known for the time of its block."""


IN_A_BLOCK = frozenset({S.PENDING, S.CREDITED, S.SUSPENDED, S.REJECTED})
"""States that rest on a block."""

OPEN = frozenset({S.WATCHING, S.EXPIRED, S.REPLACED})
"""States from which a transfer can still be found."""
