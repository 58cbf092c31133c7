"""Tenants and their API keys: who may ask for what.

A key reads `tr_<id>_<secret>`: greppable for secret scanners, the id to find it in a list, the secret 256 random bits.
Only its SHA-256 is stored: there is nothing to guess, so a slow hash would protect nothing and cost every request.
"""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.ids import new_id
from core.jobs import SYSTEM_TENANT
from domain.access.errors import CredentialError
from domain.access.models import ApiKey, Tenant

PREFIX = "tr_"
_KEY = re.compile(r"tr_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")
_TENANT = re.compile(r"[a-z][a-z0-9-]{1,39}")
_PERSON = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
"""One spelling, so that one person is never two."""
ROTATION_OVERLAP = timedelta(days=1)
"""How long a replaced key goes on working, unless told otherwise."""


class Scope(StrEnum):
    DEPOSITS_READ = "deposits:read"
    DEPOSITS_WRITE = "deposits:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    ACCOUNTS_READ = "accounts:read"
    JOURNALS_READ = "journals:read"
    JOURNALS_WRITE = "journals:write"
    HOLDS_READ = "holds:read"
    HOLDS_WRITE = "holds:write"
    CHAINS_READ = "chains:read"
    CHAINS_WRITE = "chains:write"
    PACKETS_READ = "packets:read"
    PACKETS_WRITE = "packets:write"
    CLAIMS_WRITE = "claims:write"
    BETS_READ = "bets:read"
    BETS_WRITE = "bets:write"
    FAIRNESS_READ = "fairness:read"
    FAIRNESS_WRITE = "fairness:write"
    FIAT_PAYMENTS_READ = "fiat_payments:read"
    FIAT_PAYMENTS_WRITE = "fiat_payments:write"
    BENEFICIARIES_READ = "beneficiaries:read"
    BENEFICIARIES_WRITE = "beneficiaries:write"
    PAYOUTS_READ = "payouts:read"
    PAYOUTS_WRITE = "payouts:write"
    PAYOUTS_APPROVE = "payouts:approve"
    QUOTES_WRITE = "quotes:write"
    RATES_READ = "rates:read"

    @property
    def on_request(self) -> bool:
        """Whether a key has it by name only: with these one moves money between accounts of the tenant or out of them,
        or has chains read for all tenants.
        """
        return self in ON_REQUEST


