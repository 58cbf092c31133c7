"""Everything a deployment may set, read from the environment once and checked at boot."""

import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PostgresDsn, RedisDsn, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _psycopg(url: object) -> object:
    """Operators write postgresql://; SQLAlchemy must be told which driver."""
    if isinstance(url, str) and url.startswith(("postgresql://", "postgres://")):
        return "postgresql+psycopg://" + url.split("://", 1)[1]
    return url


DatabaseUrl = Annotated[PostgresDsn, BeforeValidator(_psycopg)]


def _seconds(value: object) -> object:
    """A bare number is seconds; ISO 8601 (`PT10M`) and `HH:MM:SS` work as well."""
    return timedelta(seconds=float(value)) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


_NUMBER = re.compile(r"\d+(\.\d+)?")
Duration = Annotated[timedelta, BeforeValidator(_seconds), Field(gt=timedelta(0))]


class ServerSettings(BaseSettings):
    """Where PostgreSQL and Redis (or Valkey) are."""

    model_config = SettingsConfigDict(frozen=True)

    database_url: DatabaseUrl
    """What every process connects with. It needs membership of the role `tallyrail_app` and nothing more."""
    database_owner_url: DatabaseUrl | None = None
    """What migrations connect with: the owner of the schema. Default: DATABASE_URL."""
    database_pool_size: int = Field(default=10, ge=1, le=200)
    """Connections a process may hold. API processes want one per busy thread; a worker child needs two."""
    redis_url: RedisDsn

    @property
    def owner_url(self) -> str:
        return str(self.database_owner_url or self.database_url)


class JobSettings(BaseSettings):
    """How jobs are leased, rung and retried."""

    model_config = SettingsConfigDict(env_prefix="JOBS_", frozen=True)

    lease: Duration = timedelta(seconds=20)
    """How long a worker may be silent before its jobs are given to another. Renewed every third of it."""
    ring_again_after: Duration = timedelta(seconds=5)
    """A published job that no worker took is published again after this long: the broker may have lost it."""
    sweep_every: Duration = timedelta(seconds=1)
    sweep_limit: int = Field(default=1_000, ge=1, le=100_000)
    """Rows one sweep may touch of each kind, so that a storm is worked off at a bounded rate."""
    relay_limit: int = Field(default=1_000, ge=1, le=10_000)
    """Rows the relay takes in one transaction."""
    relay_poll: Duration = timedelta(milliseconds=200)
    """The longest the relay sleeps when no bell rings: the price of a lost bell."""
    backoff_base: Duration = timedelta(seconds=1)
    backoff_max: Duration = timedelta(minutes=10)
    attempts_max: int = Field(default=20, ge=1, le=100)
    """For jobs that state no limit of their own. With the backoff above, 20 attempts last about an hour and a half."""
    keep_finished: Duration = timedelta(days=30)
    """How long succeeded and cancelled jobs are kept. Dead letters are kept until somebody decides."""


class ApiSettings(BaseSettings):
    """Limits of the ingest API."""

    model_config = SettingsConfigDict(env_prefix="API_", frozen=True)

    body_bytes_max: int = Field(default=1_048_576, ge=1_024)
    batch_max: int = Field(default=1_000, ge=1, le=10_000)
    """Requests in one `jobs:batch` body."""
    rate_limit: str = "3000/second"
    """Requests a tenant may make, in the notation of the `limits` library."""
    hot_rate_limit: str = "50000/second"
    """Claims and bets that a tenant may ask for, each of a batch counted. In the same notation."""
    idempotency_wait: Duration = timedelta(seconds=2)
    """How long a request waits for an unfinished one under the same key before it answers 409."""


class LogSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LOG_", frozen=True)

    level: str = "INFO"
    format: str = Field(default="json", pattern="^(json|console)$")


class ChainFileSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True)

    chains_file: Path | None = None
    """A TOML file of further chains and assets, laid over `config/chains.toml`."""
    rpc_urls: dict[str, list[str | dict[str, Any]]] = {}
    """CAIP-2 chain id -> endpoints, as JSON: URLs, or objects (`config.assets.Node`) that say more of one. Kept out of
    files: they often hold a key."""


def _aes_key(key: SecretStr) -> SecretStr:
    if not _AES_KEY.fullmatch(key.get_secret_value()):
        raise ValueError("a key is 64 hexadecimal digits, such as `openssl rand -hex 32` makes")
    return key


_AES_KEY = re.compile(r"[0-9a-fA-F]{64}")
AesKey = Annotated[SecretStr, AfterValidator(_aes_key)]


class FairnessSettings(BaseSettings):
    """How server seeds of provably fair draws are kept."""

    model_config = SettingsConfigDict(env_prefix="FAIRNESS_", frozen=True, hide_input_in_errors=True)

    keys: Annotated[tuple[AesKey, ...], Field(min_length=1)] | None = None
    """As JSON: the first encrypts, every one decrypts. Without any there are no provably fair draws."""


class VaultSettings(BaseSettings):
    """How what identifies people outside, such as their bank accounts, is kept."""

    model_config = SettingsConfigDict(env_prefix="VAULT_", frozen=True, hide_input_in_errors=True)

    keys: Annotated[tuple[AesKey, ...], Field(min_length=1)] | None = None
    """As JSON: the first seals, every one opens. Without any nothing can be kept in the vault."""
    fingerprint_key: AesKey | None = None
    """What fingerprints are made with. It stays: with another one nothing that was kept before is recognised."""


@cache
def servers() -> ServerSettings:
    return ServerSettings()


@cache
def jobs() -> JobSettings:
    return JobSettings()


@cache
def api() -> ApiSettings:
    return ApiSettings()


@cache
def logs() -> LogSettings:
    return LogSettings()


@cache
def chain_files() -> ChainFileSettings:
    return ChainFileSettings()


@cache
def fairness() -> FairnessSettings:
    return FairnessSettings()


@cache
def vault() -> VaultSettings:
    return VaultSettings()


def reload() -> None:
    """Forget what was read, for tests that change the environment."""
    for cached in (servers, jobs, api, logs, chain_files, fairness, vault):
        cached.cache_clear()
