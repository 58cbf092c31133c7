"""Cursors: opaque to callers, and good only for the listing that made them."""

import base64
import binascii
from typing import Annotated
from uuid import UUID

from fastapi import Query

from core.errors import InvalidRequestError

LIMIT_MAX = 200
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows a page has at most")]
# A page of entries goes on at a version for each row of its account: 16 for each asset of a custody account.
CURSOR_LENGTH_MAX = 32_000
Cursor = Annotated[
    str | None,
    Query(
        max_length=CURSOR_LENGTH_MAX,
        description="The `next_cursor` of the page before",
        # Told only: text of other letters is no cursor of the listing, and is refused as that.
        json_schema_extra={"pattern": "^[A-Za-z0-9_=-]*$"},
    ),
]

_ID_BYTES = 16


def seal(listing: str, last: UUID) -> str:
    """A cursor for the rows after `last`."""
    return base64.urlsafe_b64encode(listing.encode() + b":" + last.bytes).decode().rstrip("=")


def opened(listing: str, cursor: str | None) -> UUID | None:
    """The id that the cursor stands for. Raises InvalidRequestError (field cursor) for any other text."""
    if cursor is None:
        return None
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        content = b""
    prefix = listing.encode() + b":"
    if not content.startswith(prefix) or len(content) != len(prefix) + _ID_BYTES:
        raise InvalidRequestError("this cursor was not made by this listing", field="cursor")
    return UUID(bytes=content[len(prefix) :])
