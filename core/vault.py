"""What must not be read by whoever reads the database: sealed for one row, opened by who has the keys (ADR 26).

A sealed text is one byte that says how (1), 12 random bytes, and AES-256-GCM (NIST SP 800-38D) of the text with the
tag's 16 bytes behind it. The purpose and the row's id are authenticated with it, so that what stands in one row is of
no use in another. The first of VAULT_KEYS seals, every one opens what it sealed.

A fingerprint is HMAC-SHA256 under a key of its own (HKDF, RFC 5869, from VAULT_FINGERPRINT_KEY): the same text has the
same one, however often VAULT_KEYS changed, and whoever has all fingerprints but not the key can't try texts.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config import settings
from core.errors import ConflictError, InvariantError

_FORMAT = b"\x01"
_NONCE_BYTES, _TAG_BYTES = 12, 16
OVERHEAD = len(_FORMAT) + _NONCE_BYTES + _TAG_BYTES
"""Bytes that a sealed text has more than the text."""
_PURPOSE = re.compile(r"[a-z][a-z_.]{0,62}")


class VaultOffError(ConflictError):
    """No keys are set, so nothing is kept that would need them."""

    def __init__(self, variable: str) -> None:
        super().__init__(f"this deployment keeps nothing that has to be sealed: it has no {variable}")


@dataclass(frozen=True, slots=True)
class Sealed:
    content: bytes
    by: str
    """The key's id."""


def key_id(key: bytes) -> str:
    """Names a key in rows and listings, and tells nothing of it."""
    return hashlib.sha256(b"tallyrail vault key " + key).hexdigest()[:12]


def _keys() -> dict[str, bytes]:
    """By id, the one that seals first. Raises VaultOffError if there is none."""
    chosen = settings.vault().keys
    if chosen is None:
        raise VaultOffError("VAULT_KEYS")
    keys = [bytes.fromhex(each.get_secret_value()) for each in chosen]
    return {key_id(key): key for key in keys}


def current() -> str:
    """The id of the key that seals. Raises VaultOffError if there is none."""
    return next(iter(_keys()))


def key_ids() -> list[str]:
    """The ids of all keys that are set, the one that seals first. Raises VaultOffError if there is none."""
    return list(_keys())


def need() -> None:
    """Raises VaultOffError unless the vault can seal and recognise: to be asked before anything else is done."""
    _keys()
    _fingerprint_secret()


def _about(purpose: str, row_id: UUID) -> bytes:
    if not _PURPOSE.fullmatch(purpose):
        raise InvariantError(f"{purpose!r} is no purpose: a-z, _ and .")
    return _FORMAT + f"tallyrail vault\n{purpose}\n{row_id}".encode()


def seal(purpose: str, row_id: UUID, text: bytes) -> Sealed:
    """Encrypt it for this row alone. `purpose` says what the row is, such as `beneficiary`. Raises VaultOffError."""
    [by, key] = next(iter(_keys().items()))
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return Sealed(_FORMAT + nonce + AESGCM(key).encrypt(nonce, text, _about(purpose, row_id)), by)


def opened(purpose: str, row_id: UUID, sealed: Sealed) -> bytes:
    """What was sealed for this row.

    Raises VaultOffError without any key, InvariantError if its key is gone or the row is not as it was written.
    """
    key = _keys().get(sealed.by)
    if key is None:
        raise InvariantError(f"{purpose} {row_id} was sealed by the key {sealed.by}, which is not in VAULT_KEYS")
    kind, rest = sealed.content[: len(_FORMAT)], sealed.content[len(_FORMAT) :]
    if kind != _FORMAT or len(sealed.content) < OVERHEAD:
        raise InvariantError(f"{purpose} {row_id} is sealed in no way that we know")
    try:
        return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _about(purpose, row_id))
    except InvalidTag:  # another row, another purpose, or bytes that were changed
        raise InvariantError(f"{purpose} {row_id} can't be opened: its row is not as it was written") from None


def _fingerprint_secret() -> bytes:
    chosen = settings.vault().fingerprint_key
    if chosen is None:
        raise VaultOffError("VAULT_FINGERPRINT_KEY")
    return bytes.fromhex(chosen.get_secret_value())


@lru_cache(maxsize=64)
def _derived(secret: bytes, purpose: str) -> bytes:
    if not _PURPOSE.fullmatch(purpose):
        raise InvariantError(f"{purpose!r} is no purpose: a-z, _ and .")
    return HKDF(SHA256(), 32, salt=None, info=f"tallyrail vault fingerprint\n{purpose}".encode()).derive(secret)


def fingerprint(purpose: str, text: str) -> str:
    """64 hexadecimal digits: the same for the same text and purpose, and nothing to anybody without the key.

    Bring the text to one spelling first. Raises VaultOffError.
    """
    return hmac.new(_derived(_fingerprint_secret(), purpose), text.encode(), hashlib.sha256).hexdigest()
