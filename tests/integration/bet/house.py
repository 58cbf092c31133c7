"""Short words for tests of bets: a house with a tenant, its hot store and its books."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text

from core.db import transaction
from core.hot import client
from core.hot.settings import hot
from core.ids import new_id
from domain.bet import loading, moving, service, sync
from domain.bet.decisions import (
    END,
    LOOK,
    PUT,
    RESERVE,
    SCRIPTS,
    Answer,
    End,
    Facts,
    Reserve,
    Seen,
    Verdict,
    answer,
    look_item,
    seen,
)
from domain.bet.moving import Move
from domain.bet.players import Player, player
from ledger import balances, chart
from ledger.posting import Journal, Posting, book
from tests.support.hot import Table

ASSET = "iso4217:EUR"
TENANT = "casino"
FACTS = Facts("crash", 300, "agent-7")


def bet_id(*, age_ms: int = 0) -> UUID:
    """A UUIDv7 made so long ago."""
    made = new_id()
    return UUID(int=made.int - (age_ms << 80))


@dataclass
class House:
    tenant: str = TENANT
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        self.table = Table(client.client(), SCRIPTS, {"bet": sync.apply}, shards=hot().shards)
        self.open()

    def open(self) -> None:
        """Make PostgreSQL say what the table has: this generation is open, and Redis decides."""
        with transaction() as session:
            session.execute(
                text("UPDATE hot_store SET generation = :g, mode = 'redis', state = 'open', shards = :s"),
                {"g": self.table.generation, "s": self.table.shards},
            )

    def turn(self) -> None:
        """Apply what there is, and begin a generation that knows nothing."""
        self.table.drain()
        self.table.turn()
        self.open()

    # --- people

    def player(self, user: str = "ann", *, units: int = 1_000, loaded: int | None = None) -> Player:
        """Who has so much; `loaded` of it (all, unless said otherwise) in his hands."""
        who = player(self.tenant, user, ASSET)
        self.deposit(who, units)
        wanted = units if loaded is None else loaded
        if wanted:
            assert self.load(who, wanted).verdict is Verdict.MOVED
        return who

    def deposit(self, who: Player, units: int) -> None:
        move = Posting(
            source=chart.custody("eip155:1"),
            destination=chart.user_available(who.user),
            asset=who.asset,
            units=units,
        )
        book(Journal(tenant=who.tenant, reference=f"deposit:{new_id()}", category="test", postings=[move]))

    def load(self, who: Player, units: int, load_id: UUID | None = None) -> Answer:
        with transaction() as session:
            move = moving.begin_load(session, load_id or new_id(), who, units)
        return self.decide(move)

    def unload(self, who: Player, units: int | None = None, unload_id: UUID | None = None) -> Answer:
        with transaction() as session:
            move = moving.begin_unload(session, unload_id or new_id(), who, units)
        return self.decide(move)

    def move_again(self, who: Player, move_id: UUID, units: int | None, *, is_load: bool) -> Answer | None:
        """None: the books say that it is over, and nothing was decided."""
        with transaction() as session:
            if is_load:
                assert units is not None
                move = moving.begin_load(session, move_id, who, units)
            else:
                move = moving.begin_unload(session, move_id, who, units)
        return moving.decide(self.table.hand, move)

    def decide(self, move: Move) -> Answer:
        found = moving.decide(self.table.hand, move)
        assert found is not None
        return found

    # --- bets

    def reserve(
        self, who: Player, stake: int, name: UUID | None = None, *, facts: Facts = FACTS, per_second: int = 1_000_000
    ) -> Answer:
        return self.reserve_all([Reserve(who, name or new_id(), stake, facts)], per_second=per_second)[0]

    def reserve_all(self, asks: Sequence[Reserve], *, per_second: int = 1_000_000) -> list[Answer]:
        for ask in asks:
            ask.check()
        return [self._first(ask, found) for ask, found in self._ask(asks, per_second)]

    def settle(self, who: Player, name: UUID, payout: int) -> Answer:
        return self._end(End(who, name, payout))

    def void(self, who: Player, name: UUID) -> Answer:
        return self._end(End(who, name, None))

    def _end(self, ask: End) -> Answer:
        ask.check()
        [(_, found)] = self._ask([ask], 0)
        return self._first(ask, found)

    def _ask(self, asks: Sequence[Reserve | End], per_second: int) -> list[tuple[Reserve | End, Answer]]:
        """As a handler does it: ask, put who is absent, ask again."""
        answers: dict[int, Answer] = {}
        for _ in range(3):
            waiting = [place for place in range(len(asks)) if place not in answers]
            found = {}
            for place in waiting:
                ask = asks[place]
                script, item = (
                    (RESERVE, ask.item(per_second=per_second)) if isinstance(ask, Reserve) else (END, ask.item())
                )
                found[place] = answer(self.table.hand.decide(script, [item])[0])
            absent = {asks[place].player: got.token for place, got in found.items() if got.token is not None}
            answers |= {place: got for place, got in found.items() if got.token is None}
            self.put({who: token for who, token in absent.items() if token})
        assert len(answers) == len(asks)
        return [(ask, answers[place]) for place, ask in enumerate(asks)]

    def put(self, absent: dict[Player, str]) -> None:
        with transaction() as session:
            items = loading.items(session, list(absent.items()))
        self.table.hand.decide(PUT, items)

    def _first(self, ask: Reserve | End, found: Answer) -> Answer:
        if found.verdict not in (Verdict.STALE, Verdict.UNKNOWN):
            return found
        with transaction() as session:
            return service.first_answer(ask, service.known(session, [ask]).get((ask.player.id, ask.id)))

    # --- what there is

    def here(self, who: Player) -> Seen | None:
        return seen(self.table.hand.decide(LOOK, [look_item(who)])[0])

    def books(self, who: Player) -> tuple[int, int, int]:
        """Available, playing, staked."""
        codes = (chart.user_available(who.user), chart.playing(who.user), chart.staked(who.user))
        with transaction() as session:
            return tuple(balances.balance(session, who.tenant, code, who.asset) for code in codes)  # type: ignore[return-value]

    def won(self) -> int:
        """What the house has from bets; below zero where players won."""
        with transaction() as session:
            return balances.balance(session, self.tenant, chart.bets(), ASSET)

    def breaks(self) -> list[tuple[str, str, str]]:
        with transaction() as session:
            rows = session.execute(text("SELECT kind, expected, found FROM breaks ORDER BY id")).all()
        return [(row.kind, row.expected, row.found) for row in rows]
