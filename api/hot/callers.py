"""Who is asking, without a trip to a thread for a key that was seen a moment ago."""

import asyncio

from starlette.concurrency import run_in_threadpool

from core import db
from domain.access import service as access
from domain.access.errors import CredentialError
from domain.access.service import Principal

_SCHEME = b"bearer"


def secret_of(authorization: bytes) -> str:
    """Raises CredentialError if the header isn't `Bearer <key>`."""
    scheme, _, secret = authorization.partition(b" ")
    if scheme.lower() != _SCHEME or not secret:
        raise CredentialError("give an API key: Authorization: Bearer tr_...")
    return secret.decode("latin-1")


class Callers:
    """However many requests come with a key that is not known, the database is asked about it once."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Task[Principal]] = {}

    async def caller(self, secret: str) -> Principal:
        """Raises CredentialError if the key is wrong, expired or revoked."""
        known = access.remembered(secret)
        if known is not None:
            return known
        asked = self._asked.get(secret)
        if asked is None:
            asked = self._asked[secret] = asyncio.ensure_future(run_in_threadpool(_authenticate, secret))
            asked.add_done_callback(lambda _: self._asked.pop(secret, None))
        # Shielded: the one who gives up leaves the others their answer.
        return await asyncio.shield(asked)


def _authenticate(secret: str) -> Principal:
    with db.transaction() as session:
        return access.authenticate(session, secret)
