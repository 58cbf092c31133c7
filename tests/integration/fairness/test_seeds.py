"""Server seeds: promised by their hash, sealed at rest, shown once they draw nothing any more."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from core import db
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError
from domain.fairness import outcomes, sealing, service
from domain.fairness.models import FairnessSeed
from domain.fairness.outcomes import Game
from domain.fairness.sealing import FairnessOffError
from domain.fairness.service import Rotation, Seeds
from domain.fairness.states import SEED, SeedState
from tests.integration.fairness.conftest import NEW_KEY, OLD_KEY, UseKeys


def commit(owner: str = "42", tenant: str = "casino") -> Seeds:
    with db.transaction() as session:
        return service.commit(session, tenant, owner)


def rotate(owner: str = "42", tenant: str = "casino", **given: str) -> Rotation:
    with db.transaction() as session:
        return service.rotate(session, tenant, owner, **given)


def begun(owner: str = "42", client_seed: str = "luck") -> FairnessSeed:
    commit(owner)
    return rotate(owner, client_seed=client_seed).active


def text_of(seed: FairnessSeed) -> str:
    """What no process tells of a seed that is not revealed."""
    return sealing.opened(seed.id, seed.tenant, sealing.Sealed(seed.sealed, seed.sealed_by), seed.seed_hash)


def rows() -> list[str]:
    with db.transaction() as session:
        return [
            str(row[0])
            for table in ("fairness_seeds", "fairness_draws")
            for row in session.execute(text(f"SELECT to_jsonb(t)::text FROM {table} t"))
        ]


# --- promised before it is drawn from ---------------------------------------------------------------------------------


def test_committing_twice_is_once_and_tells_nothing_but_the_hash() -> None:
    first, again = commit(), commit()
    assert first.committed.id == again.committed.id and first.active is None
    assert first.committed.current is SeedState.COMMITTED and first.committed.client_seed is None
    assert service.revealed_seed(again.committed) is None
    assert commit("43").committed.seed_hash != first.committed.seed_hash
    assert commit(tenant="other").committed.seed_hash != first.committed.seed_hash


def test_a_rotation_draws_from_what_was_promised_and_promises_the_next() -> None:
    promised = commit().committed.seed_hash
    first = rotate(client_seed="luck", seed_hash=promised)
    assert first.revealed is None
    assert (first.active.seed_hash, first.active.client_seed) == (promised, "luck")
    second = rotate(client_seed="more", seed_hash=first.committed.seed_hash)
    assert second.active.seed_hash == first.committed.seed_hash
    assert second.revealed is not None and second.revealed.id == first.active.id
    shown = service.revealed_seed(second.revealed)
    assert shown is not None and outcomes.seed_hash(shown) == promised
    assert service.revealed_seed(second.active) is None and service.revealed_seed(second.committed) is None
    third = rotate()
    assert third.active.client_seed == "more", "the client seed stays where none is given"


def test_a_seed_that_the_owner_was_not_shown_is_not_begun_with() -> None:
    stale = commit().committed.seed_hash
    rotate(client_seed="luck")
    with pytest.raises(ConflictError) as caught:
        rotate(seed_hash=stale)
    assert caught.value.field == "seed_hash"
    with db.transaction() as session:
        now = service.seeds_of(session, "casino", "42")
    assert now.active is not None and now.active.seed_hash == stale, "nothing was rotated"


@pytest.mark.parametrize("client_seed", ["", "a:b", "a b", "a" * 65, "é", "a\n", "\x00"])
def test_a_client_seed_that_could_be_mistaken_is_refused(client_seed: str) -> None:
    commit()
    with pytest.raises(InvalidRequestError) as caught:
        rotate(client_seed=client_seed)
    assert caught.value.field == "client_seed"


def test_what_can_not_be_is_refused() -> None:
    for owner in ("", "a:b", ".a", "a" * 65, "a b"):
        with pytest.raises(InvalidRequestError):
            commit(owner)
    with pytest.raises(NotFoundError):
        rotate(client_seed="luck")
    commit()
    with pytest.raises(InvalidRequestError, match="first seed"):
        rotate()
    with db.transaction() as session, pytest.raises(ConflictError, match="no active seed"):
        service.draw(session, "casino", "42", Game.DICE, {})
    with db.transaction() as session, pytest.raises(NotFoundError):
        service.seeds_of(session, "other", "42")


# --- sealed at rest ---------------------------------------------------------------------------------------------------


def test_no_row_has_the_text_of_a_seed_not_even_of_one_that_is_revealed() -> None:
    begun()
    second = rotate()
    with db.transaction() as session:
        service.draw(session, "casino", "42", Game.MINES, {"mines": 3}, count=5)
    dumped = "".join(rows())
    assert second.revealed is not None
    for seed in (second.revealed, second.active, second.committed):
        assert seed.seed_hash in dumped
        secret = text_of(seed)
        for spelt in (secret, secret.upper(), secret.encode().hex(), bytes.fromhex(secret).decode("latin-1")):
            assert spelt not in dumped


def test_a_flipped_byte_is_noticed_wherever_it_is() -> None:
    seed = begun()
    for place in (0, 11, 12, 27, 28, len(seed.sealed) - 1):
        broken = bytearray(seed.sealed)
        broken[place] ^= 1
        with pytest.raises(InvariantError, match="not as it was written"):
            sealing.opened(seed.id, seed.tenant, sealing.Sealed(bytes(broken), seed.sealed_by), seed.seed_hash)
    for cut in (b"", seed.sealed[:11], seed.sealed[:20], seed.sealed[:-1]):
        with pytest.raises(InvariantError):
            sealing.opened(seed.id, seed.tenant, sealing.Sealed(cut, seed.sealed_by), seed.seed_hash)


def test_a_seed_is_of_no_use_in_another_row_nor_under_another_hash() -> None:
    seed, other = begun("1"), begun("2")
    mine = sealing.Sealed(seed.sealed, seed.sealed_by)
    for seed_id, tenant in ((other.id, seed.tenant), (seed.id, "other")):
        with pytest.raises(InvariantError, match="not as it was written"):
            sealing.opened(seed_id, tenant, mine, seed.seed_hash)
    with pytest.raises(InvariantError, match="committed to"):
        sealing.opened(seed.id, seed.tenant, mine, other.seed_hash)


def broken(state: SeedState) -> None:
    """As if a disk or a person had changed a byte of it."""
    with db.transaction() as session:
        turned = (
            "UPDATE fairness_seeds SET sealed = set_byte(sealed, 40, 255 - get_byte(sealed, 40)) WHERE state = :state"
        )
        session.execute(text(turned), {"state": state})


def test_a_seed_that_can_not_be_opened_draws_nothing() -> None:
    begun()
    broken(SeedState.ACTIVE)
    with pytest.raises(InvariantError), db.transaction() as session:
        service.draw(session, "casino", "42", Game.DICE, {})
    with db.transaction() as session:
        now = service.seeds_of(session, "casino", "42").active
        assert now is not None and now.next_nonce == 0
        assert service.draws(session, "casino", now.id) == []


@pytest.mark.parametrize("state", [SeedState.ACTIVE, SeedState.COMMITTED])
def test_a_seed_that_can_not_be_opened_is_neither_revealed_nor_begun_with(state: SeedState) -> None:
    seed = begun()
    broken(state)
    with pytest.raises(InvariantError):
        rotate(client_seed="other")
    with db.transaction() as session:
        now = service.seeds_of(session, "casino", "42").active
    assert now is not None and (now.id, now.next_nonce, now.client_seed) == (seed.id, 0, "luck")


def test_keys_change_without_losing_a_seed(use_keys: UseKeys) -> None:
    begun("old")
    rotate("old")
    use_keys(NEW_KEY, OLD_KEY)
    begun("new")
    with db.transaction() as session:
        drawn = service.draw(session, "casino", "old", Game.DICE, {}, count=3)
        before = service.outcomes_of(*service.draw_and_seed(session, "casino", drawn.id))
        by_owner = {(seed.owner, seed.sealed_by) for seed in service.seeds(session)}
        assert by_owner == {("old", sealing.key_id(b"\x0a" * 32)), ("new", sealing.key_id(b"\x0b" * 32))}
    with db.transaction() as session:
        assert service.sealed_otherwise(session) == (sealing.key_id(b"\x0b" * 32), 3)
        last = service.reseal(session, limit=2)
        assert last is not None and service.sealed_otherwise(session)[1] == 1
        last = service.reseal(session, after=last, limit=2)
        assert service.reseal(session, after=last, limit=2) is None and service.sealed_otherwise(session)[1] == 0
    use_keys(NEW_KEY)
    with db.transaction() as session:
        assert service.outcomes_of(*service.draw_and_seed(session, "casino", drawn.id)) == before
        shown = [service.revealed_seed(seed) for seed in service.seeds(session, state=SeedState.REVEALED)]
        assert len(shown) == 1 and shown[0] is not None


def test_a_key_that_is_gone_is_named_and_nothing_is_drawn(use_keys: UseKeys) -> None:
    begun()
    use_keys(NEW_KEY)
    with pytest.raises(InvariantError, match=sealing.key_id(bytes.fromhex(OLD_KEY))), db.transaction() as session:
        service.draw(session, "casino", "42", Game.DICE, {})


def test_without_a_key_there_are_no_seeds(use_keys: UseKeys) -> None:
    begun()
    use_keys()
    for attempt in (commit, rotate):
        with pytest.raises(FairnessOffError, match="FAIRNESS_KEYS"):
            attempt()
    with pytest.raises(FairnessOffError), db.transaction() as session:
        service.draw(session, "casino", "42", Game.DICE, {})
    with db.transaction() as session:
        assert len(service.seeds(session)) == 2, "their hashes can be read all the same"


# --- what the database itself holds -----------------------------------------------------------------------------------

FORBIDDEN = {
    "UPDATE fairness_seeds SET seed_hash = repeat('0', 64)": ProgrammingError,
    "UPDATE fairness_seeds SET owner = 'x'": ProgrammingError,
    "DELETE FROM fairness_seeds": ProgrammingError,
    "DELETE FROM fairness_draws": ProgrammingError,
    "UPDATE fairness_draws SET first_nonce = 7": ProgrammingError,
    "UPDATE fairness_seeds SET client_seed = 'other' WHERE state = 'active'": IntegrityError,
    "UPDATE fairness_seeds SET next_nonce = next_nonce - 1 WHERE state = 'active'": IntegrityError,
    "UPDATE fairness_seeds SET next_nonce = next_nonce + 1 WHERE state = 'revealed'": IntegrityError,
    "UPDATE fairness_seeds SET next_nonce = 1 WHERE state = 'committed'": IntegrityError,
    "UPDATE fairness_seeds SET state = 'active', revealed_at = NULL WHERE state = 'revealed'": IntegrityError,
    "UPDATE fairness_seeds SET state = 'committed', client_seed = NULL, activated_at = NULL WHERE state = 'active'":
        IntegrityError,
    "UPDATE fairness_seeds SET state = 'active', client_seed = 'x', activated_at = now() WHERE state = 'committed'":
        IntegrityError,
    "INSERT INTO fairness_draws (id, tenant, seed_id, first_nonce, count, game, params)"
    " SELECT gen_random_uuid(), tenant, seed_id, first_nonce, 1, game, params FROM fairness_draws": IntegrityError,
}  # fmt: skip


def test_what_was_promised_and_drawn_can_not_be_rewritten() -> None:
    begun()
    with db.transaction() as session:
        service.draw(session, "casino", "42", Game.DICE, {}, count=2)
    rotate()
    with db.transaction() as session:
        service.draw(session, "casino", "42", Game.DICE, {}, count=2)
    before = sorted(rows())
    for statement, error in FORBIDDEN.items():
        with pytest.raises(error), db.transaction() as session:
            session.execute(text(statement))
    assert sorted(rows()) == before


def test_the_database_knows_the_same_states_as_the_code() -> None:
    assert set(SEED.states()) == set(SeedState)
    begun()
    rotate()
    with db.transaction() as session:
        found = {seed.current for seed in service.seeds(session)}
    assert found == set(SeedState)
    with pytest.raises(DBAPIError), db.transaction() as session:
        session.execute(text("UPDATE fairness_seeds SET state = 'lost'"))


# --- at once ----------------------------------------------------------------------------------------------------------


def together(count: int, work: Callable[[], UUID]) -> list[UUID]:
    db.engine()  # made by one thread: those that come at the same moment would make one each
    with ThreadPoolExecutor(count) as pool:
        return [done.result() for done in [pool.submit(work) for _ in range(count)]]


def test_fifty_draws_at_once_take_each_nonce_once_and_leave_none_out() -> None:
    seed = begun()

    def drawn() -> UUID:
        with db.transaction() as session:
            return service.draw(session, "casino", "42", Game.DICE, {}, count=3).id

    together(50, drawn)
    with db.transaction() as session:
        taken = service.draws(session, "casino", seed.id, limit=100)
        assert sorted(nonce for draw in taken for nonce in range(draw.first_nonce, draw.first_nonce + 3)) == list(
            range(150)
        )
        assert service.seed(session, "casino", seed.id).next_nonce == 150


def test_draws_during_rotations_all_find_a_seed_and_are_verifiable() -> None:
    begun()

    def drawn() -> UUID:
        with db.transaction() as session:
            return service.draw(session, "casino", "42", Game.DICE, {}).id

    def rotated() -> UUID:
        return rotate().active.id

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(rotated if number % 4 == 0 else drawn) for number in range(80)]
        [done.result() for done in work]
    with db.transaction() as session:
        seeds = service.seeds(session, owner="42", limit=100)
        assert [seed.current for seed in seeds[:2]] == [SeedState.COMMITTED, SeedState.ACTIVE]
        assert {seed.current for seed in seeds[2:]} == {SeedState.REVEALED} and len(seeds) == 22
        drawn_of = {seed.id: service.draws(session, "casino", seed.id, limit=100) for seed in seeds}
    for seed in seeds:
        nonces = [draw.first_nonce for draw in drawn_of[seed.id]]
        assert nonces == list(reversed(range(seed.next_nonce))), "contiguous, and nothing after it was revealed"
    assert sum(len(draws) for draws in drawn_of.values()) == 60


def wait_for_a_waiter() -> None:
    """Until somebody waits for somebody's row."""
    for _ in range(500):
        with db.transaction() as session:
            if session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.01)
    pytest.fail("nobody waited")


def test_a_rotation_tells_of_a_draw_that_was_under_way() -> None:
    begun()
    with ThreadPoolExecutor(1) as pool:
        with db.transaction() as session:
            service.draw(session, "casino", "42", Game.DICE, {}, count=7)
            rotation = pool.submit(rotate)
            wait_for_a_waiter()
        revealed = rotation.result().revealed
    assert revealed is not None and revealed.next_nonce == 7


def test_a_draw_that_waited_for_a_rotation_is_of_the_seed_after_it() -> None:
    old = begun()

    def drawn() -> UUID:
        with db.transaction() as session:
            return service.draw(session, "casino", "42", Game.DICE, {}, count=7).seed_id

    with ThreadPoolExecutor(1) as pool:
        with db.transaction() as session:
            new = service.rotate(session, "casino", "42").active
            draw = pool.submit(drawn)
            wait_for_a_waiter()
        assert draw.result() == new.id != old.id


def test_two_who_commit_at_once_get_the_same_seed() -> None:
    assert len(set(together(8, lambda: commit().committed.id))) == 1
