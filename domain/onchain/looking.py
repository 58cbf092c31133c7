"""Looking at transfers on their chain: many read together with no transaction open, each recorded in its own."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from chains.base import ChainReader, ChainTx, Head, TxStatus
from chains.sending import ChainSender, Version
from config.assets import registry
from core import clock
from core.errors import PermanentError, TransientError
from core.jobs import transaction
from domain.onchain import books, ending, pace, queries, verdicts
from domain.onchain.history import move, note
from domain.onchain.models import OnchainTransfer, OnchainVersion
from domain.onchain.states import WAITING, TransferState
from domain.onchain.verdicts import Sight
from providers.payout.base import Refusal

log = structlog.stdlib.get_logger(__name__)

S = TransferState
LOOKED_AT = WAITING | {S.MINED, S.CONFIRMED}


@dataclass(frozen=True, slots=True)
class Known:
    """A transfer as it was before the chain was read, and its signed versions. Never written to."""

    transfer: OnchainTransfer
    versions: Sequence[OnchainVersion]
    may_be_dead: bool

    @property
    def signed(self) -> list[Version]:
        return [each.signed for each in self.versions]


def look(ids: Collection[UUID], reader: ChainReader, sender: ChainSender) -> dict[UUID, bool]:
    """Look at these, and record what is seen. Returns those that were looked at, with whether a node has the newest
    version in its mempool. Raises TransientError if the nodes don't answer.
    """
    known = _known(ids)
    if not known:
        return {}
    sights = read(known, reader, sender)
    seen: dict[UUID, bool] = {}
    for each in known:
        sight = sights[each.transfer.id]
        with transaction() as session:
            record(session, each, sight, coin=sender.coin)
        newest = sight.chain_txs.get(each.versions[-1].chain_tx or "")
        seen[each.transfer.id] = newest is not None and newest.status is TxStatus.MEMPOOL
    return seen


def _known(ids: Collection[UUID]) -> list[Known]:
    found = []
    with transaction() as session:
        for transfer_id in ids:
            transfer = queries.get(session, transfer_id)
            if transfer is None or transfer.current not in LOOKED_AT or transfer.final_at is not None:
                continue
            if transfer.asset not in registry().assets:
                # What it moved couldn't be told from nothing.
                raise PermanentError(f"the asset {transfer.asset} is not in the registry any more")
            versions = queries.versions(session, transfer_id)
            signed = [version for version in versions if version.raw is not None]
            found.append(Known(transfer, signed, verdicts.may_be_dead(transfer, versions)))
        session.expunge_all()
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def read(known: Sequence[Known], reader: ChainReader, sender: ChainSender) -> dict[UUID, Sight]:
    """Whether any is dead is asked first, and their transactions last: what was mined meanwhile is seen by these."""
    dead = {each.transfer.id for each in known if each.may_be_dead and sender.dead(each.signed)}
    head = reader.head()
    ids = [version.chain_tx for each in known for version in each.versions if version.chain_tx is not None]
    txs = reader.chain_txs(ids)
    numbers = {tx.block_number for tx in txs.values()} | {each.transfer.block_number for each in known}
    blocks = reader.blocks(sorted(number for number in numbers if number is not None))
    sights = {}
    for each in known:
        own = {version.chain_tx: txs[version.chain_tx] for version in each.versions if version.chain_tx is not None}
        sight = Sight(head=head, chain_txs=own, blocks=blocks, is_dead=each.transfer.id in dead)
        sights[each.transfer.id] = _closer(each, sight, head, reader, sender)
    return sights


def _closer(known: Known, sight: Sight, head: Head, reader: ChainReader, sender: ChainSender) -> Sight:
    """What else must be known of one that may be over."""
    found = verdicts.in_block(known.versions, sight)
    if found is None:
        return sight
    version, tx = found
    is_final = verdicts.is_final_by(known.transfer, tx, head)
    if is_final:
        sight = replace(sight, costs=sender.costs([tx.id]))
    if is_final and version.cancels:
        paying = [each.signed for each in known.versions if not each.cancels]
        sight = replace(sight, pays_dead=sender.dead(paying))
    if verdicts.wants_witness(known.transfer, version, tx, head):
        sight = replace(sight, witnesses={tx.id: _agreed(reader, tx)})
    return sight


def _agreed(reader: ChainReader, tx: ChainTx) -> ChainTx | None:
    try:
        return reader.agreed([tx.id])[tx.id]
    except TransientError as error:
        log.warning("onchain.not_agreed", chain=reader.id, chain_tx=tx.id, error=str(error))
        return None


# --- recording -------------------------------------------------------------------------------------------------------


def record(session: Session, known: Known, sight: Sight, *, coin: str) -> None:
    """Do what follows of the sight, if it is of all that there is now. Any number of times: the same rows and books."""
    transfer = queries.lock(session, known.transfer.id)
    if transfer is None or transfer.current not in LOOKED_AT or transfer.final_at is not None:
        return
    versions = queries.versions(session, transfer.id)
    signed = [version for version in versions if version.raw is not None]
    if [version.number for version in signed] != [version.number for version in known.versions]:
        return  # one was signed meanwhile, and nobody asked about it
    now = clock.now()
    found = verdicts.in_block(signed, sight)
    if transfer.current in (S.MINED, S.CONFIRMED) and verdicts.has_lost_its_block(transfer, sight):
        _moved(session, transfer, found)
    if transfer.current in WAITING:
        if found is not None:
            _mined(session, transfer, *found)
        elif _is_dead(transfer, versions, signed, sight):
            _die(session, transfer, signed)
            return
    if found is not None and _is_at(transfer, *found):
        _follow(session, transfer, *found, sight, coin=coin)
    transfer.looks += 1
    transfer.next_look_at = pace.next_look(transfer, now=now)


def _is_at(transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx) -> bool:
    return (transfer.version, transfer.block_hash) == (version.number, tx.block_hash)


def _is_dead(
    transfer: OnchainTransfer,
    versions: Sequence[OnchainVersion],
    signed: Sequence[OnchainVersion],
    sight: Sight,
) -> bool:
    """Proven, and not contradicted by what was read after the proof; and nothing more is being signed."""
    return (
        sight.is_dead
        and verdicts.is_in_none(signed, sight)
        and not any(version.is_unsigned for version in versions)
        and transfer.current in WAITING
    )


def _mined(session: Session, transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx) -> None:
    transfer.version, transfer.block_number, transfer.block_hash = version.number, tx.block_number, tx.block_hash
    transfer.waits_since = None
    transfer.sent_at = transfer.sent_at or clock.now()
    move(session, transfer, "mine", now=clock.now(), version=version.number, chain_tx=tx.id, block=tx.block_number)


def _moved(session: Session, transfer: OnchainTransfer, found: tuple[OnchainVersion, ChainTx] | None) -> None:
    """Its block is no longer part of the chain. It may be in another one already."""
    now = clock.now()
    gone = {"version": transfer.version, "block": transfer.block_number, "hash": transfer.block_hash}
    if transfer.current is S.CONFIRMED:
        if found is not None and verdicts.pays(transfer, *found):
            transfer.version, transfer.block_number = found[0].number, found[1].block_number
            transfer.block_hash = found[1].block_hash
            note(session, transfer, "moved", now=now, gone=gone, block=transfer.block_number)
            return
        ending.difference(
            session, transfer, ending.UNDONE, expected=f"in block {transfer.block_number}", found="it is gone"
        )
    transfer.version = transfer.block_number = transfer.block_hash = None
    transfer.waits_since = now
    was_confirmed = transfer.current is S.CONFIRMED
    move(session, transfer, "undo" if was_confirmed else "vanish", now=now, gone=gone)
    if was_confirmed:
        ending.tell(session, transfer)


def _die(session: Session, transfer: OnchainTransfer, signed: Sequence[OnchainVersion]) -> None:
    now = clock.now()
    why = "its time was over before a block took it"
    inputs = {each for version in signed for each in version.decoded.inputs}
    if inputs:
        # Whoever did that has our key, or used it beside us.
        why = "what it uses up was used by something else"
        ending.difference(session, transfer, ending.OUTRUN, expected="used up by us", found=why)
    # Those that nothing used (Bitcoin) the signer gives to no other order: they stay where they are.
    ending.end(session, transfer, "die", failure=Refusal.PROVIDER, why=why, now=now, keep=inputs)


def _follow(
    session: Session, transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx, sight: Sight, *, coin: str
) -> None:
    """It is in this block, which is known: whether it is over, and whether that is final."""
    now = clock.now()
    if verdicts.shows_nothing(transfer, version, tx, sight.head):
        ending.difference(
            session, transfer, ending.NOTHING_MOVED, expected=f"{transfer.units} to its recipient", found="nothing"
        )
    event = verdicts.ending(transfer, version, tx, sight) if transfer.current is S.MINED else None
    if event is not None and event != "confirm":
        # One that failed was tried before it was signed, so what it failed of came later. Whoever tries again is told
        # what it is: our wallet has too little, or its recipient takes it no more.
        why = "it failed in its block" if event == "revert" else "a person cancelled it"
        books.book_cost(session, transfer, version, coin, sight.costs[tx.id])
        ending.end(session, transfer, event, failure=Refusal.PROVIDER, why=why, now=now)
        return
    if event == "confirm":
        _confirm(session, transfer, tx)
    if (
        transfer.current is S.CONFIRMED
        and verdicts.is_final_by(transfer, tx, sight.head)
        and verdicts.pays(transfer, version, tx)
        and tx.id in sight.costs
    ):
        books.book_cost(session, transfer, version, coin, sight.costs[tx.id])
        note(session, transfer, "final", now=now, block=tx.block_number, cost=str(sight.costs[tx.id]))
        ending.settle(session, transfer, now=now)


def _confirm(session: Session, transfer: OnchainTransfer, tx: ChainTx) -> None:
    paid = verdicts.paid_units(transfer, tx)
    if paid != transfer.units:
        ending.difference(session, transfer, ending.AMOUNT, expected=str(transfer.units), found=str(paid))
    move(session, transfer, "confirm", now=clock.now(), chain_tx=tx.id, block=tx.block_number)
    ending.tell(session, transfer)
