"""Amounts for people: units beside what they are in the asset's own unit."""

from collections.abc import Mapping

from config import assets
from core.money import display


def scales() -> dict[str, int]:
    """The registry's, by asset."""
    return {name: asset.scale for name, asset in assets.registry().assets.items()}


def symbol(asset: str) -> str:
    known = assets.registry().assets.get(asset)
    return known.symbol if known else ""


def amount(units: int | None, asset: str, known: Mapping[str, int]) -> str:
    """Units as people say them, `1.5 ETH`; nothing where there are none or nobody knows the scale."""
    return "" if units is None or asset not in known else f"{display(units, known[asset])} {symbol(asset)}".rstrip()


def with_units(units: int | None, asset: str, known: Mapping[str, int]) -> str:
    """`1.5 ETH = 1500000000000000000 units`."""
    if units is None:
        return ""
    said = amount(units, asset, known)
    return f"{said} = {units} units" if said else f"{units} units"
