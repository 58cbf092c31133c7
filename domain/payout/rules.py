"""The rules of the screening: facts -> findings. Pure: no clock, no database, no settings.

A rule is data: a kind, its parameters, a verdict and a score. Those below a verdict's weight only add their score. What
each kind asks is its class's `reason`: a sentence, or None if it has nothing to say. docs/payouts.md lists them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, time, timedelta
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core.errors import InvalidRequestError
from domain.payout.states import Verdict

SCORE_MAX = 1_000
GRAVITY = (Verdict.NOTE, Verdict.REVIEW, Verdict.FREEZE, Verdict.REFUSE)
"""Rising."""
PERCENT = 100
WITHIN_MAX = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A payout that was asked for before, of the same account or to the same destination."""

    account: str
    destination: str
    asset: str
    units: int
    value_cents: int | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a payout when it is screened. `of_account` and `to_destination` are the newest first."""

    now: datetime
    account: str
    destination: str
    """Its fingerprint."""
    asset: str
    units: int
    value_cents: int | None
    affiliate: bool
    account_since: datetime | None
    destination_since: datetime | None
    """When it was verified in this account's book."""
    of_account: Sequence[Past] = ()
    to_destination: Sequence[Past] = ()
    paid_of_account: bool
    paid_of_tenant: int
    """Counted up to what the rules ask for, not further."""
    denied: frozenset[str] = frozenset()
    """Of `account` and `destination`: which of them are on the list."""
    allowed: frozenset[str] = frozenset()
    unsettled_units: int = 0
    """Of the account's money in this asset: what deposits that aren't final have credited."""
    free_units: int = 0
    """What its account has that nothing but this payout binds."""
    needed_units: int = 0
    """What is held for this payout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    rule: str
    verdict: Verdict
    score: int
    reason: str

    def row(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": str(self.verdict)}


class Kind(BaseModel):
    """Parameters of a kind of rule, which are all that its rows may have."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    by_settings: ClassVar[bool] = False
    """Made from the settings and lists, and never a row."""

    @property
    def looks_back(self) -> timedelta:
        """How far it looks at what was asked for before. Nothing earlier need be among the facts."""
        return timedelta(0)

    def reason(self, facts: Facts) -> str | None:
        raise NotImplementedError


Seconds = Annotated[int, Field(ge=1, le=WITHIN_MAX)]
Side = Literal["account", "destination"]
Times = Annotated[int, Field(ge=1, le=1_000)]


class _LooksBack(Kind):
    seconds: Seconds

    @property
    def looks_back(self) -> timedelta:
        return timedelta(seconds=self.seconds)


class Velocity(_LooksBack):
    """The account, or the destination, has had `count` payouts within `seconds`, and this is one more."""

    count: Times
    seconds: Seconds
    of: Side = "account"

    def reason(self, facts: Facts) -> str | None:
        past = facts.of_account if self.of == "account" else facts.to_destination
        found = sum(1 for _ in _recent(past, facts.now, self.seconds))
        return f"{found} others of the {self.of} in {_span(self.seconds)}" if found >= self.count else None


class Repeats(_LooksBack):
    """The account has asked for the same amount `count` times within `seconds`, and does so again."""

    count: Times
    seconds: Seconds

    def reason(self, facts: Facts) -> str | None:
        recent = _recent(facts.of_account, facts.now, self.seconds)
        found = sum(1 for past in recent if (past.asset, past.units) == (facts.asset, facts.units))
        return f"the same amount {found} times before in {_span(self.seconds)}" if found >= self.count else None


class FanIn(_LooksBack):
    """Within `seconds` the destination is that of `accounts` different ones, this one included."""

    accounts: Annotated[int, Field(ge=2, le=1_000)]
    seconds: Seconds

    def reason(self, facts: Facts) -> str | None:
        recent = _recent(facts.to_destination, facts.now, self.seconds)
        found = len({past.account for past in recent} | {facts.account})
        return f"{found} accounts send there in {_span(self.seconds)}" if found >= self.accounts else None


class NewAccount(Kind):
    """The account is younger than `seconds`. One on the allow list is old."""

    seconds: Seconds

    def reason(self, facts: Facts) -> str | None:
        if "account" in facts.allowed:
            return None
        young = facts.account_since is None or facts.now - facts.account_since < timedelta(seconds=self.seconds)
        return f"the account is younger than {_span(self.seconds)}" if young else None


