"""Payouts that are asked for together, under control totals that must fit before any of them is looked at."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import clock
from core.errors import InvalidRequestError
from core.ids import new_id
from domain.payout import limits
from domain.payout.creating import NewPayout, create
from domain.payout.models import Payout, PayoutBatch
from domain.payout.ports import Ports
from ledger import balances

ITEMS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    tenant: str
    count: int
    totals: Mapping[str, int]
    """Asset -> the sum of the items' units, as the app counted."""
    items: Sequence[NewPayout]
    maker: str
    correlation_id: str | None = None


Told = Callable[[InvalidRequestError], dict[str, Any]]
"""A refusal as the app is told it."""


def create_batch(session: Session, new: NewBatch, ports: Ports, told: Told) -> PayoutBatch:
    """Make the payouts, each by itself: one that can't be is refused alone, and stops no other.

    Raises InvalidRequestError, with nothing made, if count or totals are not those of the items.
    """
    _check_totals(new)
    now = clock.now()
    batch = PayoutBatch(
        id=new_id(),
        tenant=new.tenant,
        count=new.count,
        totals={asset: str(units) for asset, units in sorted(new.totals.items())},
        refused=[],
        maker=new.maker,
        correlation_id=new.correlation_id,
        created_at=now,
    )
    _lock(session, new)
    refused: list[dict[str, Any]] = []
    for number, item in enumerate(new.items):
        try:
            create(session, replace(item, batch_id=batch.id, batch_item=number), ports)
        except InvalidRequestError as error:
            refused.append({"item": number, "problem": told(error)})
    batch.refused = refused
    session.add(batch)
    session.flush()
    return batch


def _lock(session: Session, new: NewBatch) -> None:
    """Take what its items will wait for, in the order that everybody takes it in: two batches never wait in a circle.

    Whether each account is one is looked at with its item.
    """
    for account, asset in sorted({(item.account, item.asset) for item in new.items}):
        balances.balance(session, new.tenant, account, asset, for_update=True)
    limits.lock(session, new.tenant, [item.account for item in new.items], now=clock.now())


def _check_totals(new: NewBatch) -> None:
    if not 1 <= len(new.items) <= ITEMS_MAX:
        raise InvalidRequestError(f"a batch has 1 to {ITEMS_MAX} items", field="items")
    if new.count != len(new.items):
        raise InvalidRequestError(f"count says {new.count}, and there are {len(new.items)} items", field="count")
    sums: Counter[str] = Counter()
    for item in new.items:
        sums[item.asset] += item.units
    if dict(sums) != dict(new.totals):
        differing = sorted(asset for asset in sums.keys() | new.totals.keys() if sums[asset] != new.totals.get(asset))
        asset = differing[0]
        raise InvalidRequestError(
            f"totals say {new.totals.get(asset, 0)} units of {asset[:200]}, and the items sum up to {sums[asset]}",
            field="totals",
        )


def get_batch(session: Session, batch_id: UUID, *, tenant: str | None = None) -> PayoutBatch | None:
    """The batch, or None if there is none or it is another tenant's."""
    batch = session.get(PayoutBatch, batch_id)
    return batch if batch is not None and tenant in (None, batch.tenant) else None


def items(session: Session, batch_id: UUID) -> Sequence[Payout]:
    """The payouts that were made of it, in the order of its items."""
    return session.scalars(select(Payout).where(Payout.batch_id == batch_id).order_by(Payout.batch_item)).all()
