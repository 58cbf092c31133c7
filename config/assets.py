"""The registry of chains and assets: what a unit is, and how deep a transfer must lie before it is money.

Chains are named by CAIP-2 (`eip155:1`), assets by CAIP-19 (`eip155:1/erc20:0x...`) or, for fiat, `iso4217:USD`.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from config import settings

Units = Annotated[int, BeforeValidator(lambda value: int(value) if isinstance(value, str) else value)]
"""TOML integers end at 64 bits, so a file may give units as a string."""


class Tier(BaseModel):
    """Amounts up to `up_to` units need this many blocks. The last tier has no `up_to`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    up_to: Units | None = None
    blocks: int = Field(ge=1, le=10_000)


Confirmations = Literal["finalized"] | int | tuple[Tier, ...]


class Chain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    namespace: str
    confirmations: Confirmations
    reorg_depth: int = Field(ge=1)
    block_time_ms: int = Field(ge=1)
    scan_blocks_max: int = Field(default=500, ge=1)
    poa: bool = False
    """Proof-of-authority headers (BSC) carry more extra data than the Ethereum specification allows."""
    rpc_urls: tuple[str, ...] = ()


class Asset(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    symbol: str
    scale: int = Field(ge=0, le=36)
    """How many decimal places the unit of display has: 18 for ether, 2 for the dollar."""
    units_min: Units = 1
    """Transfers below this are dust: recorded, never credited."""
    confirmations: Confirmations | None = None
    """Overrides the chain's."""

    @property
    def chain(self) -> str | None:
        """The CAIP-2 id, or None for fiat."""
        return self.id.split("/", 1)[0] if "/" in self.id else None

    @property
    def contract(self) -> str | None:
        """The token's contract address in lower case, or None for a chain's own coin."""
        kind, _, reference = self.id.partition("/")[2].partition(":")
        return reference if kind == "erc20" else None


class Registry(BaseModel):
    model_config = ConfigDict(frozen=True)

    chains: dict[str, Chain]
    assets: dict[str, Asset]

    def of_chain(self, chain: str) -> tuple[Asset, ...]:
        return tuple(asset for asset in self.assets.values() if asset.chain == chain)


def blocks_needed(rule: Confirmations, units: int) -> int | None:
    """How many blocks a transfer of this size needs; None means the finalized tag decides."""
    if rule == "finalized":
        return None
    if isinstance(rule, int):
        return rule
    for tier in rule:
        if tier.up_to is None or units <= tier.up_to:
            return tier.blocks
    return rule[-1].blocks


@cache
def registry() -> Registry:
    """The shipped file with the deployment's file and RPC_URLS laid over it. Raises ValueError with what is wrong."""
    files = settings.chain_files()
    merged: dict[str, dict[str, dict[str, object]]] = {"chains": {}, "assets": {}}
    for path in (Path(__file__).with_name("chains.toml"), files.chains_file):
        if path is not None:
            _lay_over(merged, path)
    for chain, urls in files.rpc_urls.items():
        if chain not in merged["chains"]:
            raise ValueError(f"RPC_URLS names the chain {chain!r}, which no chains file describes")
        merged["chains"][chain]["rpc_urls"] = tuple(urls)
    made = Registry.model_validate(merged)
    for asset in made.assets.values():
        if asset.chain is not None and asset.chain not in made.chains:
            raise ValueError(f"the asset {asset.id!r} is on a chain that no chains file describes")
        if asset.contract and asset.id != asset.id.lower():
            raise ValueError(f"the asset {asset.id!r} must spell its contract in lower case")
    return made


def _lay_over(merged: dict[str, dict[str, dict[str, object]]], path: Path) -> None:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    if unknown := content.keys() - merged.keys():
        raise ValueError(f"{path}: unknown section {min(unknown)!r}; there are [chains] and [assets]")
    for section, rows in content.items():
        for key, row in rows.items():
            merged[section][key] = merged[section].get(key, {"id": key}) | row


def reload() -> None:
    registry.cache_clear()
