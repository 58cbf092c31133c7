"""Reading a range of blocks so that what comes back is of one fork, or nothing comes back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from chains.base import Block, Scan, Transfer
from chains.errors import MalformedError, RefusedError
from chains.evm import parse
from chains.evm.rpc import EvmEndpoint
from chains.http import CALLS_MAX, Call
from core.errors import TransientError

ADDRESSES_MAX = 200
"""Addresses in one eth_getLogs filter."""

BLOCKS_MAX = 10
"""Full blocks in one HTTP request: a busy one is a megabyte, and geth ends a batch's answer at 25."""

T = TypeVar("T")


def halving(first: int, last: int, read: Callable[[int, int], list[T]]) -> list[T]:
    """What `read(first, last)` returns; where the node refuses, both halves of the range, down to single items.

    Vendors agree neither on their limits nor on the error that tells of one, so any refusal may mean "too much". One
    that means something else comes again for the single item, after log2 of the range requests.
    """
    try:
        return read(first, last)
    except RefusedError:
        if first == last:
            raise
    middle = (first + last) // 2
    return [*halving(first, middle, read), *halving(middle + 1, last, read)]


class Scanner:
    """One scan of one endpoint for some addresses (EIP-55)."""

    def __init__(self, endpoint: EvmEndpoint, assets: parse.Assets, addresses: Sequence[str]) -> None:
        self._endpoint = endpoint
        self._assets = assets
        self._addresses = [address.lower() for address in addresses]
        self._watched = frozenset(self._addresses)
        self._blocks: dict[int, Block] = {}

    def scan(self, first: int, last: int) -> Scan:
        """Raises TransientError if the node lacks one of the blocks, or if the chain changed while it was read."""
        candidates = []
        step = BLOCKS_MAX if self._watched else CALLS_MAX
        for start in range(first, last + 1, step):
            candidates += halving(start, min(start + step - 1, last), self._read_blocks)
        for parent, child in pairwise(self._blocks[number] for number in range(first, last + 1)):
            if child.parent_hash != parent.hash:
                raise self._changed()
        found = self._native(candidates)
        step = ADDRESSES_MAX * (CALLS_MAX - 1)
        for start in range(0, len(self._addresses), step):
            found += self._tokens(first, last, self._addresses[start : start + step])
        dated = []
        for transfer in found:
            block = self._blocks.get(transfer.block_number)
            if block is None or block.hash != transfer.block_hash:
                raise self._changed()
            dated.append(replace(transfer, block_time=block.time))
        dated.sort(key=lambda transfer: (transfer.block_number, transfer.chain_tx, transfer.index))
        return Scan(blocks=tuple(self._blocks[number] for number in range(first, last + 1)), transfers=tuple(dated))

    def _read_blocks(self, first: int, last: int) -> list[parse.Json]:
        """Keeps the blocks; returns the transactions in them that go to a watched address."""
        full = bool(self._watched)
        numbers = range(first, last + 1)
        answers = self._endpoint.ask([("eth_getBlockByNumber", [hex(number), full]) for number in numbers])
        candidates = []
        for number, raw in zip(numbers, answers, strict=True):
            if raw is None:
                raise TransientError(f"{self._endpoint.label} does not have block {number}")
            block = parse.block(raw)
            if block.number != number:
                raise MalformedError(f"asked for block {number}, told of {block.number}")
            self._blocks[number] = block
            if not full:
                continue
            txs = map(parse.mapping, parse.listing(raw.get("transactions")))
            candidates += [tx for tx in txs if str(tx.get("to")).lower() in self._watched]
        return candidates

    def _native(self, candidates: Sequence[parse.Json]) -> list[Transfer]:
        """The candidates that did not revert. A block names its transactions, not what became of them."""
        ids = [parse.hash_of(tx.get("hash")) for tx in candidates]
        receipts = self._endpoint.ask([("eth_getTransactionReceipt", [id_]) for id_ in ids])
        found = []
        for id_, tx, receipt in zip(ids, candidates, receipts, strict=True):
            chain_tx = parse.chain_tx(id_, tx, receipt, self._assets)
            if chain_tx.block_hash is None and not parse.without_status(receipt):
                raise self._changed()
            # The token transfers in the receipt are found by their logs, below, with all others.
            found += [transfer for transfer in chain_tx.transfers if transfer.contract is None]
        return found

    def _tokens(self, first: int, last: int, addresses: Sequence[str]) -> list[Transfer]:
        """Token transfers by their logs.

        An empty answer about logs looks the same from a node that has none and from one that lags or was reorganised.
        So each request ends with the range's last block: in the same answer as the logs, its hash vouches for every
        block before it.
        """

        def read(first: int, last: int) -> list[Transfer]:
            try:
                return ask(first, last, None)
            except RefusedError:
                if first < last or not self._assets.tokens:
                    raise
            # One block alone is too much: somebody filled it with events of a worthless token, which costs a few
            # dollars. Known tokens can't be forged, so theirs are never that many.
            return ask(first, last, sorted(self._assets.tokens))

        def ask(first: int, last: int, contracts: Sequence[str] | None) -> list[Transfer]:
            calls: list[Call] = [
                ("eth_getLogs", [_filter(first, last, addresses[start : start + ADDRESSES_MAX], contracts)])
                for start in range(0, len(addresses), ADDRESSES_MAX)
            ]
            *answers, tip = self._endpoint.ask([*calls, ("eth_getBlockByNumber", [hex(last), False])])
            if tip is None or parse.block(tip).hash != self._blocks[last].hash:
                raise self._changed()
            found = [
                transfer
                for answer in answers
                for log in parse.listing(answer)
                if (transfer := parse.token_transfer(log, self._assets)) is not None
            ]
            if any(transfer.recipient.lower() not in self._watched for transfer in found):
                raise MalformedError("a log that was not asked for")
            return found

        return halving(first, last, read)

    def _changed(self) -> TransientError:
        return TransientError(f"the chain changed under the scan ({self._endpoint.label})")


def _filter(first: int, last: int, addresses: Sequence[str], contracts: Sequence[str] | None) -> dict[str, object]:
    recipients = ["0x" + address.removeprefix("0x").rjust(64, "0") for address in addresses]
    made: dict[str, object] = {
        "fromBlock": hex(first),
        "toBlock": hex(last),
        "topics": [parse.TRANSFER_TOPIC, None, recipients],
    }
    return made if contracts is None else made | {"address": list(contracts)}
