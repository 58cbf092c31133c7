"""A chain in memory, for what a property test asks of one thousands of times: mine, reorganise, drop."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chains.base import NATIVE_INDEX, Block, ChainTx, Head, NodeHealth, Scan, Transfer, TxStatus


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
    """A `ChainReader`. Every fork makes blocks of its own hashes."""

    id: str
    asset: str
    began: datetime
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
        number = len(self.blocks_)
        parent = self.blocks_[-1][0].hash if self.blocks_ else "0x" + "0" * 64
        block = Block(number, f"0x{next(self._count):064x}", parent, self.began + timedelta(seconds=number))
        taken = [] if empty else self.mempool
        self.blocks_.append((block, list(taken)))
        if not empty:
            self.mempool = []

    def reorg(self, depth: int, *, keep: bool) -> None:
        """The newest blocks are others now; what was in them waits again, or is lost for ever."""
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

    # How it is read

    def head(self) -> Head:
        return Head(latest=self.blocks_[-1][0], finalized=None)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        return {number: self.blocks_[number][0] for number in numbers if number < len(self.blocks_)}

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
        return self.chain_txs(ids)

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        last = len(self.blocks_) if block is None else block + 1
        used = {payment.input for _, payments in self.blocks_[:last] for payment in payments}
        return frozenset(inputs) & used

    def nodes(self) -> Sequence[NodeHealth]:
        return ()

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        part = self.blocks_[first : last + 1]
        return Scan(
            blocks=tuple(block for block, _ in part),
            transfers=tuple(
                self._transfer(block, payment)
                for block, payments in part
                for payment in payments
                if payment.recipient in addresses and not payment.reverts
            ),
        )

    def _transfer(self, block: Block, payment: Payment) -> Transfer:
        return Transfer(
            self.id, payment.id, NATIVE_INDEX, self.asset, None, payment.sender, payment.recipient, payment.units,
            block.number, block.hash, block.time,
        )  # fmt: skip
