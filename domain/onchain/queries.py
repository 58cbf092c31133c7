"""Every SELECT and lock of transfers on chains."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from domain.onchain.models import OnchainEvent, OnchainInput, OnchainTransfer, OnchainVersion, OnchainWallet
from domain.onchain.states import OPEN, TransferState

FRESH = {"populate_existing": True}
"""Read anew, whatever this session has seen before."""


def get(session: Session, transfer_id: UUID) -> OnchainTransfer | None:
    return session.get(OnchainTransfer, transfer_id)


def by_reference(session: Session, reference: str) -> OnchainTransfer | None:
    return session.scalars(select(OnchainTransfer).where(OnchainTransfer.reference == reference)).one_or_none()


def lock(session: Session, transfer_id: UUID) -> OnchainTransfer | None:
    """The row, read anew, and nobody else's until the transaction ends. It is its versions' lock, too."""
    return session.scalars(
        select(OnchainTransfer).where(OnchainTransfer.id == transfer_id).with_for_update(), execution_options=FRESH
    ).one_or_none()


def versions(session: Session, transfer_id: UUID) -> Sequence[OnchainVersion]:
    """By number."""
    return session.scalars(
        select(OnchainVersion).where(OnchainVersion.transfer_id == transfer_id).order_by(OnchainVersion.number),
        execution_options=FRESH,
    ).all()


def page(
    session: Session,
    *,
    chain: str | None = None,
    states: Collection[TransferState] = (),
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[OnchainTransfer]:
    """Newest first. `states` empty: all. `before`: the id of the last of the page before."""
    query = select(OnchainTransfer).order_by(OnchainTransfer.id.desc()).limit(limit)
    if chain is not None:
        query = query.where(OnchainTransfer.chain == chain)
    if states:
        query = query.where(OnchainTransfer.state.in_([str(state) for state in states]))
    if before is not None:
        query = query.where(OnchainTransfer.id < before)
    return session.scalars(query).all()


def history(session: Session, transfer_id: UUID) -> Sequence[OnchainEvent]:
    """Oldest first."""
    return session.scalars(
        select(OnchainEvent).where(OnchainEvent.transfer_id == transfer_id).order_by(OnchainEvent.id)
    ).all()


# --- what is due -----------------------------------------------------------------------------------------------------


def claim_due(session: Session, chain: str, *, now: datetime, until: datetime, limit: int) -> list[UUID]:
    """The oldest first, as wallets pay in this order. Until then no other round takes them."""
    due = session.scalars(
        select(OnchainTransfer)
        .where(OnchainTransfer.chain == chain, OnchainTransfer.next_look_at <= now)
        .order_by(OnchainTransfer.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for transfer in due:
        transfer.next_look_at = until
    return [transfer.id for transfer in due]


def due_chains(session: Session, now: datetime) -> set[str]:
    return set(session.scalars(select(OnchainTransfer.chain).where(OnchainTransfer.next_look_at <= now).distinct()))


# --- what is taken ---------------------------------------------------------------------------------------------------


def ensure_wallet(session: Session, chain: str, address: str) -> None:
    session.execute(insert(OnchainWallet).values(chain=chain, address=address, takes=0).on_conflict_do_nothing())


def lock_wallet(session: Session, chain: str, address: str) -> OnchainWallet:
    """Always after the transfer's lock, never before it."""
    ensure_wallet(session, chain, address)
    return session.scalars(
        select(OnchainWallet).where(OnchainWallet.chain == chain, OnchainWallet.address == address).with_for_update(),
        execution_options=FRESH,
    ).one()


def wallet(session: Session, chain: str, address: str) -> OnchainWallet | None:
    return session.get(OnchainWallet, (chain, address), populate_existing=True)


