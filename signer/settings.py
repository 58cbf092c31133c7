"""The signer's own settings. Whoever asks it knows two of them, SIGNER_URL and SIGNER_TOKEN, by settings of its own."""

import re
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from signer import keys
from signer.errors import BootError

_TOKEN = re.compile(r"[!-~]{32,512}")


def _token(given: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(given.get_secret_value()):
        raise ValueError("a token is 32 characters or more, of ASCII and without blanks")
    return given


class SignerSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SIGNER_", frozen=True, hide_input_in_errors=True)

    token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """What whoever asks must know. Without it the signer doesn't start."""
    host: str = "127.0.0.1"
    """Where it listens. It speaks plain HTTP."""
    port: int = Field(default=8600, ge=1, le=65_535)
    keystore: Path = Path("data/signer/keystore.json")
    policy: Path = Path("data/signer/policy.toml")
    journal: Path = Path("data/signer/journal.db")
    """What was signed. It must never be lost and never be an older copy."""
    passphrase_file: Path | None = None
    """Its first line is the keystore's passphrase."""
    passphrase: SecretStr | None = None
    """Instead of a file. Whoever may see this process's environment sees it."""
    body_bytes_max: int = Field(default=262_144, ge=4_096)

    def reveal_token(self) -> str:
        """Raises BootError if there is none."""
        if self.token is None:
            raise BootError("SIGNER_TOKEN is not set: 32 characters at least, such as `openssl rand -hex 32` makes")
        return self.token.get_secret_value()

    def reveal_passphrase(self) -> str:
        """Raises BootError if there is none, or two, or its file can be read by everybody."""
        if (self.passphrase_file is None) == (self.passphrase is None):
            raise BootError("set one of SIGNER_PASSPHRASE_FILE and SIGNER_PASSPHRASE")
        if self.passphrase is not None:
            return self.passphrase.get_secret_value()
        assert self.passphrase_file is not None  # noqa: S101  # for mypy: it is one of the two
        # A group may: that is how orchestrators give secrets to a process that isn't root.
        return (keys.private_text(self.passphrase_file, others=0o007).splitlines() or [""])[0]


@cache
def signer() -> SignerSettings:
    return SignerSettings()


def reload() -> None:
    """Forget what was read, for tests that change the environment."""
    signer.cache_clear()
