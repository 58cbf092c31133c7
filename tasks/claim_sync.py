"""What may wait of packets and bets. Decisions themselves wait for nobody: workers.sync writes them down."""

from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from core.errors import PermanentError
from core.hot.errors import StoreAwayError, UndecidedError
from core.hot.events import Applier, parse
from domain.bet import comparing, moving
from domain.bet import sync as bets
from domain.claim import service
from tasks.base import task

log = structlog.stdlib.get_logger(__name__)

APPLIERS: dict[str, Applier] = {"claim": service.apply, "bet": bets.apply}
"""By slice: who writes its events into the books."""
ROUNDS = 20
"""Of some hundred packets each that one job closes; the next period goes on."""


@task("claim_sync.open_packet")
def open_packet(session: Session, packet_id: UUID) -> None:
    """Take a packet's money out of its hold, unless that was done when it was made. Safe to run any number of times."""
    service.open_packet(session, packet_id)


@task("claim_sync.close_due")
def close_due() -> None:
    """Close packets whose time is up, and let Redis forget those that are over."""
    try:
        service.close_due()
        for _ in range(ROUNDS):
            if not service.forget_closed():
                break
    except (StoreAwayError, UndecidedError) as error:
        log.info("packets.wait", error=str(error))  # the next period does it


@task("claim_sync.compare")
def compare() -> None:
    """Compare the open packets in Redis with those in PostgreSQL. What differs becomes a break."""
    try:
        found = service.compare()
    except RedisError as error:
        log.info("packets.not_compared", error=type(error).__name__)
        return
    if found:
        log.error("packets.differ", count=found)


@task("claim_sync.apply_parked")
def apply_parked(  # noqa: PLR0917  # a job names its arguments
    session: Session,
    generation: int,
    shard: int,
    seq: int,
    event: str,
    why: str = "",  # noqa: ARG001  # of the first time: for who reads the job
) -> None:
    """Write an event that was refused once more. Refused again it is a dead letter: mend the reason and replay it."""
    found = parse(generation, shard, seq, event)
    applier = APPLIERS.get(found.kind.partition(".")[0])
    if applier is None:
        raise PermanentError(f"nobody applies events of the kind {found.kind}")
    refused = applier(session, [found])
    if refused:
        raise PermanentError(f"{found.kind} {seq} of shard {shard} in generation {generation}: {refused[0].why}")


@task("claim_sync.settle_load")
def settle_load(load_id: UUID, tries: int) -> None:
    """See to it that a load ends: in the hot store and the books, or voided. Asks for itself again until then."""
    moving.settle_load(load_id, tries)


@task("claim_sync.settle_unload")
def settle_unload(unload_id: UUID, tries: int) -> None:
    """See to it that an unload ends. Asks for itself again until then."""
    moving.settle_unload(unload_id, tries)


@task("claim_sync.unload_idle")
def unload_idle(session: Session) -> None:
    """Ask for what players have who have not played for long."""
    asked = moving.unload_idle(session)
    if asked:
        log.info("players.idle", count=asked)


@task("claim_sync.compare_bets")
def compare_bets() -> None:
    """Hold the players in the hot store against the books. What differs becomes a break."""
    try:
        found = comparing.compare()
    except (StoreAwayError, UndecidedError, RedisError) as error:
        log.info("players.not_compared", error=type(error).__name__)
        return
    if found.differing:
        log.error("players.differ", count=found.differing, looked_at=found.players, moving=found.moving)
