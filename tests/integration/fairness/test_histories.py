"""Any history of an owner's seeds, against a model of it: everything that was told can be verified at the end."""

from dataclasses import dataclass, field
from hashlib import sha256
from uuid import uuid4

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core import db
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from domain.fairness import service
from domain.fairness.outcomes import Game, Outcome
from domain.fairness.states import SeedState
from domain.fairness.verification import verify
from tests.integration.fairness.conftest import NEW_KEY, OLD_KEY, UseKeys


@dataclass
class Told:
    """One nonce, as its player was told of it."""

    seed_hash: str
    client_seed: str
    nonce: int
    game: Game
    params: dict[str, int]
    outcome: Outcome


@dataclass
class Player:
    owner: str
    promised: str | None = None
    active: str | None = None
    client_seed: str | None = None
    nonces: int = 0
    told: list[Told] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    """Server seeds by the hash that was promised."""


def commit(player: Player) -> None:
    with db.transaction() as session:
        found = service.commit(session, "casino", player.owner)
    assert player.promised in (None, found.committed.seed_hash)
    player.promised = found.committed.seed_hash


def rotate(player: Player, client_seed: str | None) -> None:
    try:
        with db.transaction() as session:
            made = service.rotate(session, "casino", player.owner, client_seed=client_seed, seed_hash=player.promised)
    except NotFoundError:
        assert player.promised is None
        return
    except InvalidRequestError:
        assert player.client_seed is None and client_seed is None
        return
    assert made.active.seed_hash == player.promised
    assert (None if made.revealed is None else made.revealed.seed_hash) == player.active
    if made.revealed is not None:
        assert made.revealed.next_nonce == player.nonces
        player.shown[made.revealed.seed_hash] = service.revealed_seed(made.revealed) or ""
    player.active, player.promised, player.nonces = player.promised, made.committed.seed_hash, 0
    player.client_seed = client_seed or player.client_seed


def draw(player: Player, game: Game, params: dict[str, int], count: int) -> None:
    try:
        with db.transaction() as session:
            made = service.draw(session, "casino", player.owner, game, params, count=count)
            outcomes = service.outcomes_of(*service.draw_and_seed(session, "casino", made.id))
    except ConflictError:
        assert player.active is None
        return
    assert player.active is not None and player.client_seed is not None
    assert (made.first_nonce, len(outcomes)) == (player.nonces, count)
    for nonce, outcome in enumerate(outcomes, player.nonces):
        player.told.append(Told(player.active, player.client_seed, nonce, game, params, outcome))
    player.nonces += count


def reseal(_player: Player) -> None:
    with db.transaction() as session:
        service.reseal(session)


GAMES = st.sampled_from(
    [(Game.CRASH, {"edge_bps": 300}), (Game.DICE, {}), (Game.MINES, {"mines": 5}), (Game.PLINKO, {"rows": 12})]
)
STEPS = st.one_of(
    st.tuples(st.just(commit)),
    st.tuples(st.just(rotate), st.none() | st.sampled_from(["luck", "more-luck"])),
    st.tuples(st.just(draw), GAMES, st.integers(1, 40)),
    st.tuples(st.just(reseal)),
)


@given(st.lists(STEPS, max_size=15))
@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_whatever_happens_all_that_was_told_is_verified_at_the_end(
    use_keys: UseKeys, steps: list[tuple[object, ...]]
) -> None:
    use_keys(OLD_KEY, NEW_KEY)  # other examples have left seeds of either
    player = Player(owner=uuid4().hex)
    for number, (step, *given_) in enumerate(steps):
        if number == len(steps) // 2:
            use_keys(NEW_KEY, OLD_KEY)
        match step, given_:
            case _, [(Game() as game, dict() as params), int() as count]:
                draw(player, game, params, count)
            case _, [client_seed]:
                rotate(player, client_seed)  # type: ignore[arg-type]
            case _:
                step(player)  # type: ignore[operator]
    if player.active is not None:
        rotate(player, None)
    for told in player.told:
        server_seed = player.shown[told.seed_hash]
        assert sha256(server_seed.encode()).hexdigest() == told.seed_hash
        verdict = verify(
            server_seed=server_seed, client_seed=told.client_seed, nonce=told.nonce, game=told.game,
            params=told.params, seed_hash=told.seed_hash, outcome=told.outcome,
        )  # fmt: skip
        assert verdict.fits and verdict.hash_fits and verdict.outcome_fits
    with db.transaction() as session:
        left = service.seeds(session, tenant="casino", owner=player.owner)
        kept = sum(draw.count for seed in left for draw in service.draws(session, "casino", seed.id, limit=100))
    assert kept == len(player.told)
    assert len([seed for seed in left if seed.current is SeedState.ACTIVE]) == (player.active is not None)
    assert len({seed.seed_hash for seed in left}) == len(left)
