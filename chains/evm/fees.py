"""What a unit of gas costs: EIP-1559, and one price where a chain has no base fee. Wei.

An offer's most is twice the base fee and the tip: the base fee may rise by an eighth a block, so it is good for six
full ones. A chain whose base fee is 0 (BNB Smart Chain, BEP-226) is a case of it: the most is the tip then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from chains.errors import RefusedError
from chains.evm import parse
from chains.evm.rpc import EvmEndpoint, block_call
from chains.fields import mapping

RAISE_BY = 8
"""A version outbids another by an eighth of each price at least (12.5 %). Nodes ask for a tenth of both: geth and BSC
(`PriceBump` of core/txpool/legacypool), Erigon (`PriceBump` of txpoolcfg), and the rest likewise.
"""
TIP_MIN = 1
"""geth's pool takes nothing for less (`PriceLimit`)."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one version."""

    most: int
    tip: int
    legacy: bool = False
    """One price is both; the version is of the type before EIP-1559."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Raises KeyError or ValueError for fields of no version."""
        if "gas_price" in fields:
            return cls(int(fields["gas_price"]), int(fields["gas_price"]), legacy=True)
        return cls(int(fields["max_fee_per_gas"]), int(fields["max_priority_fee_per_gas"]))

    def fields(self) -> dict[str, str]:
        """As the signer reads them (signer/evm.py)."""
        if self.legacy:
            return {"gas_price": str(self.most)}
        return {"max_fee_per_gas": str(self.most), "max_priority_fee_per_gas": str(self.tip)}


@dataclass(frozen=True, slots=True)
class Market:
    """What one node says that the next block asks for."""

    base: int | None
    """None where the chain has no base fee."""
    tip: int
    """On top of it; the whole price where there is none."""

    @property
    def offer(self) -> Prices:
        return Prices(2 * (self.base or 0) + self.tip, self.tip, legacy=self.base is None)

    def satisfied(self, prices: Prices) -> bool:
        return prices.tip >= self.tip and prices.most >= (self.base or 0) + self.tip

    def outbidding(self, others: Sequence[Prices]) -> Prices:
        """What replaces each of the others in every node's pool, and is no less than what is offered now."""
        offer = self.offer
        return Prices(
            max(offer.most, *(_raised(prices.most) for prices in others)),
            max(offer.tip, *(_raised(prices.tip) for prices in others)),
            legacy=offer.legacy,
        )


def market(endpoint: EvmEndpoint) -> Market:
    """Raises RefusedError where the node tells no price."""
    block, tip, price = endpoint.try_all([block_call("latest"), ("eth_maxPriorityFeePerGas", []), ("eth_gasPrice", [])])
    if isinstance(block, RefusedError):
        raise block
    raw = mapping(block).get("baseFeePerGas")
    base = None if raw is None else parse.quantity(raw)
    if base is not None and not isinstance(tip, RefusedError):
        return Market(base, max(TIP_MIN, parse.quantity(tip)))
    if isinstance(price, RefusedError):
        raise price
    # geth's eth_gasPrice is the base fee and the tip.
    return Market(base, max(TIP_MIN, parse.quantity(price) - (base or 0)))


def _raised(price: int) -> int:
    return price + -(-price // RAISE_BY)
