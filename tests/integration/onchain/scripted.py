"""A chain with nonces, its pool and a signer that holds to its rules, in memory: as EVM chains are, and quick.

What is signed is JSON in hex, so that the pool takes what it is shown and nothing else. Blocks can be replaced as long
as they are not final. It stands behind `ChainSender`, `ChainReader` and `Signer`.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from chains.base import Block, ChainTx, Head, NodeHealth, Reach, Scan, Transfer, TxStatus
from chains.sending import Broadcast, Order, OrderRefusedError, Reception, Terms, Version
from chains.signing import SigningRefusedError, order_body, terms_body
from core import clock
from core.errors import PermanentError, TransientError
from tests.support.evm import CHAIN, COIN

TOKEN = f"{CHAIN}/erc20:0x{'ab' * 20}"
REORG_DEPTH, CONFIRMATIONS = 5, 2
GAS = 21_000


@dataclass
class Made:
    """A block."""

    block: Block
    txs: list[str]


@dataclass
class ScriptedChain:
    """`wallet` is ours. `base` is what a unit of gas costs now; `units` what the wallet has, by asset."""

    wallet: str
    id: str = CHAIN
    coin: str = COIN
    base: int = 10
    units: dict[str, int] = field(default_factory=lambda: {COIN: 10**24, TOKEN: 10**18})
    blocks_made: list[Made] = field(default_factory=list)
    pool: dict[int, str] = field(default_factory=dict)
    """Nonce -> what the node would mine."""
    raws: dict[str, dict[str, Any]] = field(default_factory=dict)
    """All that anybody showed to the node, and what others sent with our key."""
    away: bool = False
    forgets: bool = False
    """It says that it takes what it is shown, and doesn't keep it."""
    reverts: set[str] = field(default_factory=set)
    """Recipients at whom payments fail in their block."""
    closed: set[str] = field(default_factory=set)
    """Recipients that can't be paid, as is known before."""
    before: Callable[[str], None] | None = None
    """Called with each method's name."""
    forks: int = 0
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mine()

    # --- what happens ------------------------------------------------------------------------------------------------

    def mine(self, blocks: int = 1) -> None:
        """The first takes what can be taken."""
        for _ in range(blocks):
            taken = []
            for nonce in count(self.nonce):
                tx = self.pool.get(nonce)
                if tx is None or self.raws[tx]["price"] < self.base:
                    break
                taken.append(self.pool.pop(nonce))
            self._append(taken)

    def _append(self, txs: Sequence[str]) -> None:
        parent = self.blocks_made[-1].block.hash if self.blocks_made else "0x0"
        number = len(self.blocks_made)
        name = hashlib.sha256(f"{self.wallet}{number}{parent}{self.forks}{txs}".encode()).hexdigest()
        self.blocks_made.append(Made(Block(number, f"0x{name}", parent, clock.now()), list(txs)))

    def reorg(self, depth: int, *, keeps: bool = True) -> None:
        """Replace the newest blocks by empty ones. What they held waits again, or is forgotten by the node."""
        depth = min(depth, REORG_DEPTH, len(self.blocks_made) - 1)
        self.forks += 1
        gone = [tx for made in self.blocks_made[-depth:] for tx in made.txs]
        del self.blocks_made[-depth:]
        for tx in gone:
            if keeps and self.raws[tx]["nonce"] not in self.pool:
                self.pool[self.raws[tx]["nonce"]] = tx
        for _ in range(depth + 1):
            self._append([])

    def foreign(self) -> None:
        """Somebody uses our next nonce in a block."""
        nonce = self.nonce
        body: dict[str, Any] = {
            "nonce": nonce,
            "price": 10**9,
            "foreign": len(self.raws),
            "to": None,
            "units": 0,
            "cancels": False,
        }
        tx = _id(_raw(body))
        self.raws[tx] = body
        self.pool.pop(nonce, None)
        self._append([tx])

    def lose(self) -> None:
        """The node forgets what waits."""
        self.pool.clear()

    @property
    def nonce(self) -> int:
        return sum(len(made.txs) for made in self.blocks_made)

    def paid(self, references: Collection[str] | None = None) -> list[str]:
        """Transactions in blocks that pay one of these references, or any."""
        return [
            tx
            for made in self.blocks_made
            for tx in made.txs
            if (references is None or self.raws[tx].get("reference") in references) and self._pays(tx)
        ]

    def cost(self, references: Collection[str]) -> int:
        """Of all that is in blocks of these references."""
        txs = [tx for made in self.blocks_made for tx in made.txs if self.raws[tx].get("reference") in references]
        return sum(self.raws[tx]["price"] * GAS for tx in txs)

    def _pays(self, tx: str) -> bool:
        body = self.raws[tx]
        return body["to"] is not None and not body["cancels"] and body["to"] not in self.reverts

    def _asked(self, method: str) -> None:
        self.calls.append(method)
        if self.before is not None:
            self.before(method)
        if self.away:
            raise TransientError("the node is away")

    # --- ChainSender -------------------------------------------------------------------------------------------------

    def terms(self, order: Order, *, reserved: Collection[str]) -> Terms:
        self._asked("terms")
        if order.to in self.closed:
            raise OrderRefusedError("destination", "it can't be paid")
        if order.units > self.units[order.asset]:
            raise OrderRefusedError("funds", "too little")
        nonce = next(each for each in count(self.nonce) if f"{self.wallet}/{each}" not in reserved)
        return self._terms(nonce, self.base)

    def _terms(self, nonce: int, price: int, *, cancels: bool = False) -> Terms:
        return Terms(
            inputs=(f"{self.wallet}/{nonce}",), fee_max=price * GAS, cancels=cancels, fields={"price": str(price)}
        )

    def raised(self, order: Order, versions: Sequence[Version]) -> Terms | None:
        self._asked("raised")
        return self._raised(versions, cancels=any(each.terms.cancels for each in versions), always=False)

    def cancelling(self, order: Order, versions: Sequence[Version]) -> Terms | None:
        self._asked("cancelling")
        return self._raised(versions, cancels=True, always=True)

    def _raised(self, versions: Sequence[Version], *, cancels: bool, always: bool) -> Terms | None:
        nonce = int(versions[0].terms.inputs[0].rpartition("/")[2])
        most = max(int(each.terms.fields["price"]) for each in versions)
        if nonce < self.nonce or (most >= self.base and not always):
            return None
        return self._terms(nonce, max(self.base, most + most // 8 + 1), cancels=cancels)

    def broadcast(self, version: Version) -> Broadcast:
        self._asked("broadcast")
        body = json.loads(bytes.fromhex(version.raw))
        assert _id(version.raw) == version.chain_tx
        nonce, tx = body["nonce"], version.chain_tx
        if nonce < self.nonce:
            return Broadcast(reception=Reception.LATE)
        there = self.pool.get(nonce)
        if there is not None and there != tx and self.raws[there]["price"] >= body["price"]:
            return Broadcast(reception=Reception.LOW)
        if body["price"] * 2 < self.base:
            return Broadcast(reception=Reception.LOW)
        self.raws[tx] = body
        if not self.forgets:
            self.pool[nonce] = tx
        return Broadcast(reception=Reception.TAKEN)

    def costs(self, chain_txs: Collection[str]) -> Mapping[str, int]:
        self._asked("costs")
        mined = {tx for made in self.blocks_made for tx in made.txs}
        return {tx: self.raws[tx]["price"] * GAS for tx in chain_txs if tx in mined}

    def dead(self, versions: Sequence[Version]) -> bool:
        self._asked("dead")
        nonce = int(versions[0].terms.inputs[0].rpartition("/")[2])
        final = [tx for made in self.blocks_made[:-REORG_DEPTH] for tx in made.txs]
        return nonce < len(final) and final[nonce] not in {each.chain_tx for each in versions}

    def balance(self, wallet: str, asset: str) -> int:
        self._asked("balance")
        return self.units[asset]

    # --- ChainReader -------------------------------------------------------------------------------------------------

    def head(self) -> Head:
        self._asked("head")
        return Head(latest=self.blocks_made[-1].block, finalized=None)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        self._asked("blocks")
        return {number: self.blocks_made[number].block for number in numbers if number < len(self.blocks_made)}

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        self._asked("chain_txs")
        return {tx: self._chain_tx(tx) for tx in ids}

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        raise TransientError("there is one node")

    def reach(self, behind: int) -> Reach:
        """Of two, of which the second has these blocks more, or is that far from where its end is final."""
        newest = self.blocks_made[-1].block.number
        return Reach(newest=newest if behind == 0 else 0, finalized=None)

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        raise PermanentError("not asked here")

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        raise PermanentError("not asked here")

    def nodes(self) -> Sequence[NodeHealth]:
        return ()

    def _chain_tx(self, tx: str) -> ChainTx:
        for made in self.blocks_made:
            if tx not in made.txs:
                continue
            moved = (self._transfer(tx, made.block),) if self._pays(tx) else ()
            fails = self.raws[tx]["to"] in self.reverts
            return ChainTx(
                id=tx,
                status=TxStatus.REVERTED if fails else TxStatus.SUCCEEDED,
                block_number=made.block.number,
                block_hash=made.block.hash,
                transfers=moved,
            )
        return ChainTx(id=tx, status=TxStatus.MEMPOOL if tx in self.pool.values() else TxStatus.MISSING)

    def _transfer(self, tx: str, block: Block) -> Transfer:
        body = self.raws[tx]
        return Transfer(
            chain=self.id, chain_tx=tx, index=0, asset=body["asset"], contract=None, sender=self.wallet,
            recipient=body["to"], units=body["units"], block_number=block.number, block_hash=block.hash,
        )  # fmt: skip


@dataclass
class ScriptedSigner:
    """It keeps to the rules of chains.signing: the same bytes for the same, an input for one order only."""

    refuses: str | None = None
    away: bool = False
    loses: int = 0
    """So many of its next answers are lost, though it has signed."""
    signed: dict[tuple[str, int], tuple[Any, Version]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    before: Callable[[str], None] | None = None

    def sign(self, order: Order, number: int, terms: Terms) -> Version:
        self.asked += 1
        if self.before is not None:
            self.before("sign")
        if self.away:
            raise TransientError("the signer is away")
        wanted = (order_body(order), terms_body(terms))
        known = self.signed.get((order.reference, number))
        if known is None:
            if self.refuses is not None:
                raise SigningRefusedError(self.refuses, "the policy says no")
            known = self.signed[order.reference, number] = (wanted, self._made(order, number, terms))
        if known[0] != wanted:
            raise PermanentError("it contradicts what was signed before")
        if self.loses:
            self.loses -= 1
            raise TransientError("no answer")
        return known[1]

    def _made(self, order: Order, number: int, terms: Terms) -> Version:
        for each in terms.inputs:
            if self.owners.setdefault(each, order.reference) != order.reference:
                raise PermanentError(f"{each} is another order's")
        for (reference, _), (_, version) in self.signed.items():
            if reference == order.reference and not set(version.terms.inputs) & set(terms.inputs):
                raise PermanentError("two versions of an order would not exclude each other")
        raw = _raw(
            {
                "reference": order.reference,
                "number": number,
                "nonce": int(terms.inputs[0].rpartition("/")[2]),
                "price": int(terms.fields["price"]),
                "asset": order.asset,
                "to": order.to,
                "units": order.units,
                "cancels": terms.cancels,
            }
        )
        return Version(number=number, terms=terms, chain_tx=_id(raw), raw=raw)

    def wallets(self) -> Mapping[str, str]:
        return {}


def _raw(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True).encode().hex()


def _id(raw: str) -> str:
    return "0x" + hashlib.sha256(bytes.fromhex(raw)).hexdigest()
