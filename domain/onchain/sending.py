"""Giving nodes what is signed and stored: any number of times, as it is the same each time."""

from datetime import timedelta
from uuid import UUID

from chains.sending import Broadcast, ChainSender, Reception, Version
from core import clock
from core.jobs import transaction
from domain.onchain import queries
from domain.onchain.history import move
from domain.onchain.models import OnchainVersion
from domain.onchain.states import WAITING, TransferState

S = TransferState
AGAIN = timedelta(minutes=1)
"""What a node has shown to have is given to all of them again after this long: one of them may have lost it."""
WHY_LENGTH_MAX = 200


def broadcast(transfer_id: UUID, sender: ChainSender, *, is_seen: bool = False) -> None:
    """The newest version, or an older one if no node takes it. Raises TransientError.

    `is_seen`: a node has shown a moment ago that it has the newest.
    """
    with transaction() as session:
        transfer = queries.get(session, transfer_id)
        if transfer is None or transfer.current not in WAITING:
            return
        versions = queries.versions(session, transfer_id)
        newest = next(each for each in reversed(versions) if each.raw is not None)
        if is_seen and newest.broadcast_at is not None and clock.now() < newest.broadcast_at + AGAIN:
            return
        shown = [each.signed for each in reversed(versions) if each.raw is not None]
        if transfer.cancel_asked_at is not None or newest.cancels:
            shown = [each for each in shown if each.terms.cancels]  # from now on nothing that pays is shown to anybody
    said: dict[int, Broadcast] = {}
    try:
        for version in shown:
            said[version.number] = sender.broadcast(version)
            if said[version.number].reception is Reception.TAKEN:
                break
    finally:
        _record(transfer_id, shown, said)


def _record(transfer_id: UUID, shown: list[Version], said: dict[int, Broadcast]) -> None:
    if not said:
        return
    now = clock.now()
    with transaction() as session:
        transfer = queries.lock(session, transfer_id)
        versions = {each.number: each for each in queries.versions(session, transfer_id)}
        if transfer is None:
            return
        for number, answer in said.items():
            _note(versions[number], answer)
            versions[number].broadcast_at = now
        is_taken = any(answer.reception is Reception.TAKEN for answer in said.values())
        if is_taken and transfer.current is S.SIGNED:
            transfer.sent_at = now
            move(session, transfer, "send", now=now, version=shown[len(said) - 1].number)


def _note(version: OnchainVersion, answer: Broadcast) -> None:
    version.broadcasts += 1
    version.reception = str(answer.reception)
    version.reception_why = answer.why[:WHY_LENGTH_MAX] if answer.why else None
