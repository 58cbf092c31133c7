"""Red packets: what other parts of the platform may ask for. The steps are in the modules beside this one."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from domain.claim import queries
from domain.claim.claiming import Claims, Here, by_hand
from domain.claim.compare import compare
from domain.claim.create import ALLOWED_MAX, COUNT_MAX, LIFE_MAX, NewPacket, create, open_packet
from domain.claim.draw import differences, shares
from domain.claim.ending import cancel, close_due, forget_closed
from domain.claim.fallback import claim_many
from domain.claim.hot import SCRIPTS, Answer, Ask, ClaimResult, checked
from domain.claim.models import Packet, PacketClaim
from domain.claim.states import PacketState, Reason, Shares
from domain.claim.sync import apply

__all__ = [
    "ALLOWED_MAX",
    "COUNT_MAX",
    "LIFE_MAX",
    "SCRIPTS",
    "Answer",
    "Ask",
    "ClaimResult",
    "Claims",
    "Here",
    "NewPacket",
    "Packet",
    "PacketClaim",
    "PacketState",
    "Reason",
    "Shares",
    "apply",
    "by_hand",
    "cancel",
    "checked",
    "claim_many",
    "claims",
    "close_due",
    "compare",
    "create",
    "differences",
    "forget_closed",
    "get",
    "open_packet",
    "page",
    "ranking",
    "shares",
    "wanted",
]


def get(session: Session, packet_id: UUID, *, tenant: str | None = None) -> Packet | None:
    """The packet, or None if there is none or it is another tenant's."""
    return queries.get(session, packet_id, tenant=tenant)


def page(
    session: Session,
    *,
    tenant: str | None = None,
    state: PacketState | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[Packet]:
    """Newest first. `before` is the id of the last packet of the page before."""
    return queries.page(session, tenant=tenant, state=state, before=before, limit=limit)


def ranking(session: Session, packet_id: UUID, limit: int = 100) -> Sequence[PacketClaim]:
    """The luckiest: the largest shares first, of equal ones the earlier. As far as the books have come."""
    return queries.ranking(session, packet_id, limit)


def claims(session: Session, packet_id: UUID, *, after: int = 0, limit: int = 100) -> Sequence[PacketClaim]:
    """By place. `after` is the place of the last claim of the page before."""
    return queries.claims_page(session, packet_id, after=after, limit=limit)


def wanted(session: Session, now: datetime) -> bool:
    """Whether a packet is to be closed or forgotten."""
    return queries.has_work(session, now)
