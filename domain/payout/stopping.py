"""How people keep a payout, or everything at a provider, from going on."""

from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import ConflictError, NotFoundError
from core.jobs import NewJob
from domain.payout import history, queries, screening_queries
from domain.payout.content import content_hash
from domain.payout.ending import let_go
from domain.payout.models import Payout, PayoutProviderRow
from domain.payout.people import PERSON, because, locked, makers, named, need_unpaid
from domain.payout.screening import PROCEED
from domain.payout.states import PAYOUT, PayoutState

log = structlog.stdlib.get_logger(__name__)


def cancel(session: Session, payout_id: UUID, *, actor: str, reason: str, tenant: str | None = None) -> Payout:
    """End it before it is sent; its money is its owner's again. Cancelling twice is once.

    Raises NotFoundError, InvalidRequestError (actor, reason), and ConflictError once its sending has begun: whether it
    left is then for its provider to say.
    """
    why, who = because(reason), named(actor)
    payout = locked(session, payout_id, tenant)
    if payout.current is PayoutState.CANCELLED:
        return payout
    if not PAYOUT.can(payout.current, "cancel"):
        raise ConflictError(f"the payout {payout.id} is {payout.state}: it can't be cancelled any more")
    need_unpaid(payout, who)
    let_go(session, payout, "cancel", now=clock.now(), actor=who, reason=why, failure="cancelled")
    return payout


def freeze(session: Session, payout_id: UUID, *, actor: str, reason: str, tenant: str | None = None) -> Payout:
    """Let nothing go on until somebody thaws it. Its money stays bound. Freezing twice is once.

    Raises NotFoundError, InvalidRequestError (actor, reason), and ConflictError once its sending has begun.
    """
    why, who = because(reason), named(actor)
    payout = locked(session, payout_id, tenant)
    if payout.current is PayoutState.FROZEN:
        last = screening_queries.last_event(session, payout.id, "freeze")
        if last is not None and last.actor == history.ACTOR:  # what we froze we thaw, but not against a person's word
            history.note(session, payout, "freeze", now=clock.now(), actor=who, reason=why)
        return payout
    if not PAYOUT.can(payout.current, "freeze"):
        raise ConflictError(f"the payout {payout.id} is {payout.state}: it can't be frozen")
    need_unpaid(payout, who)
    payout.approve_until, payout.next_look_at, payout.waits_for, payout.waits_since = None, None, None, None
    history.move(session, payout, "freeze", now=clock.now(), actor=who, reason=why)
    return payout


def thaw(session: Session, payout_id: UUID, *, actor: str, reason: str, tenant: str | None = None) -> Payout:
    """Let it go on from the screening. It is another revision: what was said of it before the freeze counts no more.

    Raises NotFoundError, InvalidRequestError (actor, reason), and ConflictError if it is not frozen, or if another
    person froze it and it is the actor's own.
    """
    why, who = because(reason), named(actor)
    payout = locked(session, payout_id, tenant)
    if payout.current is not PayoutState.FROZEN:
        raise ConflictError(f"the payout {payout.id} is {payout.state}, not frozen")
    frozen = screening_queries.last_event(session, payout.id, "freeze")
    if (
        frozen is not None
        and frozen.actor.startswith(PERSON)
        and frozen.actor != who
        and who in makers(session, payout)
    ):
        raise ConflictError(f"{frozen.actor} froze the payout {payout.id}: who asked for it or edited it can't thaw it")
    payout.revision += 1
    payout.content_hash = content_hash(payout)
    history.move(session, payout, "thaw", now=clock.now(), actor=who, reason=why, revision=payout.revision)
    ask_to_proceed(session, payout)
    return payout


def ask_to_proceed(session: Session, payout: Payout) -> None:
    """Have one that is held screened, once this is committed."""
    jobs.submit(
        session,
        NewJob(
            PROCEED,
            {"payout_id": str(payout.id)},
            tenant=payout.tenant,
            subject=payout.subject,
            correlation_id=payout.correlation_id,
        ),
    )


# --- a provider ------------------------------------------------------------------------------------------------------


def stop_provider(session: Session, name: str, *, actor: str, reason: str) -> PayoutProviderRow:
    """Begin nothing new there until somebody starts it again. What it has is still looked at. Stopping twice is once.

    Raises NotFoundError for one that no worker has ever had, InvalidRequestError (actor, reason).
    """
    why, who = because(reason), named(actor)
    provider = _provider(session, name)
    if provider.stopped_by is None:
        provider.stopped_by, provider.stopped_at, provider.stopped_reason = who, clock.now(), why
        log.warning("payout.provider_stopped", provider=name, actor=who, reason=why)
    return provider


def start_provider(session: Session, name: str, *, actor: str, reason: str) -> PayoutProviderRow:
    """Let it be sent to again. Raises as stop_provider() does."""
    why, who = because(reason), named(actor)
    provider = _provider(session, name)
    if provider.stopped_by is not None:
        provider.stopped_by, provider.stopped_at, provider.stopped_reason = None, None, None
        log.warning("payout.provider_started", provider=name, actor=who, reason=why)
    return provider


def _provider(session: Session, name: str) -> PayoutProviderRow:
    provider = queries.lock_provider(session, name)
    if provider is None:
        raise NotFoundError(f"no worker has ever had a payout provider {name[:80]!r}")
    return provider
