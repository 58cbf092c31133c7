"""Whose a transfer is that the scanner found. Whatever arrived and can be booked gets into the books.

On a chain anybody may send anything to anybody, so nothing is written for unknown tokens, zero values and dust, except
one line in the history of a deposit that waits on the address.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import structlog
from sqlalchemy.orm import Session

from chains.base import Transfer
from config.assets import registry
from core.errors import InvariantError, TransientError
from core.ids import new_id
from core.money import UNITS_MAX
from domain.deposit import policies, queries, tags, valuation, verdicts
from domain.deposit.models import Deposit, DepositEvent
from domain.deposit.record import attach, claim_all
from domain.deposit.states import DEPOSIT, DepositState, Mode
from domain.deposit.valuation import Rate

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a transfer is."""

    tenant: str
    account: str
    tag: str | None = None


def attribute(session: Session, chain: str, transfers: Sequence[Transfer], *, now: datetime) -> None:
    """Attribute each transfer to the deposit that waits for it, or to a new one that says nobody did."""
    told = tags.owners(session, chain, transfers)
    _note_unknown_tokens(session, chain, transfers, told, now)
    worth = [transfer for transfer in transfers if _is_worth_booking(transfer)]
    if not worth:
        return
    # What is worth nothing locks no deposit and loads none, however much of it there is.
    owned = _owned(session, chain, worth, told)
    own = {transfer.recipient for transfer, owner in owned if owner.tag is None}
    tagged = {(transfer.recipient, owner.tag) for transfer, owner in owned if owner.tag is not None}
    waiting: dict[tuple[str, str | None, str], list[Deposit]] = defaultdict(list)
    for deposit in queries.lock_waiting(session, chain, own, tagged):
        waiting[deposit.address, deposit.tag, deposit.asset].append(deposit)
    known = queries.claimed(session, chain, [(transfer.chain_tx, transfer.index) for transfer, _ in owned])
    found: list[tuple[Deposit, Transfer]] = []
    with session.no_autoflush:  # many are written together
        for transfer, owner in owned:
            if (transfer.chain_tx, transfer.index) in known:
                continue  # scanned again after a reorg, or found by a poll before us
            known.add((transfer.chain_tx, transfer.index))
            those = waiting[transfer.recipient, owner.tag, transfer.asset or ""]
            chosen = choose(those, transfer, valuation.rates_of(session, those, _time(transfer)))
            if chosen is None:
                chosen = _unexpected(session, transfer, owner, now)
            else:
                those.remove(chosen)
            found.append((chosen, transfer))
        _attach_all(session, found, now)


def _attach_all(session: Session, found: Sequence[tuple[Deposit, Transfer]], now: datetime) -> None:
    session.flush()
    if claim_all(session, found, now=now) != len(found):
        # By its hash, at this moment: the owner of a tag may name his payment on a shared address himself. Read again.
        raise TransientError("a transfer was claimed while the scan attributed it")
    for deposit, transfer in found:
        deposit.reason = None
        reason = verdicts.weigh(deposit, transfer.units, _time(transfer))
        attach(session, deposit, transfer, block_time=_time(transfer), reason=reason, now=now)
        deposit.next_poll_at = now


def _owned(
    session: Session, chain: str, transfers: Sequence[Transfer], told: Mapping[tuple[str, str], str]
) -> list[tuple[Transfer, "_Owner"]]:
    """Each transfer with its owner: the address's, whatever its tags say; on a tagged address the one whom they name.

    Left out is what names nobody there, or several: it can still be claimed by its hash.
    """
    rows = queries.owners(session, chain, {transfer.recipient for transfer in transfers})
    owned = []
    for transfer in transfers:
        row = rows[transfer.recipient]
        named = tags.named(transfer, told) if row.tagged else {}
        if row.owner_account is not None:
            owned.append((transfer, _Owner(row.tenant, row.owner_account)))
        elif len(named) == 1:
            [(tag, account)] = named.items()
            owned.append((transfer, _Owner(row.tenant, account, tag)))
        elif row.tagged:
            log.warning("deposit.untold", chain_tx=transfer.chain_tx, index=transfer.index, owners=len(named))
        else:
            raise InvariantError(f"the scan found a transfer to {row.address}, which belongs to nobody")
    return owned


