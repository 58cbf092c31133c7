"""Provably fair draws: a seed is committed to by its hash, drawn from with the player's own seed, and shown at the end.

The hash of the seed that comes next is told before a client seed is chosen for it. Otherwise we could have picked a
server seed that suits us with the client seed at hand.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError
from core.ids import new_id
from domain.fairness import outcomes, queries, sealing
from domain.fairness.models import DRAWS_MAX, FairnessDraw, FairnessSeed
from domain.fairness.outcomes import Game, Outcome
from domain.fairness.sealing import Sealed
from domain.fairness.states import SEED, SeedState

log = structlog.stdlib.get_logger(__name__)

OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""As a segment of an account's code: user 42 of `user:42:available` is 42 here, too."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """What an owner has: what is drawn from, and what comes after it."""

    active: FairnessSeed | None
    committed: FairnessSeed


@dataclass(frozen=True, slots=True)
class Rotation:
    revealed: FairnessSeed | None
    """None at the first."""
    active: FairnessSeed
    committed: FairnessSeed


# --- seeds -------------------------------------------------------------------------------------------------------


def commit(session: Session, tenant: str, owner: str) -> Seeds:
    """Commit to a seed for this owner, unless that has been done. The hash is what the owner should see first.

    Raises InvalidRequestError (owner), FairnessOffError.
    """
    if not OWNER.fullmatch(owner):
        raise InvalidRequestError("an owner has 1 to 64 of A-Z a-z 0-9 . _ -, from a letter or digit", field="owner")
    sealing.current()
    queries.lock_owner(session, tenant, owner)
    found = queries.live(session, tenant, owner)
    committed = found.get(SeedState.COMMITTED) or _committed(session, tenant, owner)
    return Seeds(found.get(SeedState.ACTIVE), committed)


def _committed(session: Session, tenant: str, owner: str) -> FairnessSeed:
    seed_id, server_seed = new_id(), sealing.new_server_seed()
    sealed = sealing.seal(seed_id, tenant, server_seed)
    seed = FairnessSeed(
        id=seed_id,
        tenant=tenant,
        owner=owner,
        state=SEED.initial,
        sealed=sealed.content,
        sealed_by=sealed.by,
        seed_hash=outcomes.seed_hash(server_seed),
        next_nonce=0,
        created_at=clock.now(),
    )
    session.add(seed)
    session.flush()
    return seed


def rotate(
    session: Session, tenant: str, owner: str, *, client_seed: str | None = None, seed_hash: str | None = None
) -> Rotation:
    """Draw from the seed that was committed to, with this client seed or the last one; reveal the seed before it.

    `seed_hash` is what the owner was shown: another one is not begun with. Raises InvalidRequestError (client_seed),
    NotFoundError without a commitment, ConflictError (seed_hash), FairnessOffError, and InvariantError, with nothing
    changed, if a seed can't be opened.
    """
    if client_seed is not None:
        outcomes.check_client_seed(client_seed)
    if not OWNER.fullmatch(owner):
        raise _nothing_committed(owner)
    sealing.current()
    queries.lock_owner(session, tenant, owner)
    found = queries.live(session, tenant, owner, lock=True)
    before, coming = found.get(SeedState.ACTIVE), found.get(SeedState.COMMITTED)
    if coming is None:
        raise _nothing_committed(owner)
    if seed_hash is not None and seed_hash != coming.seed_hash:
        raise ConflictError(f"the seed that comes next has the hash {coming.seed_hash}", field="seed_hash")
    chosen = client_seed or (None if before is None else before.client_seed)
    if chosen is None:
        raise InvalidRequestError("the first seed needs a client seed", field="client_seed")
    now = clock.now()
    if before is not None:
        _opened(before)
        before.state, before.revealed_at = SEED.then(before.current, "rotate"), now
        session.flush()  # first: an owner has one active seed at any moment
    _opened(coming)
    coming.state, coming.client_seed, coming.activated_at = SEED.then(coming.current, "rotate"), chosen, now
    session.flush()
    following = _committed(session, tenant, owner)
    revealed = None if before is None else str(before.id)
    log.info("fairness.rotated", tenant=tenant, owner=owner, revealed=revealed, active=str(coming.id))
    return Rotation(before, coming, following)


def _nothing_committed(owner: str) -> NotFoundError:
    return NotFoundError(f"no seed is committed to for {owner[:80]!r}", field="owner")


def _opened(seed: FairnessSeed) -> str:
    return sealing.opened(seed.id, seed.tenant, Sealed(seed.sealed, seed.sealed_by), seed.seed_hash)


def revealed_seed(seed: FairnessSeed) -> str | None:
    """The server seed, if everybody may know it. Raises InvariantError if it can't be opened, FairnessOffError."""
    return _opened(seed) if seed.current is SeedState.REVEALED else None


