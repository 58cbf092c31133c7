"""Reading a range of blocks: all its transactions, page by page, proven to be without a gap."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from chains.aptos import parse, transfers
from chains.aptos.node import PAGE_MAX, AptosEndpoint, PrunedError
from chains.aptos.parse import Span
from chains.aptos.transfers import Assets
from chains.base import Block, Scan, Transfer
from chains.errors import MalformedError, RefusedError, TooLongError
from chains.fields import Json
from core.errors import TransientError

log = structlog.stdlib.get_logger(__name__)

PASSED_OVER = "passed_over"
"""Stands for the type of a transaction that was not read."""


def scan(endpoint: AptosEndpoint, first: int, last: int, addresses: Sequence[str], assets: Assets) -> Scan:
    """Raises TransientError if the node lacks one of the blocks, or does not tell all of them.

    Versions count the chain's transactions, so a range of blocks is a range of versions: from the first of the first
    block to the last of the last. Each page has to go on where the one before ended, each block to have the height
    after the one before, and the last to be the one that the range ends with. Where no address is watched only that
    one is told.
    """
    begin, end = _span(endpoint, first), _span(endpoint, last)
    if not addresses:
        return Scan(blocks=(endpoint.linked(end),))
    watched = frozenset(addresses)
    blocks = [endpoint.linked(begin)]
    found: list[Transfer] = []
    version = opened = begin.first
    while version <= end.last:
        for raw in _page(endpoint, version, min(PAGE_MAX, end.last - version + 1)):
            if raw.get("type") == parse.METADATA:
                _open(blocks, raw, again=version == begin.first)
                opened = version
            found += transfers.transfers(raw, blocks[-1], assets, watched)
            version += 1
    newest = replace(blocks[-1], parent_hash=end.block.parent_hash)
    if newest != end.block or opened != end.first:
        raise MalformedError(f"block {last} is {end.block.hash} from {end.first} on, its transactions say otherwise")
    found.sort(key=lambda transfer: (transfer.block_number, transfer.chain_tx, transfer.index))
    return Scan(blocks=tuple(blocks), transfers=tuple(found))


def _span(endpoint: AptosEndpoint, height: int) -> Span:
    span = endpoint.span(height)
    if span is None:
        raise TransientError(f"{endpoint.label} does not have block {height}")
    return span


def _page(endpoint: AptosEndpoint, version: int, count: int) -> list[Json]:
    """Fewer where the node refuses so many: anybody can make a transaction long, and one must not stop the scan."""
    try:
        return endpoint.page(version, count)
    except PrunedError:
        raise
    except RefusedError as refusal:
        if count == 1 and not isinstance(refusal, TooLongError):
            raise
    if count == 1:
        # For some dollars of gas anybody can have one whose events are longer than any answer that is read.
        log.error("a transaction that is too long is passed over", version=version, node=endpoint.label)
        return [{"type": PASSED_OVER}]
    return _page(endpoint, version, count // 2)


def _open(blocks: list[Block], raw: Json, *, again: bool) -> None:
    """Add the block that this transaction opens. `again`: it is the range's first, which is known already."""
    begun, before = parse.block_begun(raw), blocks[-1]
    if again:
        if replace(begun, parent_hash=before.parent_hash) != before:
            raise MalformedError(f"block {before.number} is {before.hash}, but begins as {begun.hash}")
        return
    if begun.number != before.number + 1:
        raise MalformedError(f"block {begun.number} comes after block {before.number}")
    blocks.append(replace(begun, parent_hash=before.hash))
