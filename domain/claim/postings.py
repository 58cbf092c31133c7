"""What each event of a packet does to the books. Pure: from a row to a journal, without a clock.

open      sender -> packet     the capture of the hold (`open.py`)
claim     packet -> user       a share
refund    packet -> sender     what is left at the end
"""

from uuid import UUID

from domain.claim.models import Packet
from ledger import chart
from ledger.posting import Journal, Posting


def open_reference(packet: Packet) -> str:
    return f"{packet.subject}:open"


def claim(packet: Packet, *, claimant: str, place: int, units: int) -> Journal:
    return Journal(
        tenant=packet.tenant,
        reference=claim_reference(packet.id, place),
        category="packet.claim",
        postings=[
            Posting(source=packet.account, destination=chart.user_available(claimant), asset=packet.asset, units=units)
        ],
        subject=packet.subject,
        correlation_id=packet.correlation_id,
    )


def claim_reference(packet_id: UUID, place: int) -> str:
    return f"claim:{packet_id}:{place}"


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
