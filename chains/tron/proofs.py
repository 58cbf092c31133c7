"""The proof that a transaction of Tron is in no block and never will be. docs/chains-tron.md says why it is one."""

from collections.abc import Iterator

from chains.base import Block
from chains.errors import MalformedError
from chains.fields import Json, listing, mapping
from chains.tron import parse
from chains.tron.payments import Plan
from chains.tron.planning import milliseconds
from chains.tron.rpc import TronEndpoint
from core.errors import TransientError

AT_ONCE = 20
"""Full blocks in one answer: a busy one is a megabyte."""
_EMPTY = "0" * 64


def is_dead(endpoint: TronEndpoint, chain_tx: str, plan: Plan) -> bool | None:
    """By every block that could have taken it. False: the node knows it. None: such a block may still come.

    Raises TransientError if the node has not all of them.
    """
    head = parse.block(endpoint.solid_head())
    # Asked after the head was solid, and before the blocks are read: it spares the reading where it is not dead.
    if endpoint.solid_info(chain_tx) is not None:
        return False
    # A block takes it if the time of the one before it is earlier than its end. So none above this head does.
    if milliseconds(head) < plan.expires_ms:
        return None
    before: Block | None = None
    for raw in _blocks(endpoint, plan.block, head.number):
        block = parse.block(raw)
        if before is None:
            if block.hash != plan.block_hash:
                raise MalformedError(f"block {block.number} has another id than the transaction names")
        elif (block.number, block.parent_hash) != (before.number + 1, before.hash):
            raise MalformedError(f"block {block.number} does not follow on block {before.number}")
        elif chain_tx in _ids(raw):
            return False
        before = block
        if milliseconds(block) >= plan.expires_ms:
            return True
    raise TransientError(f"{endpoint.label} has not all blocks up to its own solid head")


def _blocks(endpoint: TronEndpoint, first: int, last: int) -> Iterator[Json]:
    for start in range(first, last + 1, AT_ONCE):
        raw = endpoint.solid_blocks(start, min(start + AT_ONCE - 1, last))
        yield from map(mapping, listing(raw.get("block", [])))


def _ids(raw: Json) -> set[str]:
    """By the bytes of each transaction. A header that counts some, and none beside it, is half a block."""
    rows = listing(raw.get("transactions", []))
    root = mapping(mapping(raw.get("block_header")).get("raw_data")).get("txTrieRoot", _EMPTY)
    if not rows and root != _EMPTY:
        raise MalformedError("a block without the transactions that its header has")
    return {parse.transaction(row).id for row in rows}
