"""When a chain is scanned and a deposit is looked at again, and until when."""

from datetime import datetime, timedelta

from config.assets import Chain, registry
from domain.deposit.models import Deposit
from domain.deposit.settings import deposit as settings
from domain.deposit.states import DepositState, Mode

S = DepositState
SHORTEST = timedelta(seconds=1)
FINAL_BLOCKS = 4
"""A booked deposit is compared with the chain once in so many blocks until it is final."""
SLOWING = 20
"""A transaction that does not appear is looked for at intervals of this fraction of its age."""


LATE_SLOWEST = timedelta(hours=1)
"""The same, once it has expired or was replaced: these are many, and are looked for for days."""
NOW = timedelta(0)
PERIOD_LONGEST = timedelta(seconds=10)
QUIET_BLOCKS = 10
"""A chain on which no deposit waits is scanned once in so many blocks: owners' addresses may be paid all the same."""
QUIET_SHORTEST, QUIET_LONGEST = timedelta(seconds=10), timedelta(minutes=2)


def period(chain: Chain) -> timedelta:
    """How often a chain is polled and scanned while something waits: about twice a block, within bounds."""
    return min(max(timedelta(milliseconds=chain.block_time_ms // 2), SHORTEST), PERIOD_LONGEST)


def quiet(chain: Chain) -> timedelta:
    """How often it is scanned while nothing waits. Often enough to notice in time that it stands still."""
    pause = min(max(QUIET_BLOCKS * timedelta(milliseconds=chain.block_time_ms), QUIET_SHORTEST), QUIET_LONGEST)
    noticed = chain.head_age_max
    return max(min(pause, noticed / 2), SHORTEST) if noticed is not None else pause


def _block_time(chain: Chain) -> timedelta:
    return max(timedelta(milliseconds=chain.block_time_ms), SHORTEST)


def first_poll(chain: str, mode: Mode, *, now: datetime, deadline_at: datetime) -> datetime:
    """The poll is the second to look at a transaction; the job of the first look is sooner, unless it is lost."""
    if mode is Mode.TX:
        return now + max(2 * _block_time(registry().chains[chain]), timedelta(seconds=5))
    return deadline_at  # until then it is the scanner's


def deadline(deposit: Deposit) -> datetime:
    """When it expires. A payment that a reorg undid gets some time to come back."""
    if deposit.reorged_at is None:
        return deposit.deadline_at
    return max(deposit.deadline_at, deposit.reorged_at + settings().reorg_grace)


def forgotten_at(deposit: Deposit) -> datetime:
    """When it is looked for no more."""
    return deadline(deposit) + settings().late_watch


def next_poll(deposit: Deposit, *, now: datetime) -> datetime | None:
    """The next look at a deposit that has just been looked at; None if it is final."""
    if deposit.final_at is not None:
        return None
    chain = registry().chains[deposit.chain]
    block = _block_time(chain)
    if deposit.current is S.PENDING:
        return pending(chain, now=now)
    if deposit.current in (S.CREDITED, S.SUSPENDED, S.REJECTED):
        return booked(chain, now=now)
    if deposit.chain_tx is None:  # the scanner finds it; we only end it
        ends = deadline(deposit) if deposit.current is S.WATCHING else forgotten_at(deposit)
        # Past its end it waits for the scan, which may be stopped: then it must not crowd out what can be settled.
        return max(ends, now + max(block, min(now - ends, settings().poll_slowest)))
    began = deposit.created_at if deposit.reorged_at is None else deposit.reorged_at
    if deposit.current is S.WATCHING:
        return unseen(chain, began=began, deadline_at=deadline(deposit), now=now)
    return now + max(block, min((now - began) / SLOWING, LATE_SLOWEST))


def pending(chain: Chain, *, now: datetime) -> datetime:
    """The next look at a deposit that is not deep enough."""
    return now + _block_time(chain)


def booked(chain: Chain, *, now: datetime) -> datetime:
    """The next look at a deposit whose verdict stands and is not final."""
    return now + FINAL_BLOCKS * _block_time(chain)


def unseen(chain: Chain, *, began: datetime, deadline_at: datetime, now: datetime) -> datetime:
    """The next look at a transaction that does not appear."""
    block = _block_time(chain)
    following = now + max(block, min((now - began) / SLOWING, settings().poll_slowest))
    # Its last minutes matter most: once more just before the deadline, and once when a block of after it may be there.
    return next((at for at in (deadline_at - block, deadline_at + block) if now < at < following), following)
