"""Reading a range of blocks so that what comes back is of one fork, or nothing comes back."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from chains.base import Block, Scan, Transfer
from chains.errors import MalformedError, RefusedError
from chains.evm import parse
from chains.evm.arrived import measured
from chains.evm.rpc import EvmEndpoint
from chains.fields import Json, listing, mapping, prefixed_hash
from chains.fit import Fit
from chains.http import CALLS_MAX, Call
from core.errors import TransientError

ADDRESSES_MAX = 200
"""Addresses in one eth_getLogs filter."""

BULK_FROM = 2_000
"""From so many addresses on, every transfer of the registered tokens is fetched and looked through here: ten filters
and more cost the node more than the transfers cost the line."""

BLOCKS_MAX = 10
"""Full blocks in one HTTP request: a busy one is a megabyte, and geth ends a batch's answer at 25."""

Filter = dict[str, object]


class Scanner:
    """One scan of one endpoint for some addresses (lower case)."""

    def __init__(self, endpoint: EvmEndpoint, assets: parse.Assets, addresses: Sequence[str]) -> None:
        self._endpoint = endpoint
        self._assets = assets
        self._addresses = addresses
        self._watched = frozenset(addresses)
        self._blocks: dict[int, Block] = {}

    def scan(self, first: int, last: int) -> Scan:
        """Raises TransientError if the node lacks one of the blocks, or if the chain changed while it was read."""
        candidates = []
        step = BLOCKS_MAX if self._watched else CALLS_MAX
        for start in range(first, last + 1, step):
            candidates += self._read_blocks(start, min(start + step - 1, last))
        for parent, child in pairwise(self._blocks[number] for number in range(first, last + 1)):
            if child.parent_hash != parent.hash:
                raise self._changed()
        found = self._native(candidates)
        if self._watched:
            found += self._tokens(first, last)
        if len({(transfer.chain_tx, transfer.index) for transfer in found}) < len(found):
            raise MalformedError("a log that is told twice")
        dated = []
        for transfer in found:
            block = self._blocks.get(transfer.block_number)
            if block is None or block.hash != transfer.block_hash:
                raise self._changed()
            dated.append(replace(transfer, block_time=block.time))
        parents = {block.hash: block.parent_hash for block in self._blocks.values()}
        dated = measured(self._endpoint, self._assets, dated, parents)
        dated.sort(key=lambda transfer: (transfer.block_number, transfer.chain_tx, transfer.index))
        return Scan(blocks=tuple(self._blocks[number] for number in range(first, last + 1)), transfers=tuple(dated))

    def _read_blocks(self, first: int, last: int) -> list[Json]:
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
            txs = map(mapping, listing(raw.get("transactions")))
            candidates += [tx for tx in txs if str(tx.get("to")).lower() in self._watched]
        return candidates

    def _native(self, candidates: Sequence[Json]) -> list[Transfer]:
        """The candidates that did not revert. A block names its transactions, not what became of them."""
        ids = [prefixed_hash(tx.get("hash")) for tx in candidates]
        receipts = self._endpoint.ask([("eth_getTransactionReceipt", [id_]) for id_ in ids])
        found = []
        for id_, tx, receipt in zip(ids, candidates, receipts, strict=True):
            chain_tx = parse.chain_tx(id_, tx, receipt, self._assets)
            if chain_tx.block_hash is None and not parse.without_status(receipt):
                raise self._changed()
            # The token transfers in the receipt are found by their logs, below, with all others.
            found += [transfer for transfer in chain_tx.transfers if transfer.contract is None]
        return found

    def _tokens(self, first: int, last: int) -> list[Transfer]:
        """Token transfers by their logs."""
        known = sorted(self._assets.tokens)
        if len(self._addresses) >= BULK_FROM:
            # Tokens that are not in the registry stay unseen here: they are no money.
            return self._fitting(first, last, [_filter(contracts=known)], self._endpoint.bulk_span) if known else []
        found = []
        # All filters of one range go into one request, which ends with a block.
        step = ADDRESSES_MAX * max(1, self._endpoint.calls_max - 1)
        for start in range(0, len(self._addresses), step):
            part = self._addresses[start : start + step]
            filters = [
                _filter(recipients=part[place : place + ADDRESSES_MAX]) for place in range(0, len(part), ADDRESSES_MAX)
            ]
            found += self._fitting(first, last, filters, self._endpoint.span)
        return found

    def _fitting(self, first: int, last: int, filters: Sequence[Filter], span: Fit) -> list[Transfer]:
        """In parts that the node takes, by what it took before."""

        def read(first: int, last: int) -> list[Transfer]:
            try:
                found = self._vouched(first, last, filters)
            except RefusedError:
                if first == last:
                    return self._of_block(first, filters)
                middle = (first + last) // 2
                found = [*read(first, middle), *read(middle + 1, last)]
                span.refused(last - first + 1)
            else:
                span.taken(last - first + 1)
            return found

        found: list[Transfer] = []
        while first <= last:
            end = min(last, first + span.now - 1)
            found += read(first, end)
            first = end + 1
        return found

    def _vouched(self, first: int, last: int, filters: Sequence[Filter]) -> list[Transfer]:
        """An empty answer about logs looks the same from a node that has none and from one that lags or was
        reorganised. So the request ends with the range's last block: in the same answer as the logs, its hash vouches
        for every block before it.
        """
        span = {"fromBlock": hex(first), "toBlock": hex(last)}
        calls: list[Call] = [("eth_getLogs", [span | each]) for each in filters]
        *answers, tip = self._endpoint.ask_together([*calls, ("eth_getBlockByNumber", [hex(last), False])])
        if tip is None or parse.block(tip).hash != self._blocks[last].hash:
            raise self._changed()
        return self._transfers(answers, filters)

    def _of_block(self, number: int, filters: Sequence[Filter]) -> list[Transfer]:
        """One block alone, by its hash (EIP-234): a node that lacks it says so. For nodes that take no batches, and for
        blocks that are too much: somebody may have filled one with events of a worthless token, which costs a few
        dollars. Known tokens can't be forged, so theirs are never that many.
        """
        block = {"blockHash": self._blocks[number].hash}
        known = sorted(self._assets.tokens)

        def read(filters: Sequence[Filter]) -> list[Transfer]:
            return self._transfers(self._endpoint.ask([("eth_getLogs", [block | each]) for each in filters]), filters)

        try:
            return read(filters)
        except RefusedError:
            if not known or all("address" in each for each in filters):
                raise
        return read([each | {"address": known} for each in filters])

    def _transfers(self, answers: Sequence[object], filters: Sequence[Filter]) -> list[Transfer]:
        found = []
        for answer, each in zip(answers, filters, strict=True):
            theirs = [
                transfer
                for log in listing(answer)
                if (_names_recipients(each) or self._may_be_ours(log))
                and (transfer := parse.token_transfer(log, self._assets)) is not None
            ]
            watched = [transfer for transfer in theirs if transfer.recipient.lower() in self._watched]
            if _names_recipients(each) and len(watched) < len(theirs):
                raise MalformedError("a log that was not asked for")
            if "address" in each and any(transfer.asset is None for transfer in watched):
                raise MalformedError("a log that was not asked for")
            found += watched
        return found

    def _may_be_ours(self, log: object) -> bool:
        """Of every transfer there is only those to us are read: spelling an address takes a keccak in Python."""
        topics = log.get("topics") if isinstance(log, dict) else None
        if not isinstance(topics, list) or len(topics) != 3 or not isinstance(topics[2], str):  # noqa: PLR2004
            return True
        return "0x" + topics[2][-40:].lower() in self._watched

    def _changed(self) -> TransientError:
        return TransientError(f"the chain changed under the scan ({self._endpoint.label})")


def _filter(*, recipients: Sequence[str] | None = None, contracts: Sequence[str] | None = None) -> Filter:
    made: Filter = {"topics": [parse.TRANSFER_TOPIC]}
    if recipients is not None:
        words = ["0x" + address.removeprefix("0x").rjust(64, "0") for address in recipients]
        made["topics"] = [parse.TRANSFER_TOPIC, None, words]
    return made if contracts is None else made | {"address": list(contracts)}


def _names_recipients(each: Filter) -> bool:
    topics = each["topics"]
    return isinstance(topics, list) and len(topics) > 1
