"""Whose a transfer is that the scanner found. Whatever arrived and can be booked gets into the books.

On a chain anybody may send anything to anybody, so nothing is written for unknown tokens, zero values and dust, except
one line in the history of a deposit that waits on the address.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import structlog
from sqlalchemy.orm import Session

from chains.base import Transfer
from config.assets import registry
from core.errors import InvariantError
from core.ids import new_id
from core.money import UNITS_MAX
from domain.deposit import queries, valuation, verdicts
from domain.deposit.models import Deposit, DepositAddress, DepositEvent
from domain.deposit.record import attach, claim
from domain.deposit.states import DEPOSIT, DepositState, Mode, Reason
from domain.deposit.valuation import Rate

log = structlog.stdlib.get_logger(__name__)


def attribute(session: Session, chain: str, transfers: Sequence[Transfer], *, now: datetime) -> None:
    """Attribute each transfer to the deposit that waits for it, or to a new one that says nobody did."""
    _note_unknown_tokens(session, chain, transfers, now)
    worth = [transfer for transfer in transfers if _is_worth_booking(transfer)]
    if not worth:
        return
    # What is worth nothing locks no deposit and loads none, however much of it there is.
    addresses = {transfer.recipient for transfer in worth}
    waiting: dict[tuple[str, str], list[Deposit]] = defaultdict(list)
    for deposit in queries.lock_waiting(session, chain, addresses):
        waiting[deposit.address, deposit.asset].append(deposit)
    known = queries.claimed(session, chain, [(transfer.chain_tx, transfer.index) for transfer in worth])
    owners = queries.owners(session, chain, addresses)
    for transfer in worth:
        if (transfer.chain_tx, transfer.index) in known:
            continue  # scanned again after a reorg, or found by a poll before us
        known.add((transfer.chain_tx, transfer.index))
        those = waiting[transfer.recipient, transfer.asset or ""]
        chosen = choose(those, transfer, valuation.rates_of(session, those, _time(transfer)))
        if chosen is None:
            chosen = _unexpected(session, transfer, owners[transfer.recipient], now)
        else:
            those.remove(chosen)
        if not claim(session, chosen, transfer, now=now):
            raise InvariantError(
                f"the transfer {transfer.chain_tx}/{transfer.index} was claimed under the scan's locks"
            )
        chosen.reason = None
        reason = verdicts.weigh(chosen, transfer.units, _time(transfer))
        attach(session, chosen, transfer, block_time=_time(transfer), reason=reason, now=now)
        chosen.next_poll_at = now


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


def _note_unknown_tokens(session: Session, chain: str, transfers: Sequence[Transfer], now: datetime) -> None:
    """A line in the history of each deposit that waits there, so that support can tell the payer. One, for ever."""
    strange = {
        transfer.recipient: {
            "chain_tx": transfer.chain_tx,
            "contract": transfer.contract,
            "units": str(transfer.units),
        }
        for transfer in transfers
        if transfer.asset is None
    }
    if strange:
        queries.note_on_addresses(session, chain, "wrong_token", strange, now=now)


def _unexpected(session: Session, transfer: Transfer, address: DepositAddress, now: datetime) -> Deposit:
    """A deposit that nobody asked for, so that money which arrived is in the books."""
    if address.owner_account is None or transfer.asset is None:
        raise InvariantError(f"the scan found a transfer to {address.address}, which belongs to nobody")
    deposit = Deposit(
        id=new_id(),
        tenant=address.tenant,
        chain=transfer.chain,
        asset=transfer.asset,
        account=address.owner_account,
        mode=Mode.UNEXPECTED,
        address=transfer.recipient,
        chain_tx=transfer.chain_tx,
        tolerance_bps=0,
        accepts=[Reason.UNEXPECTED] if registry().assets[transfer.asset].unexpected == "credit" else [],
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
    session.flush()
    session.add(
        DepositEvent(deposit_id=deposit.id, at=now, event="created", state_after=deposit.state, detail={"by": "scan"})
    )
    return deposit
