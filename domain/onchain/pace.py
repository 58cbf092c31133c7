"""When a transfer is looked at again."""

from datetime import datetime, timedelta

from config.assets import registry
from domain.onchain.models import OnchainTransfer
from domain.onchain.settings import onchain as settings
from domain.onchain.states import WAITING, TransferState

S = TransferState
SHORTEST = timedelta(seconds=1)
JOB = timedelta(seconds=5)
"""The job that was written with it is the first to send it; the round is for those whose job was lost."""
CLAIM = timedelta(seconds=30)
"""So long others leave it to the round that took it."""
AFTER_FAILURE = timedelta(seconds=5)
FAILURES_SLOWEST = timedelta(minutes=5)
DOUBLINGS = 8
FINAL_BLOCKS = 4
"""A confirmed one is compared with the chain once in so many blocks until it is final."""


def block_time(chain: str) -> timedelta:
    return max(timedelta(milliseconds=registry().chains[chain].block_time_ms), SHORTEST)


def next_look(transfer: OnchainTransfer, *, now: datetime) -> datetime | None:
    """After a look that went well. None: nothing will change any more."""
    if transfer.final_at is not None:
        return None
    block = block_time(transfer.chain)
    if transfer.current is S.MINED:
        return now + block
    if transfer.current is S.CONFIRMED:
        return now + FINAL_BLOCKS * block
    if transfer.current in WAITING:
        slower = block * (1 + transfer.looks // 4)  # soon while it is likely, then ever slower
        return now + min(slower, max(settings().look_slowest, block))
    # Planned: it waits for the signer, or for another transfer of its wallet.
    return now + min(SHORTEST * (1 + transfer.looks // 4), settings().look_slowest)


def after_failure(transfer: OnchainTransfer, *, now: datetime) -> datetime:
    """Nodes or the signer didn't answer, or something was wrong with this one. Ever slower."""
    doubled: int = 2 ** min(transfer.looks, DOUBLINGS)
    return now + min(AFTER_FAILURE * doubled, FAILURES_SLOWEST)
