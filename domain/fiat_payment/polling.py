"""Asking providers about payments where a webhook may never come, and crediting what waited for a rate."""

from collections.abc import Mapping
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import TransientError
from core.jobs import LeaseLostError, NewJob, transaction
from domain.fiat_payment import pace, queries, refunding
from domain.fiat_payment.conversion import has_rate
from domain.fiat_payment.history import move
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.recording import record, settle
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import ORDERED, UNPAID, PaymentState, Source
from providers.fiat.base import Gateway

log = structlog.stdlib.get_logger(__name__)

LOOK = "fiat_webhook.look"
LOOK_ATTEMPTS_MAX = 3
WAITING_LIMIT = 200
"""Payments that one round credits when their rate is usable again; the next goes on."""


def poll() -> None:
    """Ask for a look at each payment that is due, and credit those whose rate is there again."""
    with transaction() as session:
        dispatch(session)
    with transaction() as session:
        pairs = queries.waiting_pairs(session)
        usable = [pair for pair in pairs if has_rate(session, *pair)]
        waiting = queries.waiting(session, usable, limit=WAITING_LIMIT) if usable else ()
    for payment_id in waiting:
        try:
            _credit(payment_id)
        except LeaseLostError:
            raise
        except Exception:  # one that can't be credited keeps none of the others waiting
            log.exception("fiat_payment.not_credited", payment_id=str(payment_id))


def _credit(payment_id: UUID) -> None:
    with transaction() as session:
        payment = queries.lock(session, payment_id)
        if payment is not None and payment.waits_for is not None:
            settle(session, payment, now=clock.now())


def dispatch(session: Session) -> int:
    """One job for each payment that is due, and the time of the next look. Returns how many."""
    now = clock.now()
    due = queries.lock_due(session, now=now, limit=settings().poll_limit)
    refunding_now = queries.with_open_refunds(session, [payment.id for payment in due])
    looks = []
    for payment in due:
        payment.looks += 1
        payment.next_look_at = pace.next_look(payment, now=now, refunding=payment.id in refunding_now)
        if payment.next_look_at is None and payment.current in ORDERED:
            # The provider's last word was that somebody may pay; nobody has, and nobody is asked any more.
            move(session, payment, "expire", now=now)
        looks.append(
            NewJob(
                LOOK,
                {"payment_id": str(payment.id)},
                tenant=payment.tenant,
                subject=payment.subject,
                correlation_id=payment.correlation_id,
                attempts_max=LOOK_ATTEMPTS_MAX,
            )
        )
    jobs.submit_many(session, looks)
    return len(looks)


def look(payment_id: UUID, gateways: Mapping[str, Gateway]) -> None:
    """Ask the provider about one payment and its refunds now. Safe to run any number of times.

    That a provider can't be reached is no failure: the next look is due anyway. Raises PermanentError for an answer
    that can't be understood.
    """
    with transaction() as session:
        payment = queries.get(session, payment_id)
        left = {} if payment is None else queries.left(session, payment)
    if payment is None or payment.provider is None:
        return
    asked = {payment.provider: payment.provider_ref}
    if clock.now() >= payment.expires_at:
        asked |= left  # whoever was paid instead has said so by now, or nobody will
    for provider, provider_ref in asked.items():
        gateway = gateways.get(provider)
        if gateway is None:
            log.warning("fiat_payment.no_gateway", payment_id=str(payment_id), provider=provider)
            continue
        try:
            _ask(payment, gateway, provider_ref)
        except TransientError as error:
            log.warning("fiat_payment.not_asked", payment_id=str(payment_id), provider=provider, error=str(error))


def _ask(payment: FiatPayment, gateway: Gateway, provider_ref: str | None) -> None:
    is_its_own = gateway.name == payment.provider
    if is_its_own:
        # First, so that the totals below are no older than what is known of the refunds.
        refunding.look(payment.id, gateway)
    with transaction() as session:
        asked_at = queries.now(session)
    found = gateway.find(reference=payment.reference, provider_ref=provider_ref, made_at=payment.created_at)
    if found is not None:
        with transaction() as session:
            record(session, payment.id, found, asked_at=asked_at, source=Source.FIND, provider=gateway.name)
        return
    is_unused = payment.current in UNPAID and not gateway.abilities.finds_unused
    if is_its_own and payment.current is not PaymentState.CREATED and not is_unused:
        log.error("fiat_payment.unknown_there", payment_id=str(payment.id), provider=gateway.name)
