"""What a deployment may set of the hot store."""

from datetime import timedelta
from functools import cache

from pydantic import Field, RedisDsn
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import settings
from config.settings import Duration


class HotSettings(BaseSettings):
    """Where claims and bets are decided, and what happens when that place is away."""

    model_config = SettingsConfigDict(env_prefix="HOT_", frozen=True)

    redis_url: RedisDsn | None = None
    """A Redis or Valkey of its own for decisions. Default: REDIS_URL. It needs an append-only file and `noeviction`."""
    redis_cluster: bool = False
    """HOT_REDIS_URL is a node of a Redis Cluster."""
    shards: int = Field(default=4, ge=1, le=64)
    """Parts that are decided and drained apart. Changed only while nothing is decided: at the next turn."""
    lease: Duration = timedelta(seconds=10)
    """A decider that is silent for this long since a turn began is taken for dead."""
    fallback_after: Duration = timedelta(seconds=3)
    """How long Redis must be away before PostgreSQL decides claims."""
    wait: Duration = timedelta(seconds=2)
    """How long a claim waits for a turn to end before it is answered 503."""
    remember_max: int = Field(default=500_000, ge=1_000)
    """Events that a decider keeps in memory because the books have not caught up. Beyond, it decides nothing more."""
    batch_max: int = Field(default=1_000, ge=1, le=2_000)
    """Events that one transaction of the sync process applies."""
    lanes: int = Field(default=2, ge=1, le=16)
    """Threads of a sync process that write into the books, each its share of the shards."""
    linger: Duration = timedelta(seconds=30)
    """How long what is over stays in Redis once it is in the books."""

    @property
    def url(self) -> str:
        return str(self.redis_url or settings.servers().redis_url)


@cache
def hot() -> HotSettings:
    return HotSettings()
