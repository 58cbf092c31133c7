"""Server seeds at rest: AES-256-GCM (NIST SP 800-38D), sealed by the first of FAIRNESS_KEYS and opened by the same key.

A sealed seed is 12 random bytes, the tag's 16 and the ciphertext. The row's id and tenant are authenticated with it, so
that what stands in one row is of no use in another.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from uuid import UUID

from Crypto.Cipher import AES

from config import settings
from core.errors import ConflictError, InvariantError
from domain.fairness.outcomes import seed_hash

_NONCE_BYTES, _TAG_BYTES = 12, 16
SEED_BYTES = 32


class FairnessOffError(ConflictError):
    """No key is set to seal seeds with, so there are none."""

    def __init__(self) -> None:
        super().__init__("provably fair draws are not set up on this deployment: it has no FAIRNESS_KEYS")


@dataclass(frozen=True, slots=True)
class Sealed:
    content: bytes
    by: str
    """The key's id."""


def new_server_seed() -> str:
    """256 random bits, as 64 lower-case hexadecimal digits."""
    return secrets.token_hex(SEED_BYTES)


def key_id(key: bytes) -> str:
    """Names a key in rows and listings, and tells nothing of it."""
    return hashlib.sha256(b"tallyrail fairness key " + key).hexdigest()[:12]


def _keys() -> dict[str, bytes]:
    """By id, the one that seals first. Raises FairnessOffError if there is none."""
    chosen = settings.fairness().keys
    if chosen is None:
        raise FairnessOffError
    keys = [bytes.fromhex(each.get_secret_value()) for each in chosen]
    return {key_id(key): key for key in keys}


def current() -> str:
    """The id of the key that seals. Raises FairnessOffError if there is none."""
    return next(iter(_keys()))


def _about(seed_id: UUID, tenant: str) -> bytes:
    return f"fairness_seeds:{seed_id}:{tenant}".encode()


def seal(seed_id: UUID, tenant: str, server_seed: str) -> Sealed:
    """Encrypt it. Raises FairnessOffError without a key."""
    [by, key] = next(iter(_keys().items()))
    nonce = secrets.token_bytes(_NONCE_BYTES)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(_about(seed_id, tenant))
    content, tag = cipher.encrypt_and_digest(server_seed.encode())
    return Sealed(nonce + tag + content, by)


def opened(seed_id: UUID, tenant: str, sealed: Sealed, committed: str) -> str:
    """The server seed, which is the one that was committed to by this hash.

    Raises FairnessOffError without any key, InvariantError if its key is gone or the row is not as it was written.
    """
    key = _keys().get(sealed.by)
    if key is None:
        raise InvariantError(f"the seed {seed_id} was sealed by the key {sealed.by}, which is not in FAIRNESS_KEYS")
    nonce, rest = sealed.content[:_NONCE_BYTES], sealed.content[_NONCE_BYTES:]
    try:
        cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
        cipher.update(_about(seed_id, tenant))
        server_seed = cipher.decrypt_and_verify(rest[_TAG_BYTES:], rest[:_TAG_BYTES]).decode()
    except ValueError:  # another key, another row, or bytes that were changed
        raise InvariantError(f"the seed {seed_id} can't be opened: its row is not as it was written") from None
    if not hmac.compare_digest(seed_hash(server_seed), committed):
        raise InvariantError(f"the seed {seed_id} is not the one that was committed to")
    return server_seed
