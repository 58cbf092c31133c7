"""What a deployment may set of rates."""

from datetime import timedelta
from functools import cache
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration

ANY = "*"
THROUGH_THE_DOLLAR = ((ANY, "iso4217:USD", ANY),)
PairOfIds = tuple[str, str]
Route = Annotated[tuple[str, ...], Field(min_length=3, max_length=5)]
Bps = Annotated[int, Field(ge=1, le=10_000)]


class RatesSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RATE_", frozen=True)

    pairs: tuple[PairOfIds, ...] | None = None
    """As JSON: [asset, currency] each. None: what enough sources know of the registry."""
    routes: tuple[Route, ...] | None = None
    """As JSON: what a rate that nobody quotes is made through. `*` at an end is any asset. None: through the dollar."""
    every: Duration = timedelta(seconds=30)
    wait: Duration = timedelta(seconds=10)
    """How long a round waits for its sources."""
    age_max: Duration = timedelta(minutes=2)
    """How old a source's price may be in a round, and how old a round may be when it is used."""
    sources_min: int = Field(default=2, ge=1, le=10)
    outlier_bps: Bps = 200
    spread_bps: Bps = 200
    jump_bps: Bps = 1_000
    jump_rounds: int = Field(default=3, ge=1, le=100)
    """A jump that holds for so many rounds is believed."""
    later_max: Duration = timedelta(minutes=15)
    """What happened while no rate could be used is judged by the first one after it, no later than this."""
    override: Duration = timedelta(minutes=15)
    """How long a person's rate holds who doesn't say otherwise."""
    override_max: Duration = timedelta(days=7)
    keep: Duration = timedelta(days=14)
    """How long the prices of sources and their medians are kept."""

    @field_validator("routes")
    @classmethod
    def _have_wildcards_at_ends_only(cls, routes: tuple[Route, ...] | None) -> tuple[Route, ...] | None:
        if any(ANY in route[1:-1] for route in routes or ()):
            raise ValueError("only the first and the last of a route may be *")
        return routes


@cache
def rates() -> RatesSettings:
    return RatesSettings()
