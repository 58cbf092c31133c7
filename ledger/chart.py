"""The chart of accounts: which codes exist, and what each kind of account is.

A code is segments joined by colons, `user:42:available`. Its first and last segments say what it is; nothing else does,
so an account can be made the moment something is posted to it. Codes that no rule knows are refused.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from core.errors import InvalidRequestError

CODE_LENGTH_MAX = 200
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Python's $ would let a trailing newline through, hence fullmatch everywhere.
OWNERS = ("user", "merchant", "agent")
KEPT = ("playing", "staked")
BOUNDED = ("available", *KEPT)


class Kind(StrEnum):
    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSE = "expense"


class Side(StrEnum):
    """The side on which an account's balance is shown as positive."""

    DEBIT = "debit"
    CREDIT = "credit"

    @property
    def sign(self) -> int:
        """What turns a raw sum (sources negative, destinations positive) into the balance people read, and back."""
        return -1 if self is Side.DEBIT else 1


STRIPES = 16
"""Rows over which a busy account of ours is spread (ADR 11)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the chart says of a code. `floor` bounds the balance on the normal side; None means it may go anywhere.

    An account that every customer's money passes through is kept in several rows (`stripes`), so that posts needn't
    wait for one another. Only without bounds: whether a sum of rows is above a floor can't be said from one of them.
    """

    kind: Kind
    floor: int | None = None
    stripes: int = 1

    @property
    def normal_side(self) -> Side:
        return Side.DEBIT if self.kind in (Kind.ASSET, Kind.EXPENSE) else Side.CREDIT


AVAILABLE = Rule(Kind.LIABILITY, floor=0)
OWED = Rule(Kind.ASSET, floor=0)  # what they owe us; below zero we would owe them, and that belongs in `available`
HELD = Rule(Kind.LIABILITY)
# No floor: the chain is the truth there, and the books must be able to be behind it.
CUSTODY = Rule(Kind.ASSET, stripes=STRIPES)
# Nor here: a gateway may take back more than it owes us at the moment.
GATEWAY = Rule(Kind.ASSET, stripes=STRIPES)
SUSPENSE = Rule(Kind.LIABILITY, stripes=STRIPES)
FEES = Rule(Kind.INCOME, stripes=STRIPES)
ROUNDING = Rule(Kind.INCOME, stripes=STRIPES)
GATEWAY_FEES = Rule(Kind.EXPENSE, stripes=STRIPES)
CLEARING = Rule(Kind.EQUITY, stripes=STRIPES)
BETS = Rule(Kind.INCOME, stripes=STRIPES)
OURS = {
    "house:fees": FEES,
    "house:rounding": ROUNDING,
    "house:gateway_fees": GATEWAY_FEES,
    "house:payout_fees": GATEWAY_FEES,
    "house:bets": BETS,
    "clearing:fx": CLEARING,
}


@lru_cache(maxsize=10_000)
def rule(code: str) -> Rule:
    """What an account of this code is. Raises InvalidRequestError for a code that the chart doesn't know."""
    if len(code) > CODE_LENGTH_MAX:
        raise InvalidRequestError(f"an account code has at most {CODE_LENGTH_MAX} characters", field="account")
    segments = code.split(":")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise InvalidRequestError(f"{code[:80]!r} is no account code", field="account")
    match segments:
        case [owner, _, purpose] if owner in OWNERS:
            return OWED if purpose == "owed" else AVAILABLE if purpose in BOUNDED else HELD
        case ["packet", _]:
            return AVAILABLE
        case ["custody", _, _]:
            return CUSTODY
        case ["gateway", _]:
            return GATEWAY
        case ["suspense" | "transit", _]:
            return SUSPENSE
        case _ if code in OURS:
            return OURS[code]
        case _:
            raise InvalidRequestError(f"the chart of accounts has no place for {code!r}", field="account")


def is_kept(code: str) -> bool:
    """Whether the account mirrors what is decided elsewhere, so that nobody else may move money into or out of it."""
    segments = code.split(":")
    return segments[0] == "packet" or (segments[0] in OWNERS and segments[-1] in KEPT)


def owner_account(code: str) -> str:
    """The code, if an upstream app may ask for it to be credited: what we owe a user, a merchant or an agent."""
    if code.split(":", 1)[0] not in OWNERS or rule(code).kind is not Kind.LIABILITY or is_kept(code):
        raise InvalidRequestError(
            f"{code[:80]!r} can't be credited: give an account like user:42:available", field="account"
        )
    return code


def user_available(user: str) -> str:
    """What the user can spend."""
    return f"user:{user}:available"


def user_owed(user: str) -> str:
    """What the user owes us, such as money already spent when the deposit behind it was undone."""
    return f"user:{user}:owed"


def owed_by(code: str) -> str:
    """The receivable beside an owner's account: `agent:7:owed` for `agent:7:available`."""
    owner, name, _ = owner_account(code).split(":")
    return f"{owner}:{name}:owed"


def custody(chain: str) -> str:
    """What we hold on a chain, which CAIP-2 names, such as `eip155:56`."""
    return f"custody:{chain}"


def deposit_suspense() -> str:
    """Deposits that arrived but don't fit what was asked for; a person decides where they go."""
    return "suspense:deposits"


def bank(currency: str) -> str:
    """What lies in our bank account of a currency, `USD` of `iso4217:USD`."""
    return f"custody:bank:{currency.rpartition(':')[2]}"


def gateway(provider: str) -> str:
    """What a gateway has taken from payers and has not yet paid out to us."""
    return f"gateway:{provider}"


def gateway_fees() -> str:
    """What gateways keep of the payments that they take."""
    return "house:gateway_fees"


def payout_custody(provider: str) -> str:
    """What we have to send from: at a payout provider, or on the chain that CAIP-2 names."""
    return custody(provider) if ":" in provider else f"custody:provider:{provider}"


def payouts_in_transit() -> str:
    """Payouts whose sending has begun: no longer their owners', and not known to have left."""
    return "transit:payouts"


def payout_fees() -> str:
    """What providers take for sending."""
    return "house:payout_fees"


def payout_suspense() -> str:
    """Payouts that came back to an account that can't take them."""
    return "suspense:payouts"


def payment_suspense() -> str:
    """Payments that a gateway took and that nobody is credited with yet."""
    return "suspense:payments"


def fees() -> str:
    return "house:fees"


def rounding() -> str:
    """Where the remainders of conversions go, of the order of one smallest unit each."""
    return "house:rounding"


def packet(packet_id: str) -> str:
    """What a red packet still has to give."""
    return f"packet:{packet_id}"


def playing(user: str) -> str:
    """What a player can bet: it lies in the hot store, and is the rest of what was loaded into it."""
    return f"user:{user}:playing"


def staked(user: str) -> str:
    """What a player's open bets bind."""
    return f"user:{user}:staked"


def bets() -> str:
    """What players lose to the house, less what it pays them."""
    return "house:bets"


def fx_clearing() -> str:
    """Between the two assets of a conversion. Its balances are our open position in each asset."""
    return "clearing:fx"
