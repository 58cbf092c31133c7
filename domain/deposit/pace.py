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
    block = _block_time(registry().chains[deposit.chain])
    if deposit.current is S.PENDING:
        return now + block
    if deposit.current in (S.CREDITED, S.SUSPENDED, S.REJECTED):
        return now + FINAL_BLOCKS * block
    if deposit.chain_tx is None:  # the scanner finds it; we only end it
        ends = deadline(deposit) if deposit.current is S.WATCHING else forgotten_at(deposit)
        # Past its end it waits for the scan, which may be stopped: then it must not crowd out what can be settled.
        return max(ends, now + max(block, min(now - ends, settings().poll_slowest)))
    began = deposit.created_at if deposit.reorged_at is None else deposit.reorged_at
    slowest = settings().poll_slowest if deposit.current is S.WATCHING else LATE_SLOWEST
    following = now + max(block, min((now - began) / SLOWING, slowest))
    if deposit.current is not S.WATCHING:
        return following
    # Its last minutes matter most: once more just before the deadline, and once when a block of after it may be there.
    ends = deadline(deposit)
    return next((at for at in (ends - block, ends + block) if now < at < following), following)