def reseal(session: Session, *, after: UUID | None = None, limit: int = 500) -> UUID | None:
    """Seal seeds of other keys by the first one, oldest first. Returns the last that was tried; None: there are none.

    A key that sealed none any more can be taken out. A seed that can't be opened is left as it is, and logged.
    """
    rows = queries.lock_sealed_otherwise(session, sealing.current(), after=after, limit=limit)
    for row in rows:
        try:
            server_seed = _opened(row)
        except InvariantError as error:
            log.error("fairness.not_resealed", seed=str(row.id), error=str(error))  # noqa: TRY400  # says all there is
            continue
        sealed = sealing.seal(row.id, row.tenant, server_seed)
        row.sealed, row.sealed_by = sealed.content, sealed.by
    session.flush()
    return rows[-1].id if rows else None


def sealed_otherwise(session: Session) -> tuple[str, int]:
    """The id of the first key, and how many seeds another one sealed."""
    by = sealing.current()
    return by, queries.count_sealed_otherwise(session, by)


# --- draws -------------------------------------------------------------------------------------------------------


def draw(
    session: Session, tenant: str, owner: str, game: Game, params: Mapping[str, int], *, count: int = 1
) -> FairnessDraw:
    """Take the next nonces of the owner's active seed. What they come to is told by `outcomes_of`.

    Raises InvalidRequestError (params, count), ConflictError without an active seed, FairnessOffError, and
    InvariantError, with no nonce taken, if the seed can't be opened.
    """
    if not 1 <= count <= DRAWS_MAX:
        raise InvalidRequestError(f"a request draws 1 to {DRAWS_MAX} times", field="count")
    every = outcomes.checked(game, params)
    sealing.current()
    seed = queries.take_nonces(session, tenant, owner, count) if OWNER.fullmatch(owner) else None
    if seed is None:
        raise ConflictError(f"{owner[:80]!r} has no active seed: commit to one and rotate", field="owner")
    _opened(seed)
    made = FairnessDraw(
        id=new_id(),
        tenant=tenant,
        seed_id=seed.id,
        first_nonce=seed.next_nonce - count,
        count=count,
        game=game,
        params=every,
        created_at=clock.now(),
    )
    session.add(made)
    session.flush()
    return made


def outcomes_of(draw: FairnessDraw, seed: FairnessSeed) -> list[Outcome]:
    """What each nonce of a draw came to, in order. Raises InvariantError if its seed can't be opened."""
    server_seed, game = _opened(seed), Game(draw.game)
    nonces = range(draw.first_nonce, draw.first_nonce + draw.count)
    return [outcomes.outcome(server_seed, seed.client_seed or "", nonce, game, draw.params) for nonce in nonces]


# --- reading -----------------------------------------------------------------------------------------------------


def seeds_of(session: Session, tenant: str, owner: str) -> Seeds:
    """Raises NotFoundError if nothing was ever committed to for this owner."""
    found = queries.live(session, tenant, owner) if OWNER.fullmatch(owner) else {}
    committed = found.get(SeedState.COMMITTED)
    if committed is None:
        raise _nothing_committed(owner)
    return Seeds(found.get(SeedState.ACTIVE), committed)


def seed(session: Session, tenant: str, seed_id: UUID) -> FairnessSeed:
    """Raises NotFoundError."""
    found = queries.seed(session, tenant, seed_id)
    if found is None:
        raise NotFoundError(f"there is no seed {seed_id}")
    return found


def seeds(
    session: Session,
    *,
    tenant: str | None = None,
    owner: str | None = None,
    state: SeedState | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[FairnessSeed]:
    """Newest first. `before` is the id of the last seed of the page before."""
    return queries.seeds(session, tenant=tenant, owner=owner, state=state, before=before, limit=limit)


def draw_and_seed(session: Session, tenant: str, draw_id: UUID) -> tuple[FairnessDraw, FairnessSeed]:
    """Raises NotFoundError."""
    found = queries.draw(session, tenant, draw_id)
    if found is None:
        raise NotFoundError(f"there is no draw {draw_id}")
    return found, seed(session, tenant, found.seed_id)


def draws(
    session: Session, tenant: str, seed_id: UUID, *, before: UUID | None = None, limit: int = 50
) -> Sequence[FairnessDraw]:
    """Of a seed, highest nonces first. `before` is the last draw of the page before. Raises NotFoundError."""
    seed(session, tenant, seed_id)
    return queries.draws(session, tenant, seed_id, before=before, limit=limit)
