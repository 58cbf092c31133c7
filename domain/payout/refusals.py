"""How many payouts this process has refused, by why: what is refused leaves no row that could be counted."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock

from core.errors import ConflictError, TallyrailError
from domain.payout.errors import LimitExceededError, PayoutRefusedError, TooManyRequestsError
from ledger.errors import InsufficientFundsError

REASONS: Mapping[type[TallyrailError], str] = {
    PayoutRefusedError: "rules",
    LimitExceededError: "limit",
    TooManyRequestsError: "pace",
    InsufficientFundsError: "funds",
    ConflictError: "conflict",
}
"""The first that fits; what fits none can't be as it was asked for."""
OTHER = "request"

_counts: Counter[str] = Counter(dict.fromkeys((*REASONS.values(), OTHER), 0))
_lock = Lock()


def count(error: TallyrailError) -> None:
    reason = next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), OTHER)
    with _lock:
        _counts[reason] += 1


def counted() -> dict[str, int]:
    with _lock:
        return dict(_counts)
