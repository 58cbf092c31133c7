"""The provider's own id of an event, if it is one that can be kept as a key."""

import json
import re
from hashlib import sha256

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def known(given: object) -> str | None:
    return given if isinstance(given, str) and _ID.fullmatch(given) else None


def id_in(body: bytes) -> str | None:
    """The member `id` of a signed body."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return known(content.get("id")) if isinstance(content, dict) else None


def id_beside(given: str | None, body: bytes) -> str | None:
    """An id in a header that no signature covers, tied to the body.

    By itself it would let whoever has one old webhook send it under the id of one to come, which would then count as
    a repeat.
    """
    found = known(given)
    return None if found is None else f"{found}:{sha256(body).hexdigest()}"
