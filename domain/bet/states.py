"""The lives of a bet, and of the two moves of money into a player's hands and back."""

from enum import StrEnum

from core.machine import Machine


class BetState(StrEnum):
    RESERVED = "reserved"
    """The stake is bound. There is no way back but by settling or voiding it."""
    SETTLED = "settled"
    """The stake went to the house, and the payout, which may be nothing, to the player."""
    VOIDED = "voided"
    """The stake went back to the player: the bet never was."""


class LoadState(StrEnum):
    HELD = "held"
    """The ledger holds the money for the hot store, which has been asked to take it, or will be."""
    LOADED = "loaded"
    VOIDED = "voided"
    """The hot store was away, and had not taken it."""


class UnloadState(StrEnum):
    ASKED = "asked"
    UNLOADED = "unloaded"
    REFUSED = "refused"
    """There was nothing, or less than was asked for; or the player was not idle after all."""


BET = Machine(
    name="bet",
    initial=BetState.RESERVED,
    edges={BetState.RESERVED: {"settle": BetState.SETTLED, "void": BetState.VOIDED}},
)
LOAD = Machine(
    name="load",
    initial=LoadState.HELD,
    edges={LoadState.HELD: {"load": LoadState.LOADED, "void": LoadState.VOIDED}},
)
UNLOAD = Machine(
    name="unload",
    initial=UnloadState.ASKED,
    edges={
        UnloadState.ASKED: {"unload": UnloadState.UNLOADED, "refuse": UnloadState.REFUSED},
        UnloadState.REFUSED: {"unload": UnloadState.UNLOADED},  # two asked, and the second found money there
    },
)
