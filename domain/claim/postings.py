"""What each event of a packet does to the books. Pure: from a row to a journal, without a clock.

open      sender -> packet     the capture of the hold (`open.py`)
claim     packet -> user       a share
refund    packet -> sender     what is left at the end
"""

from collections.abc import Callable

from domain.claim.models import Packet
from ledger import chart
from ledger.posting import Journal, Posting


def open_reference(packet: Packet) -> str:
    return f"{packet.subject}:open"


def claims(packet: Packet) -> Callable[[str, int, int], Journal]:
    """(claimant, place, units) -> the journal of a share. What all of a packet share is put together once."""
    tenant, name, source, asset = packet.tenant, str(packet.id), packet.account, packet.asset
    subject, correlation_id = packet.subject, packet.correlation_id

    def journal(claimant: str, place: int, units: int) -> Journal:
        return Journal(
            tenant=tenant,
            reference=f"claim:{name}:{place}",
            category="packet.claim",
            postings=[Posting(source=source, destination=chart.user_available(claimant), asset=asset, units=units)],
            subject=subject,
            correlation_id=correlation_id,
        )

    return journal


def refund(packet: Packet) -> Journal:
    if not packet.units_refunded:
        raise ValueError(f"{packet.subject} has nothing to give back")
    return Journal(
        tenant=packet.tenant,
        reference=f"{packet.subject}:refund",
        category="packet.refund",
        postings=[
            Posting(source=packet.account, destination=packet.sender, asset=packet.asset, units=packet.units_refunded)
        ],
        subject=packet.subject,
        correlation_id=packet.correlation_id,
    )