class JustBelow(_LooksBack):
    """`count` of the account's within `seconds`, this one included, are worth up to `percent` less than `cents`."""

    cents: Annotated[int, Field(ge=1, lt=10**30)]
    percent: Annotated[int, Field(ge=1, le=PERCENT)]
    count: Times
    seconds: Seconds

    def reason(self, facts: Facts) -> str | None:
        if not self._is_below(facts.value_cents):
            return None
        recent = _recent(facts.of_account, facts.now, self.seconds)
        found = 1 + sum(1 for past in recent if self._is_below(past.value_cents))
        return f"{found} just below {self.cents} cents in {_span(self.seconds)}" if found >= self.count else None

    def _is_below(self, value: int | None) -> bool:
        return value is not None and self.cents * (PERCENT - self.percent) <= value * PERCENT < self.cents * PERCENT


class RoundAmount(Kind):
    """Its units are a multiple of `units` of `asset`."""

    asset: Annotated[str, Field(min_length=1, max_length=200)]
    units: Annotated[int, Field(ge=2, lt=10**38)]

    def reason(self, facts: Facts) -> str | None:
        is_round = facts.asset == self.asset and facts.units % self.units == 0
        return f"a multiple of {self.units} units" if is_round else None


class Value(Kind):
    """It is worth `cents` or more, or nobody knows what."""

    cents: Annotated[int, Field(ge=1, lt=10**30)]

    def reason(self, facts: Facts) -> str | None:
        if facts.value_cents is None:
            return "what it is worth is not known"
        return f"worth {facts.value_cents} cents" if facts.value_cents >= self.cents else None


class Hours(Kind):
    """It is asked for from `begin` to before `end` of the day in `zone`; an `end` before `begin` is the next day's."""

    zone: str
    begin: time = Field(strict=False)
    end: time = Field(strict=False)

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{zone[:64]!r} is no time zone") from None
        return zone

    @field_validator("begin", "end")
    @classmethod
    def _local(cls, at: time) -> time:
        if at.tzinfo is not None:
            raise ValueError("a time of the day in `zone`, without one of its own")
        return at

    def reason(self, facts: Facts) -> str | None:
        at = facts.now.astimezone(ZoneInfo(self.zone)).time()
        if self.begin <= self.end:
            return self._said(at) if self.begin <= at < self.end else None
        return self._said(at) if at >= self.begin or at < self.end else None

    def _said(self, at: time) -> str:
        return f"asked for at {at:%H:%M} in {self.zone}"


class Affiliate(Kind):
    """It pays a commission to somebody who brings players."""

    def reason(self, facts: Facts) -> str | None:
        return "to an affiliate" if facts.affiliate else None


class FirstOfAccount(Kind):
    """Nothing of the account was ever paid. One on the allow list is trusted."""

    by_settings: ClassVar[bool] = True

    def reason(self, facts: Facts) -> str | None:
        is_first = not facts.paid_of_account and "account" not in facts.allowed
        return "nothing of this account was paid before" if is_first else None


class FirstOfTenant(Kind):
    """Fewer than `count` of the tenant were paid."""

    by_settings: ClassVar[bool] = True
    count: Annotated[int, Field(ge=1, le=1_000_000)]

    def reason(self, facts: Facts) -> str | None:
        return f"fewer than {self.count} of this tenant were paid" if facts.paid_of_tenant < self.count else None


class NewDestination(Kind):
    """The destination was verified less than `seconds` ago. One on the allow list is old."""

    by_settings: ClassVar[bool] = True
    seconds: Annotated[int, Field(ge=1)]

    def reason(self, facts: Facts) -> str | None:
        if "destination" in facts.allowed:
            return None
        since = facts.destination_since
        young = since is None or facts.now - since < timedelta(seconds=self.seconds)
        return f"the destination was verified less than {_span(self.seconds)} ago" if young else None


class Denied(Kind):
    """The account or the destination is on the deny list."""

    by_settings: ClassVar[bool] = True

    def reason(self, facts: Facts) -> str | None:
        return f"on the deny list: {', '.join(sorted(facts.denied))}" if facts.denied else None


class Unsettled(Kind):
    """Without what deposits that aren't final have credited, the account would not have what this takes."""

    by_settings: ClassVar[bool] = True

    def reason(self, facts: Facts) -> str | None:
        if facts.free_units - facts.unsettled_units >= facts.needed_units:
            return None
        return f"{facts.unsettled_units} units of the account are of deposits that are not final"