ON_REQUEST = frozenset(
    {
        Scope.JOURNALS_WRITE,
        Scope.HOLDS_WRITE,
        Scope.CHAINS_WRITE,
        Scope.PACKETS_WRITE,
        Scope.CLAIMS_WRITE,
        Scope.BETS_WRITE,
        Scope.PAYOUTS_WRITE,
        Scope.PAYOUTS_APPROVE,
    }
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    tenant: str
    key_id: UUID
    scopes: frozenset[str]
    expires_at: datetime | None = None
    person: str | None = None

    @property
    def actor(self) -> str:
        """How records name who asked: `person:<name>` whichever key of that person it was, else `key:<id>`."""
        return f"key:{self.key_id}" if self.person is None else f"person:{self.person}"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. `secret` is all of what the caller sends, and can't be read again."""

    key: ApiKey
    secret: str


# --- tenants -----------------------------------------------------------------------------------------------------


def create_tenant(session: Session, tenant_id: str, *, name: str) -> Tenant:
    """Make a tenant. Raises InvalidRequestError for an impossible id, ConflictError if there is one of it already."""
    if not _TENANT.fullmatch(tenant_id) or tenant_id == SYSTEM_TENANT:
        raise InvalidRequestError(
            f"{tenant_id[:80]!r} can't be a tenant's id: 2 to 40 of a-z, 0-9 and -, from a letter, not 'system'",
            field="tenant",
        )
    if session.get(Tenant, tenant_id) is not None:
        raise ConflictError(f"there is a tenant {tenant_id!r} already")
    tenant = Tenant(id=tenant_id, name=name)
    session.add(tenant)
    session.flush()
    return tenant


def get_tenant(session: Session, tenant_id: str) -> Tenant | None:
    return session.get(Tenant, tenant_id)


def tenants(session: Session) -> Sequence[Tenant]:
    return session.scalars(select(Tenant).order_by(Tenant.id)).all()


# --- keys --------------------------------------------------------------------------------------------------------


def create_key(
    session: Session,
    tenant: str,
    *,
    name: str,
    scopes: Iterable[str] = tuple(Scope),
    expires_at: datetime | None = None,
    replaces: UUID | None = None,
    person: str | None = None,
) -> IssuedKey:
    """Make a key; `person`: whose own it is. Raises NotFoundError without the tenant, InvalidRequestError for an
    unknown scope, a past expiry or a name that is none.
    """
    if get_tenant(session, tenant) is None:
        raise NotFoundError(f"there is no tenant {tenant!r}", field="tenant")
    wanted = sorted(set(scopes))
    if not wanted or (unknown := set(wanted) - set(Scope)):
        given = min(unknown) if wanted else "none"
        raise InvalidRequestError(f"there is no scope {given!r}; there are {', '.join(Scope)}", field="scopes")
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidRequestError("the key would have expired already", field="expires_at")
    if person is not None and not _PERSON.fullmatch(person):
        raise InvalidRequestError("a person's name is 1 to 64 of a-z, 0-9, . _ @ and -", field="person")
    key_id = new_id()
    # The end of a UUIDv7 is its random part: the beginning is the time, the same for keys made together.
    secret = f"{PREFIX}{key_id.hex[-12:]}_{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
    key = ApiKey(
        id=key_id,
        tenant=tenant,
        name=name,
        secret_hash=_hash(secret),
        scopes=wanted,
        created_at=clock.now(),
        expires_at=expires_at,
        replaces=replaces,
        person=person,
    )
    session.add(key)
    session.flush()
    return IssuedKey(key, secret)


def rotate_key(
    session: Session,
    key_id: UUID,
    *,
    overlap: timedelta = ROTATION_OVERLAP,
    expires_at: datetime | None = None,
) -> IssuedKey:
    """Make a key like this one, which itself goes on working for `overlap` at most.

    Raises NotFoundError if there is no such key, ConflictError if it is revoked, expired or replaced already.
    """
    old = _lock(session, key_id)
    now = clock.now()
    if not _valid(old, now):
        raise ConflictError(f"the key {key_id} is no longer valid: make a new one instead")
    if session.scalar(select(ApiKey.id).where(ApiKey.replaces == key_id, ApiKey.revoked_at.is_(None)).limit(1)):
        raise ConflictError(f"the key {key_id} has been replaced already")
    issued = create_key(
        session,
        old.tenant,
        name=old.name,
        scopes=old.scopes,
        expires_at=expires_at,
        replaces=key_id,
        person=old.person,
    )
    old.expires_at = min(old.expires_at or now + overlap, now + overlap)
    return issued


def revoke_key(session: Session, key_id: UUID) -> ApiKey:
    """End a key now. Processes that saw it valid a moment ago learn of it within CACHE_FOR. Revoking twice is once."""
    key = _lock(session, key_id)
    if key.revoked_at is None:
        key.revoked_at = clock.now()
    return key


def keys(session: Session, tenant: str | None = None) -> Sequence[ApiKey]:
    """Every key, also those no longer valid, oldest first."""
    query = select(ApiKey).order_by(ApiKey.id)
    return session.scalars(query if tenant is None else query.where(ApiKey.tenant == tenant)).all()


def _lock(session: Session, key_id: UUID) -> ApiKey:
    key = session.scalars(select(ApiKey).where(ApiKey.id == key_id).with_for_update()).one_or_none()
    if key is None:
        raise NotFoundError(f"there is no key {key_id}")
    return key


def _valid(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


# --- proving who asks --------------------------------------------------------------------------------------------

CACHE_FOR = timedelta(seconds=3)
"""How long a process trusts what it read of a key: the longest that a revoked key may still be taken."""
_CACHE_MAX = 10_000
_cache: dict[bytes, tuple[float, Principal]] = {}


def authenticate(session: Session, secret: str) -> Principal:
    """Who this key belongs to. Raises CredentialError if the key is wrong, expired or revoked."""
    known = remembered(secret)
    if known is not None:
        return known
    if not _KEY.fullmatch(secret):  # also what keeps nonsense away from the database
        raise CredentialError("this is not an API key of ours")
    digest = _hash(secret)
    # Found by the hash of 256 random bits: comparing it in the index tells a guesser nothing he could use.
    key = session.scalars(select(ApiKey).where(ApiKey.secret_hash == digest)).one_or_none()
    if key is None:
        raise CredentialError("this is not an API key of ours")
    if key.revoked_at is not None:
        raise CredentialError("the API key has been revoked")
    _need_unexpired(key.expires_at)
    principal = Principal(key.tenant, key.id, frozenset(key.scopes), key.expires_at, key.person)
    if len(_cache) >= _CACHE_MAX:
        _cache.clear()
    _cache[digest] = (time.monotonic() + CACHE_FOR.total_seconds(), principal)
    return principal


def remembered(secret: str) -> Principal | None:
    """Who this key belonged to a moment ago, without asking the database. Raises CredentialError if it has expired."""
    found = _cache.get(digest := _hash(secret))
    if found is None:
        return None
    until, principal = found
    if time.monotonic() > until:
        _cache.pop(digest, None)
        return None
    _need_unexpired(principal.expires_at)
    return principal


def _need_unexpired(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= clock.now():
        raise CredentialError("the API key has expired")


def forget() -> None:
    """Empty this process's cache."""
    _cache.clear()
