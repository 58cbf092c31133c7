"""The vault: its format, what it is bound to, changing keys, and fingerprints."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from config import settings
from core import vault
from core.errors import ConflictError, InvariantError
from core.vault import Sealed, VaultOffError

OLD, NEW, MARK = "0a" * 32, "0b" * 32, "0c" * 32
ROW, OTHER = UUID(int=1), UUID(int=2)
TEXT = b'{"number":"0123456789"}'
Use = Callable[..., None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    def made(*keys: str, mark: str | None = MARK) -> None:
        for name, value in (("VAULT_KEYS", json.dumps(keys) if keys else None), ("VAULT_FINGERPRINT_KEY", mark)):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        settings.reload()

    made(OLD)
    yield made
    monkeypatch.undo()
    settings.reload()


def test_what_is_sealed_is_opened_by_its_row_and_by_nothing_else(use: Use) -> None:
    sealed = vault.seal("beneficiary", ROW, TEXT)
    assert vault.opened("beneficiary", ROW, sealed) == TEXT
    assert len(sealed.content) == len(TEXT) + vault.OVERHEAD and b"0123456789" not in sealed.content
    for purpose, row in (("beneficiary", OTHER), ("payout", ROW)):
        with pytest.raises(InvariantError, match="not as it was written"):
            vault.opened(purpose, row, sealed)
    assert vault.seal("beneficiary", ROW, TEXT).content != sealed.content  # no two have a nonce in common


def test_the_format_is_the_one_that_is_described(use: Use) -> None:
    """Read by hand, so that what stands in rows can be read for ever."""
    sealed = vault.seal("beneficiary", ROW, TEXT)
    assert sealed.by == hashlib.sha256(b"tallyrail vault key " + bytes.fromhex(OLD)).hexdigest()[:12]
    kind, nonce, rest = sealed.content[:1], sealed.content[1:13], sealed.content[13:]
    about = b"\x01tallyrail vault\nbeneficiary\n00000000-0000-0000-0000-000000000001"
    assert kind == b"\x01" and AESGCM(bytes.fromhex(OLD)).decrypt(nonce, rest, about) == TEXT


def test_no_bit_can_be_changed(use: Use) -> None:
    sealed = vault.seal("beneficiary", ROW, TEXT)
    for at in range(len(sealed.content)):
        changed = bytearray(sealed.content)
        changed[at] ^= 1
        with pytest.raises(InvariantError):
            vault.opened("beneficiary", ROW, Sealed(bytes(changed), sealed.by))
    for cut in (b"", sealed.content[:12], sealed.content[:-1], sealed.content + b"x"):
        with pytest.raises(InvariantError):
            vault.opened("beneficiary", ROW, Sealed(cut, sealed.by))


def test_the_first_key_seals_and_all_open(use: Use) -> None:
    old = vault.seal("beneficiary", ROW, TEXT)
    use(NEW, OLD)
    new = vault.seal("beneficiary", ROW, TEXT)
    assert (new.by, old.by) == tuple(vault.key_ids()) and vault.current() == new.by
    assert vault.opened("beneficiary", ROW, old) == vault.opened("beneficiary", ROW, new) == TEXT
    use(NEW)
    assert vault.opened("beneficiary", ROW, new) == TEXT
    with pytest.raises(InvariantError, match=f"sealed by the key {old.by}, which is not in VAULT_KEYS"):
        vault.opened("beneficiary", ROW, old)


def test_a_fingerprint_stays_when_keys_change_and_is_the_purposes_own(use: Use) -> None:
    before = vault.fingerprint("beneficiary", "0123456789")
    use(NEW)
    assert vault.fingerprint("beneficiary", "0123456789") == before
    assert vault.fingerprint("payout", "0123456789") != before != vault.fingerprint("beneficiary", "0123456780")
    # RFC 5869 by hand: extract with a salt of zeros, expand one block.
    extracted = hmac.digest(bytes(32), bytes.fromhex(MARK), "sha256")
    key = hmac.digest(extracted, b"tallyrail vault fingerprint\nbeneficiary\x01", "sha256")
    assert before == hmac.new(key, b"0123456789", "sha256").hexdigest()
    use(NEW, mark="0d" * 32)
    assert vault.fingerprint("beneficiary", "0123456789") != before


def test_without_keys_nothing_is_sealed_and_it_is_said_why(use: Use) -> None:
    sealed = vault.seal("beneficiary", ROW, TEXT)
    use()
    for step in (
        vault.need,
        vault.current,
        lambda: vault.seal("beneficiary", ROW, TEXT),
        lambda: vault.opened("beneficiary", ROW, sealed),
    ):
        with pytest.raises(VaultOffError, match="VAULT_KEYS"):
            step()
    use(OLD, mark=None)
    for step in (vault.need, lambda: vault.fingerprint("beneficiary", "x")):
        with pytest.raises(VaultOffError, match="VAULT_FINGERPRINT_KEY"):
            step()
    assert issubclass(VaultOffError, ConflictError)  # 409 over HTTP


def test_a_purpose_can_t_run_into_what_stands_behind_it(use: Use) -> None:
    for purpose in ("", "a\nb", "A", "a b"):
        with pytest.raises(InvariantError):
            vault.seal(purpose, ROW, TEXT)
        with pytest.raises(InvariantError):
            vault.fingerprint(purpose, "x")


@pytest.mark.parametrize("value", ["[]", '["00"]', json.dumps(["zz" * 32])])
def test_a_malformed_key_stops_the_start_and_is_not_repeated(
    use: Use, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_KEYS", value)
    settings.reload()
    with pytest.raises(ValueError, match="keys") as error:
        settings.vault()
    assert "zz" not in str(error.value)
