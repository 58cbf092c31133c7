"""The life of a server seed: promised by its hash, drawn from, shown. There is no way back."""

from enum import StrEnum

from core.machine import Machine


class SeedState(StrEnum):
    COMMITTED = "committed"
    """Its hash is told before anybody chooses a client seed for it: so it can't have been picked to fit one."""
    ACTIVE = "active"
    REVEALED = "revealed"
    """Everybody may know it, so nothing is drawn from it any more."""


S = SeedState

SEED = Machine(
    name="seed",
    initial=S.COMMITTED,
    edges={
        S.COMMITTED: {"rotate": S.ACTIVE},
        S.ACTIVE: {"rotate": S.REVEALED},
    },
)
