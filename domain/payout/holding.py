"""The money of a payout before it is sent: bound in its account, or let go."""

from sqlalchemy.orm import Session

from domain.payout.models import Payout
from ledger import chart, holds
from ledger.holds import NewHold


def place(session: Session, payout: Payout) -> None:
    """Bind units and fee in its account. Another revision is another hold: void the one before first.

    Raises what `holds.place` raises (too little there, frozen, closed), with nothing written.
    """
    revised = "" if payout.revision == 1 else f":{payout.revision}"
    placed = holds.place(
        session,
        NewHold(
            tenant=payout.tenant,
            reference=f"{payout.subject}:hold{revised}",
            source=payout.account,
            destination=chart.payouts_in_transit(),
            asset=payout.asset,
            units=payout.held_units,
            subject=payout.subject,
            correlation_id=payout.correlation_id,
        ),
    )
    payout.hold_id = placed.id


def void(session: Session, payout: Payout) -> None:
    """Let its money go. Raises HoldSettledError if it was captured: what is in transit, only journals move."""
    if payout.hold_id is not None:
        holds.void(session, tenant=payout.tenant, hold_id=payout.hold_id)
        payout.hold_id = None
