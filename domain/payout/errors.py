"""Why a payout is not taken. Each is told as a problem of its own."""

from datetime import timedelta

from core.errors import InvalidRequestError


class LimitExceededError(InvalidRequestError):
    """It would take an account, a destination or a tenant over what it may send."""

    def __init__(self, limit: str, *, most: int, would_be: int, field: str = "units") -> None:
        super().__init__(f"the limit {limit} is {most}, and this would make it {would_be}", field=field)
        self.limit, self.most, self.would_be = limit, most, would_be


class TooManyRequestsError(InvalidRequestError):
    """The account asked for as many payouts as it may in an hour."""

    def __init__(self, account: str, *, most: int, retry_after: timedelta) -> None:
        super().__init__(f"{account} may ask for {most} payouts an hour", field="account")
        self.retry_after = retry_after


class PayoutRefusedError(InvalidRequestError):
    """The screening refuses it. Which rules did is in our log and not told: an answer is no manual for getting by."""

    def __init__(self, rules: list[str]) -> None:
        super().__init__("the payout is refused by the rules of this platform")
        self.rules = rules
