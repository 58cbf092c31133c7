"""What may be signed: a TOML file, read when the signer starts and never again. docs/signer.md has an example.

Whatever is not listed is refused: other wallets, other assets and so other contracts. A key that the file should not
have, or that is spelled wrongly, stops the start: it may be a limit that somebody believes in.

Here is what one request alone shows; what depends on requests before it is in `signer.journal`.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from chains.formats import parse_address
from chains.sending import Order
from core.errors import InvalidRequestError
from signer import registry
from signer.errors import BootError, RefusedError
from signer.keys import private_text

_WRITABLE = 0o022
"""Anybody may read it. Whoever may write it decides what is signed."""
_UNITS = re.compile(r"0|[1-9][0-9]{0,77}")


def _units(value: object) -> int:
    """Strings: TOML's integers have 64 bits at many readers, and a wei limit doesn't fit."""
    if not isinstance(value, str) or not _UNITS.fullmatch(value):
        raise ValueError('an amount is a string of digits, such as "1000000"')
    return int(value)


Units = Annotated[int, BeforeValidator(_units)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AssetLimits(_Strict):
    """In the asset's smallest units."""

    each_max: Units
    """Of one order."""
    day_max: Units
    """Of all orders that are signed first on one day (UTC)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.each_max > self.day_max:
            raise ValueError("each_max is more than day_max")
        return self


class WalletPolicy(_Strict):
    chain: str
    """CAIP-2."""
    key: str
    """The name of a key in the keystore."""
    fee_max: Units
    """Units of the chain's coin that one version may cost at most."""
    fee_day_max: Units
    """What all versions that are signed on one day (UTC) may cost at most. See `signer.journal`."""
    destinations: tuple[str, ...] | None = None
    """With it, nothing is paid to any other address."""
    assets: Annotated[dict[str, AssetLimits], Field(min_length=1)]
    """By CAIP-19 id, spelled as in orders."""

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, given: Any) -> Any:
        """Strict as it is, pydantic takes no list for a tuple."""
        if isinstance(given, dict) and isinstance(given.get("destinations"), list):
            return {**given, "destinations": tuple(given["destinations"])}
        return given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if registry.namespace_of(self.chain) not in registry.SIGNERS:
            raise ValueError(f"nothing can be signed for the chain {self.chain!r}")
        elsewhere = [asset for asset in self.assets if not asset.startswith(f"{self.chain}/")]
        if elsewhere:
            raise ValueError(f"{elsewhere[0]!r} is no asset of {self.chain}")
        if self.fee_max > self.fee_day_max:
            raise ValueError("fee_max is more than fee_day_max")
        for each in self.destinations or ():
            _check_spelled(self.chain, each)
        return self

    def check(self, order: Order) -> AssetLimits:
        """Raises RefusedError. Not asked of what cancels: that moves nothing."""
        limits = self.assets.get(order.asset)
        if limits is None:
            raise RefusedError("asset", "the policy lists no such asset for this wallet")
        if self.destinations is not None and order.to not in self.destinations:
            raise RefusedError("destination", "the policy lists the wallet's destinations, and this is none")
        if order.units > limits.each_max:
            raise RefusedError("each_max", f"one order may be {limits.each_max} units at most")
        return limits

    def check_fee(self, fee_max: int) -> None:
        if fee_max > self.fee_max:
            raise RefusedError("fee_max", f"a version may cost {self.fee_max} units at most")


def _check_spelled(chain: str, address: str) -> None:
    """An address in another spelling would match no order: a destination that is silently none."""
    try:
        canonical = parse_address(chain, address)
    except InvalidRequestError as error:
        raise ValueError(f"destinations: {error}") from None
    if canonical != address:
        raise ValueError(f"destinations: {address} is spelled {canonical}")


class Policy(_Strict):
    wallets: Annotated[dict[str, WalletPolicy], Field(min_length=1)]
    """By a name for people."""

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        """Whoever sends asks for the wallet of a chain."""
        chains = [wallet.chain for wallet in self.wallets.values()]
        twice = next((chain for chain in chains if chains.count(chain) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} has several wallets")
        return self

    @property
    def by_chain(self) -> Mapping[str, WalletPolicy]:
        return {wallet.chain: wallet for wallet in self.wallets.values()}


def read(path: Path) -> Policy:
    """Raises BootError, which says where and what, also if others may write the file."""
    try:
        return Policy.model_validate(tomllib.loads(private_text(path, others=_WRITABLE)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise BootError(f"the policy {path}: {where}: {first['msg']}") from None
    except ValueError as error:
        raise BootError(f"the policy {path} is no TOML: {error}") from None
