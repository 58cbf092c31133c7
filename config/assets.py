"""The registry of chains and assets: what a unit is, and how deep a transfer must lie before it is money.

Chains are named by CAIP-2 (`eip155:1`), assets by CAIP-19 (`eip155:1/erc20:0x...`) or, for fiat, `iso4217:USD`.
"""

import tomllib
from datetime import timedelta
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


Disposal = Literal["credit", "suspend"]
Confirmations = Literal["finalized"] | int | tuple[Tier, ...]


class Node(BaseModel):
    """One endpoint of RPC_URLS: a URL, or an object with these fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(min_length=1, repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Sent with each request, such as a vendor's key."""
    rate: str | None = None
    """Requests it takes of all our processes together, in the notation of the `limits` library: `25/second`."""
    calls_max: int | None = Field(default=None, ge=1, le=1_000)
    """Calls in one batch, where it takes fewer than others."""


class Chain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    namespace: str
    confirmations: Confirmations
    reorg_depth: int = Field(ge=0)
    """0: only final blocks are read, and none is ever replaced."""
    block_time_ms: int = Field(ge=1)
    scan_blocks_max: int = Field(default=500, ge=1)
    poa: bool = False
    """Proof-of-authority headers (BSC) carry more extra data than the Ethereum specification allows."""
    head_age_max_s: int | None = Field(default=None, ge=0)
    """A node whose newest block is older stands still. Default: 20 block times, a minute at least; 0: never."""
    lag_blocks_max: int | None = Field(default=None, ge=1)
    """A node that is further behind the best one lags. Default: as many as come in a minute, 3 at least."""
    nodes: tuple[Node, ...] = ()

    @property
    def head_age_max(self) -> timedelta | None:
        if self.head_age_max_s is None:
            return timedelta(seconds=max(60, 20 * self.block_time_ms // 1_000))
        return timedelta(seconds=self.head_age_max_s) or None

    @property
    def lag_max(self) -> int:
        return self.lag_blocks_max or max(3, 60_000 // self.block_time_ms)


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
    quorum_units: Units | None = Field(default=None, ge=1)
    """Deposits of at least this many are credited only when two endpoints tell them alike. None: one is enough."""
    fee_on_transfer: bool = False
    """EVM: the token may deliver less than its log says, so what arrived is read from balances."""
    tolerance_bps: int = Field(default=0, ge=0, le=10_000)
    """For deposits that state none."""
    underpaid: Disposal = "suspend"
    overpaid: Disposal = "suspend"
    late: Disposal = "suspend"
    unexpected: Disposal = "suspend"
    """What becomes of money that arrives otherwise than asked: credited all the same, or kept for a person."""

    @property
    def chain(self) -> str | None:
        """The CAIP-2 id, or None for fiat."""
        return self.id.split("/", 1)[0] if "/" in self.id else None

    @property
    def contract(self) -> str | None:
        """The token's contract or mint as the id spells it (EVM: lower case), or None for a chain's own coin."""
        kind, _, reference = self.id.partition("/")[2].partition(":")
        return None if kind in ("", "slip44") else reference


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
    for chain, nodes in files.rpc_urls.items():
        if chain not in merged["chains"]:
            raise ValueError(f"RPC_URLS names the chain {chain!r}, which no chains file describes")
        merged["chains"][chain]["nodes"] = tuple({"url": node} if isinstance(node, str) else node for node in nodes)
    made = Registry.model_validate(merged)
    for asset in made.assets.values():
        if asset.chain is not None and asset.chain not in made.chains:
            raise ValueError(f"the asset {asset.id!r} is on a chain that no chains file describes")
        if asset.id.startswith("eip155:") and asset.id != asset.id.lower():
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