def choose(
    waiting: Sequence[Deposit], transfer: Transfer, rates: Mapping[str, Rate] = MappingProxyType({})
) -> Deposit | None:
    """The deposit that this transfer is for.

    First the one whose payment a reorg undid, if this is the same transaction again; then those that still wait before
    those that expired; then the one that expects just this much, one that this much will do for, the oldest. `rates`
    are those of the block's time, by currency, for deposits that are expected by value.
    """
    fitting = [deposit for deposit in waiting if _may_be_for(deposit, transfer, _rate(deposit, rates))]
    return min(fitting, key=lambda deposit: _rank(deposit, transfer, _rate(deposit, rates)), default=None)


def _rate(deposit: Deposit, rates: Mapping[str, Rate]) -> Rate | None:
    return rates.get(deposit.value_currency or "")


def _may_be_for(deposit: Deposit, transfer: Transfer, rate: Rate | None) -> bool:
    if (deposit.address, deposit.asset) != (transfer.recipient, transfer.asset):
        return False
    if deposit.by is Mode.UNEXPECTED and deposit.chain_tx != transfer.chain_tx:
        return False  # it stands for one transfer, and waits for no other
    if deposit.chain_tx != transfer.chain_tx and verdicts.is_crumb(deposit, transfer.units, rate):
        return False  # anybody may send a little: that must not use up what waits for a payment
    return deposit.payer in (None, transfer.sender) and not verdicts.is_older(deposit, _time(transfer))


def _rank(deposit: Deposit, transfer: Transfer, rate: Rate | None) -> tuple[bool, bool, bool, bool, datetime, str]:
    return (
        deposit.chain_tx != transfer.chain_tx,
        deposit.current is not DepositState.WATCHING,
        deposit.units_expected != transfer.units,
        not verdicts.is_within(deposit, transfer.units, rate),
        deposit.created_at,
        str(deposit.id),
    )


def _is_worth_booking(transfer: Transfer) -> bool:
    if transfer.asset is None or transfer.units < max(registry().assets[transfer.asset].units_min, 1):
        return False
    if transfer.units > UNITS_MAX:
        log.error("deposit.too_large", chain_tx=transfer.chain_tx, index=transfer.index, units=str(transfer.units))
        return False
    return True


def _time(transfer: Transfer) -> datetime:
    if transfer.block_time is None:
        raise InvariantError(f"the scan told no time for {transfer.chain_tx}")
    return transfer.block_time


def _note_unknown_tokens(
    session: Session, chain: str, transfers: Sequence[Transfer], told: Mapping[tuple[str, str], str], now: datetime
) -> None:
    """A line in the history of each deposit that waits there, so that support can tell the payer. One, for ever."""
    strange = {
        (transfer.recipient, tag): {
            "chain_tx": transfer.chain_tx,
            "contract": transfer.contract,
            "units": str(transfer.units),
        }
        for transfer in transfers
        if transfer.asset is None
        for tag in tags.named(transfer, told) or [None]
    }
    if strange:
        queries.note_on_addresses(session, chain, "wrong_token", strange, now=now)


def _unexpected(session: Session, transfer: Transfer, owner: _Owner, now: datetime) -> Deposit:
    """A deposit that nobody asked for, so that money which arrived is in the books."""
    if transfer.asset is None:
        raise InvariantError(f"the transfer {transfer.chain_tx}/{transfer.index} is of no asset that is known")
    deposit = Deposit(
        id=new_id(),
        tenant=owner.tenant,
        chain=transfer.chain,
        asset=transfer.asset,
        account=owner.account,
        mode=Mode.UNEXPECTED,
        address=transfer.recipient,
        tag=owner.tag,
        chain_tx=transfer.chain_tx,
        tolerance_bps=0,
        accepts=policies.unexpected(registry().assets[transfer.asset]),
        deadline_at=_time(transfer),
        details={},
        state=DEPOSIT.initial,
        incarnation=0,
        confirmations_seen=0,
        units_recovered=0,
        units_short=0,
        created_at=now,
        updated_at=now,
    )
    session.add(deposit)
    session.add(
        DepositEvent(deposit_id=deposit.id, at=now, event="created", state_after=deposit.state, detail={"by": "scan"})
    )
    return deposit
