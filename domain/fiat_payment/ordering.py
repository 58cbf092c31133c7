"""Asking gateways for orders. There is never a second order of a payment anywhere.

Each question is an attempt, written and committed before the call, and no transaction is open around it. What nobody
answered for is looked up by our reference. Another gateway is asked only after a proof that there is no order at the
last: it refused, or the request did not get there. The database holds that one attempt at most may have an order.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock
from core.errors import InvariantError, OutcomeUnknownError, TransientError
from core.jobs import transaction
from domain.fiat_payment import gateways as known
from domain.fiat_payment import pace, payer, queries
from domain.fiat_payment.history import move, note
from domain.fiat_payment.models import FiatAttempt, FiatPayment
from domain.fiat_payment.recording import record
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import MAY_BE_THERE, AttemptState, PaymentState, Source
from providers.fiat.base import Gateway, Made, Method, OrderRequest, Standing

log = structlog.stdlib.get_logger(__name__)

A = AttemptState
WHY_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Ask:
    """A committed intent: this order of this gateway."""

    provider: str
    number: int
    request: OrderRequest
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """An order that may be there."""

    provider: str
    number: int
    reference: str
    asked_at: datetime

    def is_over(self, now: datetime) -> bool:
        """Whatever was on its way has arrived or never will."""
        return now >= self.asked_at + settings().unknown_window


def order(payment_id: UUID, gateways: Mapping[str, Gateway]) -> None:
    """See to it that the payment has an order, or can have none. Safe to run any number of times.

    Raises TransientError and OutcomeUnknownError while that can't be said.
    """
    unreached: set[str] = set()
    while True:
        with transaction() as session:
            step = begin(session, payment_id, able=gateways.keys(), unreached=unreached)
        if step is None:
            return
        gateway = gateways.get(step.provider)
        if gateway is None:
            raise TransientError(f"this process has no gateway {step.provider}")
        if isinstance(step, Look):
            _look_up(payment_id, gateway, step)
            continue
        made = gateway.create(step.request)
        with transaction() as session:
            standing = answer(session, payment_id, step, made)
        if standing is Standing.UNKNOWN:
            raise OutcomeUnknownError(f"whether {step.provider} has the order of {payment_id} is not known")
        if standing is Standing.NOT_SENT:
            unreached.add(step.provider)


def _look_up(payment_id: UUID, gateway: Gateway, look: Look) -> None:
    with transaction() as session:
        now = queries.now(session)
    found = gateway.find(reference=look.reference, provider_ref=None, made_at=look.asked_at)
    with transaction() as session:
        if found is not None:
            record(session, payment_id, found, asked_at=now, source=Source.FIND, provider=look.provider)
            return
        if look.is_over(now):
            _lose(session, payment_id, look)
            return
    raise OutcomeUnknownError(f"{look.provider} does not know the order of {payment_id} yet")


def begin(
    session: Session, payment_id: UUID, *, able: Collection[str], unreached: Collection[str] = ()
) -> Ask | Look | None:
    """What is to be done next; the caller commits it before doing it. None: there is an order, or will be none.

    `able`: the gateways that this process has. `unreached`: those that it could not reach a moment ago. Raises
    TransientError if none is left to be tried now.
    """
    payment = queries.lock(session, payment_id)
    if payment is None or payment.current is not PaymentState.CREATED:
        return None
    attempts = queries.attempts(session, payment_id)
    open_ = next((attempt for attempt in attempts if attempt.state in MAY_BE_THERE), None)
    if open_ is not None:
        if open_.state == A.ACCEPTED:
            return None
        open_.state = A.UNKNOWN  # also if the run that wrote it died before or after the call
        return Look(open_.provider, open_.number, payment.reference, open_.asked_at)
    now = queries.now(session)
    if now >= payment.expires_at:
        _end(session, payment, "expire", now=now)
        return None
    provider = _next_gateway(session, payment, attempts, able=able, unreached=unreached)
    if provider is None:
        last = attempts[-1].why if attempts else None
        _end(session, payment, "fail", now=now, why=last or "no gateway takes it")
        return None
    request = _request(payment, provider)
    number = len(attempts) + 1
    session.add(
        FiatAttempt(
            payment_id=payment_id,
            number=number,
            provider=provider,
            request_hash=_hash(request),
            state=A.ASKING,
            asked_at=now,
        )
    )
    payment.provider = provider
    payment.next_look_at = pace.next_look(payment, now=now)
    return Ask(provider, number, request, now)


def _next_gateway(
    session: Session,
    payment: FiatPayment,
    attempts: Collection[FiatAttempt],
    *,
    able: Collection[str],
    unreached: Collection[str],
) -> str | None:
    """Who is asked next; None if nobody is left. Raises TransientError if somebody is, but not now."""
    refused = {attempt.provider for attempt in attempts if attempt.state == A.REJECTED}
    lost = {attempt.provider for attempt in attempts if attempt.state == A.LOST}
    if lost:
        choice = sorted(lost)  # what was lost may yet turn up, so nobody else is asked
    elif payment.automatic:
        found = known.choice(session, currency=payment.currency, units=payment.units, method=payment.method)
        choice = [name for name in found if name in able]
        if not choice and not attempts:
            raise TransientError("none of the gateways that take it is known to this process")
    else:
        choice = [payment.provider] if payment.provider is not None else []
    left = [name for name in choice if name not in refused]
    now = [name for name in left if name not in unreached]
    if left and not now:
        raise TransientError(f"no gateway can be reached: {', '.join(left)}")
    return now[0] if now else None


def answer(session: Session, payment_id: UUID, ask: Ask, made: Made) -> Standing:
    """Write down what the gateway said. Returns what holds of the order now."""
    payment = queries.lock(session, payment_id)
    attempt = session.get(FiatAttempt, (payment_id, ask.number), populate_existing=True)
    if payment is None or attempt is None:
        raise InvariantError(f"the attempt {ask.number} of the fiat payment {payment_id} is gone")
    now = clock.now()
    standing = made.standing
    if standing is Standing.ACCEPTED and made.order is None:
        standing = Standing.UNKNOWN  # it says yes and not to what
    known.answered(session, ask.provider, ok=standing in (Standing.ACCEPTED, Standing.REJECTED))
    if attempt.state in (A.ACCEPTED, A.LEFT) and standing is not Standing.ACCEPTED:
        # A webhook or a poll was there first: it knows better than the answer that we did not get.
        if standing is Standing.REJECTED:
            log.error("fiat_payment.refused_and_there", payment_id=str(payment_id), provider=ask.provider)
        return Standing.ACCEPTED
    if attempt.state != A.LEFT:
        attempt.state, attempt.answered_at = A(standing.value), now
    attempt.why = made.why[:WHY_LENGTH_MAX] if made.why else None
    if standing is Standing.ACCEPTED and made.order is not None:
        record(session, payment_id, made.order, asked_at=ask.asked_at, source=Source.CREATE, provider=ask.provider)
        return standing
    note(session, payment, standing, now=now, provider=ask.provider, why=attempt.why)
    return standing


def _lose(session: Session, payment_id: UUID, look: Look) -> None:
    """Nobody knows the order, and its time is over: the same gateway may be asked again."""
    payment = queries.lock(session, payment_id)
    attempt = session.get(FiatAttempt, (payment_id, look.number), populate_existing=True)
    if payment is None or attempt is None or attempt.state != A.UNKNOWN:
        return
    now = clock.now()
    attempt.state, attempt.answered_at = A.LOST, now
    note(session, payment, "lost", now=now, provider=look.provider)


def _end(session: Session, payment: FiatPayment, event: str, *, now: datetime, why: str | None = None) -> None:
    payment.failure = why
    payment.payer_sealed = None
    move(session, payment, event, now=now, **({} if why is None else {"why": why}))
    payment.next_look_at = (
        pace.next_look(payment, now=now) if payment.provider and _was_asked(session, payment) else None
    )


def _was_asked(session: Session, payment: FiatPayment) -> bool:
    """Some gateway may yet turn out to have an order."""
    return any(attempt.state == A.LOST for attempt in queries.attempts(session, payment.id))


def _request(payment: FiatPayment, provider: str) -> OrderRequest:
    base = settings().webhook_base_url
    return OrderRequest(
        reference=payment.reference,
        currency=payment.currency,
        units=payment.units,
        method=Method(payment.method),
        description=payment.description or f"Payment {payment.reference}",
        expires_at=payment.expires_at,
        return_url=payment.return_url,
        email=payer.opened(payment.id, payment.payer_sealed),
        webhook_url=None if base is None else f"{base.rstrip('/')}/v1/webhooks/{provider}",
    )


def _hash(request: OrderRequest) -> bytes:
    """Of what is asked, but for the payer's address."""
    content = {key: str(value) for key, value in asdict(request).items() if key != "email"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
