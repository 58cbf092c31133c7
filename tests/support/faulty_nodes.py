"""Nodes that have not come as far as the chain, or hide a transaction: how each kind would say it. For faulty.py."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any

from local.http_server import Answer, Asked
from tests.support.aptos_node import AptosNode
from tests.support.faulty import Fault, Forward, RpcError, Said
from tests.support.tron.node import TronChain, serving

Height = Callable[[], int]


@dataclass(frozen=True)
class EvmAsOf:
    """A node that has come no further than this block."""

    height: Height

    def before(self, method: str, params: list[Any]) -> list[Any] | Said | RpcError:
        newest = self.height()
        if method == "eth_blockNumber":
            return Said(hex(newest))
        params = [hex(newest) if param in ("latest", "pending", "safe") else param for param in params]
        if method == "eth_getBlockByNumber" and _number(params[0]) > newest:
            return Said(None)
        if method == "eth_getTransactionCount" and _number(params[1]) > newest:
            return RpcError(-32000, "header not found")
        if method == "eth_getLogs" and _number(params[0].get("toBlock", "0x0")) > newest:
            return RpcError(-32000, "block range extends beyond current head block")
        return params

    def after(self, method: str, _params: list[Any], result: Any) -> Any:
        newest = self.height()
        if method == "eth_getLogs":
            return [log for log in result if _number(log["blockNumber"]) <= newest]
        if isinstance(result, dict):  # a block, a transaction, or a receipt
            number = result.get("number") or result.get("blockNumber")
            return None if number is not None and _number(number) > newest else result
        return result


def _number(text: Any) -> int:
    return int(text, 16) if isinstance(text, str) and text.startswith("0x") else 0


@dataclass(frozen=True)
class Without:
    """A node that says nothing of these transactions: an EVM node wherever they are, Bitcoin Core by id."""

    labelled: Mapping[str, str]
    """Label -> transaction. It may grow."""

    def before(self, method: str, params: list[Any]) -> list[Any] | Said | RpcError:
        if params and params[0] in self.labelled.values():
            missing = "No such mempool or blockchain transaction. Use gettransaction for wallet transactions."
            return RpcError(-5, missing) if method == "getrawtransaction" else Said(None)
        return params

    def after(self, method: str, _params: list[Any], result: Any) -> Any:
        hidden = set(self.labelled.values())
        if method == "eth_getLogs":
            return [log for log in result if log["transactionHash"] not in hidden]
        if method == "eth_getBlockByNumber" and result is not None:
            left = [tx for tx in result["transactions"] if (tx if isinstance(tx, str) else tx["hash"]) not in hidden]
            return result | {"transactions": left}
        return result


@dataclass(frozen=True)
class BitcoinAsOf:
    """A node that has come no further than this block. `hash_of` asks the real one."""

    height: Height
    hash_of: Callable[[int], str]
    height_of: Callable[[str], int | None]
    """Of a transaction, by the real node."""
    height_of_block: Callable[[str], int]

    def before(self, method: str, params: list[Any]) -> list[Any] | Said | RpcError:
        newest = self.height()
        if method == "getblockcount":
            return Said(newest)
        if method == "getbestblockhash":
            return Said(self.hash_of(newest))
        if method == "getblockhash" and params[0] > newest:
            return RpcError(-8, "Block height out of range")
        if method in ("getblockheader", "getblock") and self.height_of_block(params[0]) > newest:
            return RpcError(-5, "Block not found")
        if method == "getrawtransaction" and (self.height_of(params[0]) or 0) > newest:
            return RpcError(
                -5, "No such mempool or blockchain transaction. Use gettransaction for wallet transactions."
            )
        return params

    def after(self, method: str, params: list[Any], result: Any) -> Any:
        newest = self.height()
        if method == "getblockchaininfo":
            return result | {"blocks": newest, "headers": newest, "bestblockhash": self.hash_of(newest)}
        if method == "getblockheader" and isinstance(result, dict):
            return result | {"confirmations": newest - result["height"] + 1}
        return result


@dataclass(frozen=True)
class SolanaAsOf:
    """A node whose newest final slot with a block is this one."""

    height: Height

    def before(self, method: str, params: list[Any]) -> list[Any] | Said | RpcError:
        newest = self.height()
        config = params[-1] if params and isinstance(params[-1], dict) else {}
        if config.get("minContextSlot", 0) > newest:
            return RpcError(-32016, "Minimum context slot has not been reached")
        if method == "getSlot":
            return Said(newest)
        if method == "getBlock" and params[0] > newest:
            return RpcError(-32004, f"Block not available for slot {params[0]}")
        return params

    def after(self, method: str, _params: list[Any], result: Any) -> Any:
        newest = self.height()
        if method in ("getBlocks", "getBlocksWithLimit"):
            return [slot for slot in result if slot <= newest]
        if method == "getSignaturesForAddress":
            return [row for row in result if row["slot"] <= newest]
        if method == "getTransaction" and result is not None and result["slot"] > newest:
            return None
        if method == "getSignatureStatuses":
            value = [one if one is None or one["slot"] <= newest else None for one in result["value"]]
            return result | {"value": value}
        return result


# --- doubles of which there can be a second one that stood still -----------------------------------------------------


@contextmanager
def stale_tron(chain: TronChain) -> Iterator[str]:
    """Another node, that has come as far as this one is now."""
    with chain.lock:
        kept = {name: copy.deepcopy(getattr(chain, name)) for name in ("blocks", "txs", "infos", "pool")}
        still = replace(chain, **kept, lock=RLock())
    with serving(still) as node:
        yield node.url


@contextmanager
def stale_aptos(node: AptosNode) -> Iterator[str]:
    """Another node, that has come as far as this one is now."""
    with node.lock:
        still = copy.deepcopy(node.ledger)
    with AptosNode(still) as other:
        yield other.url


def either(*faults: Fault) -> Fault:
    """One after the other."""
    turns = list(faults)

    def fault(asked: Asked, forward: Forward) -> Answer:
        turns.append(turns.pop(0))
        return turns[-1](asked, forward)

    return fault
