"""A payer's address on its way to the provider: AES-256-GCM (NIST SP 800-38D), and gone once the order is made.

Some providers insist on one. It is kept nowhere in clear, and not at all after the order: docs/fiat-payments.md.
"""

import secrets
from uuid import UUID

from Crypto.Cipher import AES

from core.errors import InvalidRequestError, InvariantError
from domain.fiat_payment.settings import fiat_payment as settings

_NONCE_BYTES, _TAG_BYTES = 12, 16
EMAIL_LENGTH_MAX = 254


def _key() -> bytes | None:
    chosen = settings().payer_key
    return None if chosen is None else bytes.fromhex(chosen.get_secret_value())


def seal(payment_id: UUID, email: str) -> bytes:
    """Encrypt it for this payment alone. Raises InvalidRequestError where no key is set, or for what is no address."""
    key = _key()
    if key is None:
        raise InvalidRequestError("this deployment takes no payer_email: it has no FIAT_PAYER_KEY", field="payer_email")
    name, at, host = email.rpartition("@")
    if not (name and at and host and email.isprintable() and " " not in email and len(email) <= EMAIL_LENGTH_MAX):
        # The address itself is no part of the message, which is logged.
        raise InvalidRequestError("payer_email is no email address", field="payer_email")
    nonce = secrets.token_bytes(_NONCE_BYTES)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(payment_id.bytes)
    content, tag = cipher.encrypt_and_digest(email.encode())
    return nonce + tag + content


def opened(payment_id: UUID, sealed: bytes | None) -> str | None:
    """The address, or None if there is none. Raises InvariantError if its key is gone or the row was changed."""
    if sealed is None:
        return None
    key = _key()
    if key is None:
        raise InvariantError("a payer's address is sealed, and FIAT_PAYER_KEY is not set")
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
        cipher.update(payment_id.bytes)
        return cipher.decrypt_and_verify(rest[_TAG_BYTES:], rest[:_TAG_BYTES]).decode()
    except ValueError:
        raise InvariantError(f"the payer's address of {payment_id} can't be opened by FIAT_PAYER_KEY") from None
