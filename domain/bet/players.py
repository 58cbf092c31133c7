"""Who plays: a user of a tenant in one asset, and where in the hot store he is found."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from uuid import UUID

from core.errors import InvalidRequestError
from core.hot.keys import shard_of
from core.hot.settings import hot as settings

USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A segment of an account's code."""
ASSET = re.compile(r"[A-Za-z0-9:/.%_-]{1,200}")
ID_MS_BITS = 80
BUCKET_MS = 300_000
"""Of ids, by their own time: what became of them is kept together and forgotten together."""
AGE_MS, AHEAD_MS = 300_000, 60_000
"""A bet's id is decided for the first time while its own time is no further from now, behind and ahead."""


@dataclass(frozen=True)
class Player:
    tenant: str
    user: str
    asset: str

    @cached_property
    def id(self) -> UUID:
        return _digest(self.tenant, self.user, self.asset)

    @cached_property
    def name(self) -> str:
        """The id as events have it."""
        return str(self.id)

    @cached_property
    def shard(self) -> int:
        """The same for all assets of a user, whose bets are counted together."""
        return shard_of(self.tenant, self.user)

    @cached_property
    def key(self) -> str:
        """A hash: what he has, his open bets (`b:<id>`), and the moves that were decided (`m:<id>`)."""
        return f"bet:player:{self.id.hex}"

    @cached_property
    def rate_key(self) -> str:
        return f"bet:rate:{_digest(self.tenant, self.user).hex}"

    def ended_key(self, bucket: int) -> str:
        return f"{self._ended}:{bucket}"

    @cached_property
    def _ended(self) -> str:
        return f"bet:ended:{self.id.hex}"


def player(tenant: str, user: str, asset: str) -> Player:
    """Raises InvalidRequestError for a user or asset that can't be."""
    return _player(tenant, user, asset, settings().shards)


@lru_cache(maxsize=50_000)
def _player(tenant: str, user: str, asset: str, _shards: int) -> Player:
    # Where he is decided is remembered with him, and depends on how many shards there are.
    if not USER.fullmatch(user):
        raise InvalidRequestError(f"{user[:80]!r} is no user", field="user")
    if not ASSET.fullmatch(asset):
        raise InvalidRequestError(f"{asset[:200]!r} is no asset", field="asset")
    return Player(tenant, user, asset)


@lru_cache(maxsize=50_000)
def _digest(*names: str) -> UUID:
    # No user and no asset holds a line break, so the parts can't run into one another.
    return UUID(bytes=hashlib.blake2b("\n".join(names).encode(), digest_size=16).digest())


def ms_of(bet_id: UUID) -> int:
    """When a UUIDv7 was made, by its maker's clock, in ms since 1970 (RFC 9562, 5.7)."""
    return bet_id.int >> ID_MS_BITS


def checked_id(bet_id: UUID) -> UUID:
    """Raises InvalidRequestError if it is not of version 7."""
    if bet_id.version != 7:  # noqa: PLR2004
        raise InvalidRequestError("the id is no UUID of version 7", field="id")
    return bet_id
