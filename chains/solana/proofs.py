"""The proof that a transaction of Solana is in no block and never will be. docs/chains-solana.md says why it is one."""

from itertools import pairwise

from chains.errors import MalformedError
from chains.fields import listing, mapping, text, whole
from chains.http import Call, HttpEndpoint
from chains.solana import parse
from chains.solana.payments import LIFE
from chains.solana.scanning import FINAL, block_call

AT_ONCE = 10
"""Blocks in one answer: with their signatures, each may have some hundred kilobytes."""


def is_dead(endpoint: HttpEndpoint, chain_tx: str, *, blockhash: str, slot: int) -> bool | None:
    """By every block that could have taken it. False: the node knows it. None: such a block is still to come.

    `slot` is that of the block whose hash it names. Raises TransientError if the node has not all of them.
    """
    (answer,) = endpoint.ask([("getBlocksWithLimit", [slot, LIFE + 1, FINAL])])
    slots = [whole(each) for each in listing(answer)]
    # Asked after the blocks were final, and before they are read: it spares the reading where it is not dead.
    (answer,) = endpoint.ask([("getSignatureStatuses", [[chain_tx], {"searchTransactionHistory": True}])])
    if parse.statuses(answer, 1) != [None]:
        return False
    if slots[:1] != [slot] or any(later <= earlier for earlier, later in pairwise(slots)):
        raise MalformedError(f"blocks from slot {slot} on that don't begin there, or are out of order")
    if len(slots) <= LIFE:
        return None
    # Should the network ever give them longer: the node's own bank has to deny it as well.
    (answer,) = endpoint.ask([("isBlockhashValid", [blockhash, {**FINAL, "minContextSlot": slots[-1]}])])
    if mapping(answer).get("value") is not False:
        return None
    (first,) = endpoint.ask([block_call(slot)])
    before = parse.header(slot, first)
    if before.block.hash != blockhash:
        raise MalformedError(f"the block of slot {slot} has another hash than the transaction names")
    for start in range(1, LIFE + 1, AT_ONCE):
        some = slots[start : min(start + AT_ONCE, LIFE + 1)]
        for each, raw in zip(some, endpoint.ask([_with_signatures(each) for each in some]), strict=True):
            block = parse.header(each, raw)
            _check_next(before, block)
            if chain_tx in map(text, listing(mapping(raw).get("signatures"))):
                return False
            before = block
    return True


def _check_next(before: parse.Header, block: parse.Header) -> None:
    """That nothing is between the two: a node that lost blocks calls their slots skipped."""
    if (block.parent_slot, block.block.parent_hash) != (before.block.number, before.block.hash):
        raise MalformedError(f"the block of slot {block.block.number} does not follow that of {before.block.number}")


def _with_signatures(slot: int) -> Call:
    method, (number, config) = block_call(slot)
    return method, [number, {**config, "transactionDetails": "signatures"}]
