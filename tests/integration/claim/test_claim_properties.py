"""Whatever happens in whatever order, Redis and PostgreSQL answer as a model does, and the books add up."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core.db import transaction
from core.errors import ConflictError
from core.hot.store import StoreMode
from domain.claim import fallback, service
from domain.claim.hot import CLOSE, close_item
from domain.claim.service import Answer, Ask, ClaimResult, Packet, Reason, Shares
from tests.integration.claim.desk import Desk

R = ClaimResult
USERS = [f"u{number}" for number in range(5)]
LISTED = tuple(USERS[:4])

senders = count()

users = st.sampled_from(USERS)
groups = st.sampled_from([None, "g", "other"])
packet = st.integers(0, 1)
step = st.one_of(
    st.tuples(st.just("claim"), packet, users, groups),
    st.tuples(st.just("claim"), packet, users, st.just("g")),
    st.tuples(st.just("batch"), st.lists(st.tuples(packet, users, st.just("g")), min_size=2, max_size=6)),
    st.tuples(st.just("turn"), st.sampled_from(StoreMode)),
    st.tuples(st.just("drain"), st.booleans()),
    st.tuples(st.just("expire"), packet),
    st.tuples(st.just("close_due")),
    st.tuples(st.just("forget")),
    st.tuples(st.just("cancel"), packet),
)
terms = st.fixed_dictionaries(
    {
        "units": st.integers(6, 60),
        "count": st.integers(1, 3),
        "units_min": st.integers(1, 2),
        "kind": st.sampled_from(Shares),
        "group": st.sampled_from([None, "g"]),
        "allowed": st.sampled_from([None, LISTED]),
    }
)
relaxed = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass
class Model:
    """A packet as the documentation has it."""

    packet: Packet
    allowed: tuple[str, ...] | None
    won: dict[str, int] = field(default_factory=dict)
    over: ClaimResult | None = None
    late: bool = False

    @property
    def left(self) -> int:
        return self.packet.count - len(self.won)

    def claim(self, user: str, group: str | None) -> tuple[ClaimResult, int | None, int | None]:
        if user in self.won:
            place = self.won[user]
            return R.ALREADY, place, self.packet.shares[place - 1]
        refusal = self._refusal(user, group)
        if refusal is not None:
            return refusal, None, None
        self.won[user] = place = len(self.won) + 1
        return R.WON, place, self.packet.shares[place - 1]

    def _refusal(self, user: str, group: str | None) -> ClaimResult | None:
        if self.over is not None:
            return self.over
        if not self.left:
            return R.EMPTY
        if self.late:
            return R.EXPIRED
        meant = self.packet.group_name in (None, group) and (self.allowed is None or user in self.allowed)
        return None if meant else R.NOT_ELIGIBLE

    def close(self, result: ClaimResult) -> None:
        if self.over is None and self.left:
            self.over = result

    @property
    def units_won(self) -> int:
        return sum(self.packet.shares[: len(self.won)])


def plain(answer: Answer) -> tuple[ClaimResult, int | None, int | None]:
    return answer.result, answer.place, answer.units


class World:
    def __init__(self, desk: Desk, models: list[Model]) -> None:
        self.desk, self.models = desk, models
        self.first: dict[tuple[int, str], Answer] = {}

    def claim(self, asked: list[tuple[int, str, str | None]]) -> None:
        asks = [self.desk.ask(self.models[place].packet, user, group) for place, user, group in asked]
        answers = self.desk.claim_all(asks)
        assert [plain(answer) for answer in answers] == [
            self.models[place].claim(user, group) for place, user, group in asked
        ]
        for (place, user, _), answer in zip(asked, answers, strict=True):
            if answer.place is not None:
                assert self.first.setdefault((place, user), answer).at == answer.at

    def expire(self, place: int) -> None:
        self.models[place].late = True
        self.desk.expire(self.models[place].packet)

    def close_due(self) -> None:
        service.close_due()
        for model in self.models:
            if model.late:
                model.close(R.EXPIRED)

    def cancel(self, place: int) -> None:
        try:
            service.cancel(self.desk.tenant, self.models[place].packet.id)
        except ConflictError:
            assert self.models[place].over is R.EXPIRED or not self.models[place].left
        self.models[place].close(R.CANCELLED)

    def settle(self, sender: str, before: int) -> None:
        """All is applied: the books say what the model says."""
        self.desk.turn()
        assert self.desk.table.refused == []
        owed = 0
        for model in self.models:
            read = self.desk.read(model.packet)
            over = R.EMPTY if not model.left else model.over
            ended = None if read.ended is None else R(read.ended)
            assert (read.claims, read.units_claimed, ended) == (len(model.won), model.units_won, over)
            rest = 0 if over is not None else read.units - read.units_claimed
            assert self.desk.balance(model.packet.account) == rest
            owed += model.units_won + rest
        assert self.desk.balance(sender) == before - owed
        with transaction() as session:
            paid = session.execute(
                text("SELECT coalesce(sum(units), 0) FROM packet_claims WHERE packet_id = ANY(:ids)"),
                {"ids": [model.packet.id for model in self.models]},
            ).scalar_one()
        assert paid == sum(model.units_won for model in self.models)


@relaxed
@given(given_terms=st.tuples(terms, terms), steps=st.lists(step, max_size=25))
def test_any_order_of_events_is_as_the_model_has_it(desk: Desk, given_terms: Any, steps: list[Any]) -> None:
    desk.turn()
    sender = f"user:sender-{next(senders)}:available"
    desk.fund(sender, 1_000)
    world = World(desk, [Model(desk.packet(sender=sender, **each), each["allowed"]) for each in given_terms])
    for name, *args in steps:
        match name, args:
            case "claim", [place, user, group]:
                world.claim([(place, user, group)])
            case "batch", [asked]:
                world.claim(asked)
            case "turn", [mode]:
                desk.turn(mode)
            case "drain", [again]:
                desk.table.drain(again=again)
            case "expire", [place]:
                world.expire(place)
            case "close_due", []:
                world.close_due()
            case "forget", []:
                service.forget_closed()
            case "cancel", [place]:
                world.cancel(place)
    world.settle(sender, 1_000)
    desk.check_books()


@relaxed
@given(
    given_terms=terms,
    steps=st.lists(st.one_of(st.tuples(users, groups), st.sampled_from(["expire", "cancel", "close"])), max_size=20),
)
def test_postgresql_answers_as_redis_does(desk: Desk, given_terms: Any, steps: list[Any]) -> None:
    """The same packet twice: Redis decides about one, PostgreSQL about the other."""
    desk.turn(StoreMode.POSTGRES)
    one, other = desk.packet(**given_terms), desk.packet(**given_terms)
    with transaction() as session:
        session.execute(text("UPDATE packets SET seed = :seed WHERE id = :id"), {"seed": one.seed, "id": other.id})
    hand = desk.table.hand
    service.by_hand(hand, [Ask(desk.tenant, one.id, "nobody", "none")] if one.group_name else [])
    for each in steps:
        if each == "expire":
            desk.expire(one)
            desk.expire(other)
        elif isinstance(each, str):
            why = Reason.CANCELLED if each == "cancel" else Reason.EXPIRED
            hand.decide(CLOSE, [close_item(desk.tenant, one.id, why)])
            if desk.keys_of(one):  # Redis misses a packet that nobody has asked for: then nothing was decided
                with transaction() as session:
                    fallback.close(session, [other.id], why)
        else:
            user, group = each
            [by_redis] = service.by_hand(hand, [Ask(desk.tenant, one.id, user, group)])
            with transaction() as session:
                [by_postgres] = service.claim_many(session, [Ask(desk.tenant, other.id, user, group)])
            assert plain(by_redis) == plain(by_postgres)
    desk.table.drain()
    first, second = desk.read(one), desk.read(other)
    columns = ("state", "reason", "claims", "units_claimed", "units_refunded", "refund_refused")
    assert [getattr(first, name) for name in columns] == [getattr(second, name) for name in columns]
    assert desk.balance(one.account) == desk.balance(other.account)
