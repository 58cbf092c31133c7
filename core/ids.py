"""Identifiers. UUIDv7 (RFC 9562): ordered by time, so that new rows land on the same index pages."""

from datetime import datetime
from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    return uuid_utils.compat.uuid7()


def first_id_at(time: datetime) -> UUID:
    """No id made at this time or later is smaller."""
    return UUID(int=int(time.timestamp() * 1_000) << 80)