def unsigned(session: Session, chain: str, address: str) -> OnchainVersion | None:
    """The version that is with the signer: of a wallet there is one at most."""
    return session.scalars(
        select(OnchainVersion).where(
            OnchainVersion.chain == chain,
            OnchainVersion.wallet == address,
            OnchainVersion.raw.is_(None),
            OnchainVersion.refused_at.is_(None),
        ),
        execution_options=FRESH,
    ).one_or_none()


def held(session: Session, chain: str, address: str) -> dict[str, UUID]:
    """Input -> the transfer that may use it up."""
    rows = session.execute(
        select(OnchainInput.input, OnchainInput.transfer_id).where(
            OnchainInput.chain == chain, OnchainInput.wallet == address, OnchainInput.released_at.is_(None)
        )
    )
    return {row.input: row.transfer_id for row in rows}


def reserve(session: Session, transfer: OnchainTransfer, inputs: Collection[str], *, now: datetime) -> None:
    session.add_all(
        OnchainInput(chain=transfer.chain, wallet=transfer.wallet, input=each, transfer_id=transfer.id, reserved_at=now)
        for each in inputs
    )
    session.flush()


def release(session: Session, transfer: OnchainTransfer, *, now: datetime, but: Collection[str] = ()) -> None:
    """All that it holds, but these."""
    session.execute(
        update(OnchainInput)
        .where(
            OnchainInput.transfer_id == transfer.id,
            OnchainInput.released_at.is_(None),
            OnchainInput.input.not_in(list(but)),
        )
        .values(released_at=now)
    )


def keep_coin(session: Session, chain: str, address: str, units: int, *, at: datetime) -> None:
    """What the wallet has of the coin, for metrics."""
    told = {"coin_units": units, "coin_at": at}
    session.execute(
        insert(OnchainWallet)
        .values(chain=chain, address=address, takes=0, **told)
        .on_conflict_do_update(index_elements=["chain", "address"], set_=told)
    )


# --- figures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """What open transfers of a wallet will take of it."""

    units: Mapping[str, int]
    """Asset -> units that nobody has seen in a block."""
    fees: int
    """Units of the coin that they cost at most."""


def bound(session: Session, chain: str, address: str) -> Bound:
    unmined = [str(state) for state in sorted(OPEN - {TransferState.MINED})]
    of_wallet = (OnchainTransfer.chain == chain, OnchainTransfer.wallet == address, OnchainTransfer.state.in_(unmined))
    sums = session.execute(
        select(OnchainTransfer.asset, func.sum(OnchainTransfer.units)).where(*of_wallet).group_by(OnchainTransfer.asset)
    )
    dearest = (
        select(func.max(OnchainVersion.fee_max).label("fee"))
        .join(OnchainTransfer, OnchainTransfer.id == OnchainVersion.transfer_id)
        .where(*of_wallet, OnchainVersion.refused_at.is_(None))
        .group_by(OnchainTransfer.id)
        .subquery()
    )
    fees = session.scalar(select(func.sum(dearest.c.fee)))
    return Bound({asset: int(units) for asset, units in sums}, int(fees or 0))


@dataclass(frozen=True, slots=True)
class Figures:
    open: Mapping[tuple[str, str], tuple[int, datetime]]
    """(chain, state) of those that may still pay -> how many, and when the oldest was asked for."""
    wallets: Sequence[OnchainWallet]


def figures(session: Session) -> Figures:
    """For metrics: reads a partial index, never the history."""
    rows = session.execute(
        select(OnchainTransfer.chain, OnchainTransfer.state, func.count(), func.min(OnchainTransfer.created_at))
        .where(OnchainTransfer.state.in_([str(state) for state in sorted(OPEN)]))
        .group_by(OnchainTransfer.chain, OnchainTransfer.state)
    )
    return Figures(
        open={(chain, state): (count, since) for chain, state, count, since in rows if since is not None},
        wallets=session.scalars(
            select(OnchainWallet).order_by(OnchainWallet.chain, OnchainWallet.address), execution_options=FRESH
        ).all(),
    )
