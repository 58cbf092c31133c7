"""A chain in memory, for what a property test asks of one thousands of times: mine, reorganise, drop."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from chains.base import NATIVE_INDEX, Block, ChainTx, Head, NodeHealth, Reach, Scan, Transfer, TxStatus
from chains.errors import RefusedError


@dataclass(frozen=True)
class Payment:
    id: str
    sender: str
    nonce: int
    recipient: str
    units: int
    reverts: bool = False

    @property
    def input(self) -> str:
        return f"{self.sender}/{self.nonce}"


@dataclass
class MemoryChain:
    """A `ChainReader`. Every fork makes blocks of its own hashes.

    `final_only`: it shows final blocks alone, leaves out some numbers, and a scan tells no more blocks than it must.
    """

    id: str
    asset: str
    began: datetime
    final_only: bool = False
    refuses_above: int | None = None
    """Longer ranges than this are refused."""
    pruned_below: int = 0
    """Blocks below this number are not kept any more."""
    scans: list[tuple[int, int]] = field(default_factory=list)
    """The ranges that were asked for."""
    blocks_: list[tuple[Block, list[Payment]]] = field(default_factory=list)
    mempool: list[Payment] = field(default_factory=list)
    _count: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.mine(empty=True)

    # What happens on it

    def pay(self, recipient: str, units: int, *, reverts: bool = False) -> Payment:
        number = next(self._count)
        made = Payment(f"0x{number:064x}", f"0x{number:040x}", 0, recipient, units, reverts)
        self.mempool.append(made)
        return made

    def mine(self, *, empty: bool = False) -> None:
        count = next(self._count)
        number = self.height + 1 + (count % 3 if self.final_only and self.blocks_ else 0)
        parent = self.blocks_[-1][0].hash if self.blocks_ else "0x" + "0" * 64
        block = Block(number, f"0x{count:064x}", parent, self.began + timedelta(seconds=number))
        taken = [] if empty else self.mempool
        self.blocks_.append((block, list(taken)))
        if not empty:
            self.mempool = []

    def reorg(self, depth: int, *, keep: bool) -> None:
        """The newest blocks are others now; what was in them waits again, or is lost for ever.

        Where only final blocks are shown it is only what was in none that is lost.
        """
        if self.final_only:
            self.mempool = self.mempool if keep else []
            return
        depth = min(depth, len(self.blocks_) - 1)
        gone = self.blocks_[len(self.blocks_) - depth :]
        del self.blocks_[len(self.blocks_) - depth :]
        if keep:
            self.mempool = [payment for _, payments in gone for payment in payments] + self.mempool
        for _ in range(depth):
            self.mine(empty=True)

    def arrived(self) -> list[Payment]:
        """What is true in the end."""
        return [payment for _, payments in self.blocks_ for payment in payments if not payment.reverts]

    @property
    def height(self) -> int:
        return self.blocks_[-1][0].number if self.blocks_ else -1

    # How it is read

    def head(self) -> Head:
        return Head(latest=self.blocks_[-1][0], finalized=self.height if self.final_only else None)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        return {
            number: block for number in numbers for block, _ in self._between(max(number, self.pruned_below), number)
        }

    def _between(self, first: int, last: int) -> list[tuple[Block, list[Payment]]]:
        low = bisect_left(self.blocks_, first, key=lambda each: each[0].number)
        return self.blocks_[low : bisect_right(self.blocks_, last, key=lambda each: each[0].number)]

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        found = {id_: ChainTx(id=id_, status=TxStatus.MISSING) for id_ in ids}
        for payment in self.mempool:
            if payment.id in found:
                found[payment.id] = ChainTx(payment.id, TxStatus.MEMPOOL, payment.sender, (payment.input,))
        for block, payments in self.blocks_:
            for payment in payments:
                if payment.id in found:
                    found[payment.id] = ChainTx(
                        payment.id,
                        TxStatus.REVERTED if payment.reverts else TxStatus.SUCCEEDED,
                        payment.sender,
                        (payment.input,),
                        block_number=block.number,
                        block_hash=block.hash,
                        transfers=() if payment.reverts else (self._transfer(block, payment),),
                    )
        return found

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        head = self.head()
        reach = Reach(head.latest.number, head.finalized)
        return {id_: replace(tx, reach=reach) for id_, tx in self.chain_txs(ids).items()}

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        last = self.height if block is None else block
        used = {payment.input for _, payments in self._between(0, last) for payment in payments}
        return frozenset(inputs) & used

    def nodes(self) -> Sequence[NodeHealth]:
        return ()

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        self.scans.append((first, last))
        if self.refuses_above is not None and last - first >= self.refuses_above:
            raise RefusedError(f"no more than {self.refuses_above} blocks at once")
        part = self._between(first, last)
        watched = set(addresses)
        transfers = tuple(
            self._transfer(block, payment)
            for block, payments in part
            for payment in payments
            if payment.recipient in watched and not payment.reverts
        )
        if self.final_only:
            told = {transfer.block_number for transfer in transfers} | {part[-1][0].number if part else None}
            part = [each for each in part if each[0].number in told]
        return Scan(blocks=tuple(block for block, _ in part), transfers=transfers)

    def _transfer(self, block: Block, payment: Payment) -> Transfer:
        return Transfer(
            self.id, payment.id, NATIVE_INDEX, self.asset, None, payment.sender, payment.recipient, payment.units,
            block.number, block.hash, block.time,
        )  # fmt: skip
