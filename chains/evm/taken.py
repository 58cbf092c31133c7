"""The proof that somebody else's transaction has used a nonce, so that no version of ours with it will ever be mined.

That a node finds no receipt of ours proves nothing: nodes drop their index of old transactions (geth after 2,350,000
blocks: days, on BSC), prune receipts, answer null while they index or by a bug, and one machine behind a load balancer
may lag behind another that counted the nonces. So absence is never believed here. What is asked for is the
transaction that did use the nonce, in a final block, and it must not be ours. A node that lags, has pruned or has
forgotten can't show one.

1. `block_of` looks for the block in which the count of the wallet's nonces went past this one. This needs old state,
   which full nodes keep for some 128 blocks. One endpoint that has it is enough: what it says is only where to look.
   Where a transaction of ours has the nonce (one that cancels the others), its receipt has told the place (`Places`).
2. `foreign` reads that block, on each witness by itself: it must be final there, and hold a transaction of the wallet
   with this nonce whose hash is none of ours. Blocks are kept by every full node.

A nonce can be used up without such a transaction: by a delegation (EIP-7702), or by a contract that the wallet has
delegated to. That is never shown here, and stays for people.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence

from chains.errors import MalformedError, RefusedError
from chains.evm import parse
from chains.evm.rpc import EvmEndpoint, block_call, count_call, head
from chains.fields import listing, mapping, prefixed_hash
from core.errors import TransientError

PARTS = 16
"""Of a range that is searched, in one request."""
PLACES_MAX = 1_000


class Places:
    """Where transactions of ours have used up nonces, as nodes told lately. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, id_: str, raw: object) -> None:
        """A transaction, as eth_getTransactionByHash tells it."""
        tx = mapping(raw) if raw is not None else {}
        if prefixed_hash(tx.get("hash", id_)) != id_:
            raise MalformedError(f"asked for {id_}, told of {tx.get('hash')}")
        if tx.get("blockNumber") is None:
            return
        used = parse.address(tx.get("from")), parse.quantity(tx.get("nonce"))
        with self._lock:
            self._known[used] = parse.number_of(tx.get("blockNumber"))
            self._known.move_to_end(used)
            if len(self._known) > PLACES_MAX:
                self._known.popitem(last=False)

    def of(self, sender: str, nonce: int) -> int | None:
        """The block that was told. Perhaps it is another by now."""
        return self._known.get((sender, nonce))


def final_number(endpoint: EvmEndpoint, reorg_depth: int) -> int:
    """Of the newest block that is never replaced, as this endpoint sees it. Less than 0: it has none yet."""
    seen = head(endpoint)
    return seen.latest.number - reorg_depth if seen.finalized is None else seen.finalized


def block_of(endpoint: EvmEndpoint, sender: str, nonce: int, *, reorg_depth: int) -> int | None:
    """Number of the final block in which the sender's nonce was used up. None: it was not, up to the final ones.

    Raises RefusedError where the node has forgotten the state of the blocks in question.
    """
    low, high = -1, final_number(endpoint, reorg_depth)
    if high < 0 or parse.quantity(endpoint.ask([count_call(sender, hex(high))])[0]) <= nonce:
        return None
    # Up to `low` it was not used, up to `high` it was.
    while high - low > 1:
        before, refusal = (low, high), None
        points = _points(low, high)
        answers = endpoint.try_all([count_call(sender, hex(point)) for point in points])
        for point, answer in zip(points, answers, strict=True):
            if isinstance(answer, RefusedError):
                refusal = answer
            elif parse.quantity(answer) > nonce:
                high = min(high, point)
            else:
                low = max(low, point)
        if low >= high:
            raise MalformedError(f"the nonces of {sender} go down")
        if (low, high) == before:
            raise refusal or MalformedError("nothing was told")
    return high


def foreign(
    endpoint: EvmEndpoint, sender: str, nonce: int, *, block: int, ours: Collection[str], reorg_depth: int
) -> bool | None:
    """Whether the block is final and holds a transaction with the nonce that is none of ours.

    False: one of ours has it, or is in some block. None: this endpoint can't tell, or not yet.
    """
    if final_number(endpoint, reorg_depth) < block:
        return None
    calls = [("eth_getTransactionReceipt", [id_]) for id_ in ours]
    raw, *receipts = endpoint.ask([block_call(hex(block), full=True), *calls])
    if any(receipt is not None for receipt in receipts):
        return False
    if raw is None:
        raise TransientError(f"{endpoint.label} does not have block {block}")
    users = _users(raw, block, sender, nonce)
    return users[0] not in ours if users else None


def _users(raw: object, number: int, sender: str, nonce: int) -> list[str]:
    """The hash of the transaction in the block that used the nonce, if there is one."""
    block = parse.block(raw)
    if block.number != number:
        raise MalformedError(f"asked for block {number}, told of {block.number}")
    found = []
    for tx in map(mapping, listing(mapping(raw).get("transactions"))):
        # Spelling an address takes a keccak in Python.
        if str(tx.get("from")).lower() != sender.lower() or parse.quantity(tx.get("nonce")) != nonce:
            continue
        if prefixed_hash(tx.get("blockHash")) != block.hash:
            raise MalformedError("a block holds a transaction of another")
        found.append(prefixed_hash(tx.get("hash")))
    if len(found) > 1:
        raise MalformedError(f"{sender} used the nonce {nonce} twice")
    return found


def _points(low: int, high: int) -> Sequence[int]:
    """Blocks between the two, to be asked about. While nothing is known below: nearby, and further and further."""
    if low < 0:
        return [high - 2**power for power in range(high.bit_length()) if high - 2**power >= 0]
    step = max(1, (high - low) // PARTS)
    return range(low + step, high, step)
