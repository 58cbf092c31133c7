"""The keystore: a file of private keys by name, sealed by a passphrase. Only the signer reads it.

JSON: how the passphrase becomes a key of AES-256 (scrypt, RFC 7914), and for each name its namespace, 12 random bytes
and AES-256-GCM (NIST SP 800-38D) of the 32 bytes with the tag behind them. What scrypt was told, the name and the
namespace are authenticated with each, so that nobody without the passphrase can swap two or weaken the rest.

The file is its owner's alone. It is replaced as a whole, so that no crash leaves half of one.
"""

import fcntl
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from signer import registry
from signer.errors import BootError

SECRET_BYTES = 32
PASSPHRASE_MIN = 12
"""Characters. What `openssl rand -hex 32` gives is better than anything a person thinks of."""
COST = 2**17
"""scrypt's N. With r = 8 a try takes 128 MiB and some tenths of a second."""
_COST_MIN, _COST_MAX = 2**10, 2**20
_BLOCK, _LANES = 8, 1
_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 32, 12, 32
_FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SIZE_MAX = 1_000_000
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Key:
    """`secret`: 32 bytes, a private key (Solana: an ed25519 seed)."""

    namespace: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Store:
    """As it stands in the file."""

    cost: int
    salt: bytes
    sealed: Mapping[str, tuple[str, bytes, bytes]]
    """Name -> namespace, nonce, sealed secret."""

    def about(self, name: str, namespace: str) -> bytes:
        said = {
            "format": _FORMAT,
            "n": self.cost,
            "r": _BLOCK,
            "p": _LANES,
            "salt": self.salt.hex(),
            "name": name,
            "namespace": namespace,
        }
        return b"tallyrail keystore\n" + json.dumps(said, sort_keys=True).encode()

    def cipher(self, passphrase: str) -> AESGCM:
        derived = Scrypt(self.salt, _KEY_BYTES, self.cost, _BLOCK, _LANES).derive(passphrase.encode())
        return AESGCM(derived)


def read(path: Path, passphrase: str) -> dict[str, Key]:
    """Every key by name. Raises BootError: there is no file, others can read it, wrong passphrase, it was changed."""
    return _opened(path, _parsed(path), passphrase)


def add(path: Path, passphrase: str, name: str, namespace: str, secret: bytes, *, cost: int = COST) -> None:
    """Seal one more. The first makes the file. Raises BootError, also if the name is taken: no key is ever replaced."""
    if not _NAME.fullmatch(name):
        raise BootError(f"{name!r} is no name: a-z, 0-9 and -, 63 at most")
    if namespace not in registry.SIGNERS:
        raise BootError(f"{namespace!r} is none of {', '.join(registry.SIGNERS)}")
    if len(secret) != SECRET_BYTES:
        raise BootError(f"a secret has {SECRET_BYTES} bytes")
    if len(passphrase) < PASSPHRASE_MIN:
        raise BootError(f"a passphrase has {PASSPHRASE_MIN} characters at least")
    with _alone(path.parent):
        if path.exists():
            store = _parsed(path)
            # One passphrase for all: under another one than the rest, nothing of the file could be used.
            _opened(path, store, passphrase)
        else:
            store = _Store(cost, secrets.token_bytes(_SALT_BYTES), {})
        if name in store.sealed:
            raise BootError(f"the keystore has a key {name!r}, and none is ever replaced")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = store.cipher(passphrase).encrypt(nonce, secret, store.about(name, namespace))
        _write(path, _Store(store.cost, store.salt, {**store.sealed, name: (namespace, nonce, sealed)}))


def _opened(path: Path, store: _Store, passphrase: str) -> dict[str, Key]:
    cipher = store.cipher(passphrase)
    found = {}
    for name, (namespace, nonce, sealed) in store.sealed.items():
        try:
            secret = cipher.decrypt(nonce, sealed, store.about(name, namespace))
        except InvalidTag:
            raise BootError(f"{path}: the passphrase is wrong, or the key {name!r} is not as it was written") from None
        found[name] = Key(namespace, secret)
    return found


def private_text(path: Path, *, others: int = _OTHERS) -> str:
    """The content of a file. Raises BootError if its mode has one of `others`: nobody else may read or change it."""
    try:
        # The open file is looked at, not its name, which somebody could lead elsewhere meanwhile.
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise BootError(f"{path} can't be read: {error.strerror}") from None
    if mode & others:
        raise BootError(f"{path} is open to others (mode {mode & 0o777:o}): take their rights away with chmod")
    if len(content) > _SIZE_MAX:
        raise BootError(f"{path} is too large to be ours")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BootError(f"{path} is no text") from None


def _parsed(path: Path) -> _Store:
    text = private_text(path)
    try:
        content: dict[str, Any] = json.loads(text)
        scrypt = content["scrypt"]
        known = (content["format"], scrypt["r"], scrypt["p"]) == (_FORMAT, _BLOCK, _LANES)
        cost = scrypt["n"]
        sealed = {
            str(name): (str(each["namespace"]), bytes.fromhex(each["nonce"]), bytes.fromhex(each["sealed"]))
            for name, each in content["keys"].items()
        }
        store = _Store(cost, bytes.fromhex(scrypt["salt"]), sealed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BootError(f"{path} is no keystore") from None
    # An unbounded cost would be memory without end; a small one, a passphrase that is soon guessed.
    if not known or type(cost) is not int or not _COST_MIN <= cost <= _COST_MAX or cost & (cost - 1):
        raise BootError(f"{path} is a keystore of a kind that this version doesn't know")
    return store


def _write(path: Path, store: _Store) -> None:
    content = {
        "format": _FORMAT,
        "scrypt": {"n": store.cost, "r": _BLOCK, "p": _LANES, "salt": store.salt.hex()},
        "keys": {
            name: {"namespace": namespace, "nonce": nonce.hex(), "sealed": sealed.hex()}
            for name, (namespace, nonce, sealed) in store.sealed.items()
        },
    }
    handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two people who add at the same time: the second waits, and loses nothing of the first."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BootError(f"{folder} can't be used: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