class NoRate(Kind):
    """Nobody knows what it is worth, so the limits by value say nothing of it."""

    by_settings: ClassVar[bool] = True

    def reason(self, facts: Facts) -> str | None:
        return "there is no usable rate: limits by value could not be looked at" if facts.value_cents is None else None


KINDS: Mapping[str, type[Kind]] = {
    "velocity": Velocity,
    "repeats": Repeats,
    "fan_in": FanIn,
    "new_account": NewAccount,
    "just_below": JustBelow,
    "round_amount": RoundAmount,
    "value": Value,
    "hours": Hours,
    "affiliate": Affiliate,
    "first_of_account": FirstOfAccount,
    "first_of_tenant": FirstOfTenant,
    "new_destination": NewDestination,
    "denied": Denied,
    "unsettled": Unsettled,
    "no_rate": NoRate,
}
"""By the name that rows have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    name: str
    asks: Kind
    verdict: Verdict
    score: int

    def parameters(self) -> dict[str, Any]:
        """As its row has them."""
        return self.asks.model_dump(mode="json")


def rule(name: str, kind: str, parameters: Mapping[str, Any], verdict: Verdict, score: int) -> Rule:
    """A rule of its row. Raises InvalidRequestError, with the field at fault, for what is none."""
    made = KINDS.get(kind)
    if made is None:
        raise InvalidRequestError(f"there is no kind of rule {kind[:64]!r}: {', '.join(row_kinds())}", field="kind")
    if not 0 <= score <= SCORE_MAX:
        raise InvalidRequestError(f"a score is 0 to {SCORE_MAX}", field="score")
    try:
        asks = made.model_validate(dict(parameters))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the parameters"
        raise InvalidRequestError(f"{where} of {kind}: {first['msg']}", field="parameters") from None
    return Rule(name=name, asks=asks, verdict=verdict, score=score)


def row_kinds() -> list[str]:
    """Kinds that rows may have. The others follow from settings and lists."""
    return [name for name, kind in KINDS.items() if not kind.by_settings]


def built_in(*, cooling_seconds: int, first_by_hand: int) -> list[Rule]:
    """What settings and lists ask for, as rules."""
    asked = [
        rule("denied", "denied", {}, Verdict.REFUSE, 0),
        rule("unsettled", "unsettled", {}, Verdict.FREEZE, 0),
        rule("no_rate", "no_rate", {}, Verdict.REVIEW, 0),
        rule("new_destination", "new_destination", {"seconds": cooling_seconds}, Verdict.REVIEW, 0),
        rule("first_of_account", "first_of_account", {}, Verdict.REVIEW, 0),
    ]
    if first_by_hand:
        asked.append(rule("first_of_tenant", "first_of_tenant", {"count": first_by_hand}, Verdict.REVIEW, 0))
    return asked


def findings(facts: Facts, rules: Iterable[Rule]) -> list[Finding]:
    """What the rules say, in their order."""
    said = ((rule, rule.asks.reason(facts)) for rule in rules)
    return [
        Finding(rule=rule.name, verdict=rule.verdict, score=rule.score, reason=reason)
        for rule, reason in said
        if reason is not None
    ]


def verdict_of(found: Iterable[Finding], *, review_score: int, refuse_score: int) -> Verdict:
    """The gravest of what each finding says and what their scores sum up to."""
    found = list(found)
    score = sum(each.score for each in found)
    summed = Verdict.REFUSE if score >= refuse_score else Verdict.REVIEW if score >= review_score else Verdict.NOTE
    return max((summed, *(each.verdict for each in found)), key=GRAVITY.index)


def approvals_needed(value_cents: int | None, verdict: Verdict, tiers: Sequence[tuple[int, int]]) -> int:
    """How many people must agree: by value, the most if nobody knows it, and at least one if a rule wants a look.

    `tiers`: rising (cents, people), each from its value on.
    """
    if value_cents is None:
        by_value = max((people for _, people in tiers), default=0)
    else:
        by_value = max((people for cents, people in tiers if value_cents >= cents), default=0)
    return max(by_value, 0 if verdict is Verdict.NOTE else 1)


def _recent(past: Iterable[Past], now: datetime, seconds: int) -> Iterable[Past]:
    return (each for each in past if now - each.at < timedelta(seconds=seconds))


def _span(seconds: int) -> str:
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
