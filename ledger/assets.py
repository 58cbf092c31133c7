"""The assets that can be posted: a copy of the configured registry that the database can hold accounts to."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from config import assets
from core.errors import InvariantError
from ledger.models import LedgerAsset


def sync_assets(session: Session) -> int:
    """Write the registry's assets that the ledger doesn't know yet, and say how many. Safe to run any number of times.

    An asset whose scale in the registry is not the ledger's raises InvariantError: every unit ever booked would change
    its meaning. Assets that left the registry stay, since entries name them.
    """
    wanted = {asset.id: asset.scale for asset in assets.registry().assets.values()}
    if not wanted:
        return 0
    # Sorted, so that two processes that start at once don't wait for each other in a circle.
    rows = [{"id": asset, "scale": scale} for asset, scale in sorted(wanted.items())]
    made = session.scalars(
        insert(LedgerAsset).values(rows).on_conflict_do_nothing(index_elements=["id"]).returning(LedgerAsset.id)
    ).all()
    for row in session.execute(select(LedgerAsset.id, LedgerAsset.scale).where(LedgerAsset.id.in_(wanted))):
        if row.scale != wanted[row.id]:
            raise InvariantError(
                f"the asset {row.id!r} is booked with scale {row.scale}, but the registry says {wanted[row.id]}"
            )
    return len(made)
