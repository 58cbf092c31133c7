"""Taking what a version uses up: the terms come from outside, what is free is decided under the wallet's lock.

Of a wallet one version at most is unsigned. Whoever asks for terms then knows what is taken for good, so that a version
that is refused leaves no gap: on a chain with nonces nothing behind a gap is ever mined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from chains.sending import ChainSender, Order, OrderRefusedError, Reception, Terms, Version
from chains.signing import terms_body
from core import clock
from core.errors import InvariantError
from core.ids import new_id
from core.jobs import transaction
from domain.onchain import ending, queries
from domain.onchain.history import note
from domain.onchain.models import OnchainTransfer, OnchainVersion, OnchainWallet
from domain.onchain.settings import onchain as settings
from domain.onchain.states import WAITING, TransferState
from providers.payout.base import Refusal

log = structlog.stdlib.get_logger(__name__)

S = TransferState
REFUSALS = {"destination": Refusal.DESTINATION, "funds": Refusal.FUNDS, "order": Refusal.REQUEST}


@dataclass(frozen=True, slots=True)
class Plan:
    """What terms are asked for, and what was taken when they were."""

    order: Order
    takes: int
    reserved: frozenset[str]
    signed: Sequence[Version]
    cancels: bool


# --- the first version -----------------------------------------------------------------------------------------------


def plan(transfer_id: UUID, sender: ChainSender) -> bool:
    """Write the first version. False: none is wanted, or another of the wallet is being signed, or took something."""
    with transaction() as session:
        asked = _first(session, transfer_id)
    if asked is None:
        return False
    try:
        terms = sender.terms(asked.order, reserved=asked.reserved)
    except OrderRefusedError as error:
        log.warning("onchain.refused_by_the_chain", transfer_id=str(transfer_id), what=error.what)
        with transaction() as session:
            transfer = queries.lock(session, transfer_id)
            if transfer is not None and transfer.current is S.PLANNED and not queries.versions(session, transfer_id):
                now = clock.now()
                why = f"the chain refuses it: {error.what}"
                ending.end(
                    session, transfer, "refuse", failure=REFUSALS[error.what], why=why, words=str(error), now=now
                )
        return False
    with transaction() as session:
        transfer = queries.lock(session, transfer_id)
        if transfer is None or transfer.current is not S.PLANNED or transfer.cancel_asked_at is not None:
            return False
        return _write(session, transfer, asked, terms)


def _first(session: Session, transfer_id: UUID) -> Plan | None:
    transfer = queries.get(session, transfer_id)
    if transfer is None or transfer.current is not S.PLANNED or queries.versions(session, transfer_id):
        return None
    return _plan(session, transfer, [], cancels=False)


def _plan(
    session: Session, transfer: OnchainTransfer, signed: Sequence[OnchainVersion], *, cancels: bool
) -> Plan | None:
    # The count first: what is taken afterwards makes it differ when the terms are written.
    wallet = queries.wallet(session, transfer.chain, transfer.wallet)
    takes = wallet.takes if wallet is not None else 0
    if queries.unsigned(session, transfer.chain, transfer.wallet) is not None:
        return None
    held = queries.held(session, transfer.chain, transfer.wallet)
    others = frozenset(each for each, holder in held.items() if holder != transfer.id)
    return Plan(transfer.order, takes, others, [each.signed for each in signed], cancels)


# --- another version -------------------------------------------------------------------------------------------------


def outbid(transfer_id: UUID, sender: ChainSender) -> bool:
    """Write another version, if the last has waited for too long or a person wants none to pay. False: none is due."""
    with transaction() as session:
        asked = _next(session, transfer_id)
    if asked is None:
        return False
    why = "the chain knows no way"
    try:
        terms = (sender.cancelling if asked.cancels else sender.raised)(asked.order, asked.signed)
    except OrderRefusedError as error:
        log.warning("onchain.not_outbid", transfer_id=str(transfer_id), what=error.what)
        terms, why = None, str(error)
    with transaction() as session:
        transfer = queries.lock(session, transfer_id)
        if transfer is None or transfer.current not in WAITING:
            return False
        versions = queries.versions(session, transfer_id)
        if [each.number for each in versions if each.raw is not None] != [each.number for each in asked.signed]:
            return False
        if (transfer.cancel_asked_at is not None) != asked.cancels:
            return False
        if terms is None:
            _not_now(session, transfer, asked, versions, why=why)
            return False
        return _write(session, transfer, asked, terms)


def _next(session: Session, transfer_id: UUID) -> Plan | None:
    transfer = queries.get(session, transfer_id)
    if transfer is None or transfer.current not in WAITING:
        return None
    versions = queries.versions(session, transfer_id)
    signed = [each for each in versions if each.raw is not None]
    cancels = transfer.cancel_asked_at is not None
    wants_now = cancels and not signed[-1].cancels
    if any(each.is_unsigned for each in versions) or not (wants_now or _is_overdue(transfer, signed[-1])):
        return None
    if len(versions) >= settings().versions_max and not wants_now:
        log.error("onchain.too_many_versions", transfer_id=str(transfer_id))
        return None
    return _plan(session, transfer, signed, cancels=cancels)


def _is_overdue(transfer: OnchainTransfer, newest: OnchainVersion) -> bool:
    if transfer.waits_since is None or newest.broadcast_at is None:
        return False
    now = clock.now()
    # Nodes that find its fee too low don't even have it: waiting changes nothing.
    is_low = newest.reception == Reception.LOW and newest.broadcast_at >= transfer.waits_since
    return is_low or now >= transfer.waits_since + settings().raise_after


def _not_now(
    session: Session, transfer: OnchainTransfer, asked: Plan, versions: Sequence[OnchainVersion], *, why: str
) -> None:
    """There is no need to outbid it, or no way. Asked again after as long."""
    now = clock.now()
    transfer.waits_since = now
    if asked.cancels and not any(each.cancels and each.raw is not None for each in versions):
        transfer.cancel_asked_at = None
        note(session, transfer, "not_cancelled", now=now, reason=why)


# --- writing it ------------------------------------------------------------------------------------------------------


def _write(session: Session, transfer: OnchainTransfer, asked: Plan, terms: Terms) -> bool:
    """Reserve and store. The caller has the transfer's lock. False: something was taken since it was asked for."""
    wallet = queries.lock_wallet(session, transfer.chain, transfer.wallet)
    if wallet.takes != asked.takes or queries.unsigned(session, transfer.chain, transfer.wallet) is not None:
        return False
    versions = queries.versions(session, transfer.id)
    check(transfer, terms, [each for each in versions if each.raw is not None], cancels=asked.cancels)
    held = queries.held(session, transfer.chain, transfer.wallet)
    if any(held.get(each, transfer.id) != transfer.id for each in terms.inputs):
        raise InvariantError(f"the terms of {transfer.subject} use up what is reserved for another")
    now = clock.now()
    queries.reserve(session, transfer, [each for each in terms.inputs if each not in held], now=now)
    wallet.takes += 1
    wallet.fee_units = terms.fee_max
    session.add(_version(transfer, wallet, terms, number=len(versions) + 1, now=now))
    session.flush()
    return True


def _version(
    transfer: OnchainTransfer, wallet: OnchainWallet, terms: Terms, *, number: int, now: datetime
) -> OnchainVersion:
    return OnchainVersion(
        id=new_id(),
        transfer_id=transfer.id,
        number=number,
        chain=wallet.chain,
        wallet=wallet.address,
        terms=terms_body(terms),
        fee_max=terms.fee_max,
        created_at=now,
        asks=0,
        broadcasts=0,
    )


def check(transfer: OnchainTransfer, terms: Terms, signed: Sequence[OnchainVersion], *, cancels: bool) -> None:
    """Each two versions exclude each other. The signer holds that, too; here it is held before anybody asks it."""
    if not terms.inputs and (signed or terms.ends is None):
        raise InvariantError(f"another version of {transfer.subject} would not exclude those that there are")
    for version in signed:
        if not set(terms.inputs) & set(version.decoded.inputs):
            raise InvariantError(f"version {version.number} of {transfer.subject} and the next could both be mined")
    if terms.cancels is not cancels:
        raise InvariantError(f"the terms of {transfer.subject} are not what was asked for")
    if any(version.cancels for version in signed) and not cancels:
        raise InvariantError(f"{transfer.subject} is being cancelled, and is not to be paid again")
