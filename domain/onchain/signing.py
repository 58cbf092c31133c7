"""Having a version signed: begin (commit the question) / ask (no transaction open) / record what was answered.

The signer answers the same request with the same bytes, so asking again is always safe. Its no is another matter: it
counts only when no question before it can still be answered with a yes.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from chains.sending import Order, Terms, Version
from chains.signing import Signer, SigningRefusedError
from core import clock
from core.errors import InvariantError
from core.jobs import transaction
from domain.onchain import ending, queries
from domain.onchain.history import move, note
from domain.onchain.models import OnchainTransfer, OnchainVersion
from domain.onchain.settings import onchain as settings
from domain.onchain.states import TransferState
from providers.payout.base import Refusal

log = structlog.stdlib.get_logger(__name__)

S = TransferState


@dataclass(frozen=True, slots=True)
class Question:
    """Committed before it is asked."""

    transfer_id: UUID
    number: int
    order: Order
    terms: Terms
    asks: int
    """Which question about this version it is."""
    asked_at: datetime
    asked_before: datetime | None


def sign(transfer_id: UUID, signer: Signer) -> bool:
    """Have the unsigned version signed, if there is one. False: there is none, or it was refused.

    Raises TransientError and PermanentError of the signer: then it stays unsigned, and is asked for again.
    """
    with transaction() as session:
        question = begin(session, transfer_id)
    if question is None or clock.now() >= question.asked_at + settings().sign_within:
        return False  # in the second case others may have taken this question for one that is over
    try:
        signed = signer.sign(question.order, question.number, question.terms)
    except SigningRefusedError as error:
        with transaction() as session:
            refused(session, question, error)
        return False
    with transaction() as session:
        return answered(session, question, signed)


def begin(session: Session, transfer_id: UUID) -> Question | None:
    transfer = queries.lock(session, transfer_id)
    if transfer is None:
        return None
    version = _unsigned(session, transfer)
    now = clock.now()
    if version is None:
        return None
    if (
        version.refusal is not None
        and version.asked_at is not None
        and now < version.asked_at + settings().signing_over
    ):
        return None  # it was refused beside another question: the next must be the only one
    before, version.asked_at, version.asks = version.asked_at, now, version.asks + 1
    return Question(
        transfer.id, version.number, transfer.order, version.decoded, version.asks, version.asked_at, before
    )


def _unsigned(session: Session, transfer: OnchainTransfer) -> OnchainVersion | None:
    return next((each for each in queries.versions(session, transfer.id) if each.is_unsigned), None)


def _version(session: Session, question: Question) -> tuple[OnchainTransfer, OnchainVersion]:
    transfer = queries.lock(session, question.transfer_id)
    found = [each for each in queries.versions(session, question.transfer_id) if each.number == question.number]
    if transfer is None or not found:
        raise InvariantError(f"version {question.number} of onchain:{question.transfer_id} is gone")
    return transfer, found[0]


def answered(session: Session, question: Question, signed: Version) -> bool:
    """Store the bytes. Until this is committed no node has heard of them."""
    if (signed.number, signed.terms) != (question.number, question.terms):
        raise InvariantError(f"the signer answered for something else than onchain:{question.transfer_id}")
    transfer, version = _version(session, question)
    if version.refused_at is not None:
        # Nobody broadcasts it. That it exists is for a person to know.
        ending.difference(session, transfer, ending.FAILING, expected="refused", found="signed after it was refused")
        return False
    if version.raw is not None:
        if (version.raw, version.chain_tx) != (signed.raw, signed.chain_tx):
            raise InvariantError(f"the signer gave other bytes for the same request of {transfer.subject}")
        return False  # another run was here first
    now = clock.now()
    version.raw, version.chain_tx, version.signed_at = signed.raw, signed.chain_tx, now
    transfer.waits_since = now
    if transfer.current is S.PLANNED:
        move(session, transfer, "sign", now=now, version=version.number, chain_tx=version.chain_tx)
    else:
        note(
            session, transfer, "outbid", now=now, version=version.number, chain_tx=version.chain_tx,
            cancels=version.cancels,
        )  # fmt: skip
        transfer.looks = 0
    transfer.next_look_at = now
    return True


def refused(session: Session, question: Question, error: SigningRefusedError) -> None:
    """Nothing was signed, if no other question can still be answered. If one can, it is asked again later."""
    transfer, version = _version(session, question)
    if not version.is_unsigned:
        return
    now = clock.now()
    over = settings().signing_over
    alone = question.asked_before is None or question.asked_at >= question.asked_before + over
    version.refusal = error.code
    if version.asks != question.asks or not alone:
        log.warning("onchain.refused_beside", transfer_id=str(transfer.id), code=error.code)
        return
    version.refused_at = now
    log.error("onchain.not_signed", transfer_id=str(transfer.id), version=version.number, code=error.code)
    signed = [each for each in queries.versions(session, transfer.id) if each.raw is not None]
    if not signed:
        why = f"the signer refuses it: {error.code}"
        ending.end(session, transfer, "refuse", failure=Refusal.REQUEST, why=why, now=now)
        return
    transfer.waits_since = now  # those that there are go on
    note(session, transfer, "not_outbid", now=now, reason=error.code, version=version.number)
    ending.let_go(session, transfer, now=now, but={each for one in signed for each in one.decoded.inputs})
