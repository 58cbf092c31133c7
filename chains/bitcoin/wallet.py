"""What one node tells of our wallet, and of what fees are asked for now. Nothing here changes anything.

Which outputs are ours is known to Bitcoin Core's wallet, one without keys that watches the address
(docs/chains-bitcoin.md). It says where to look. What is built on is proven: what an output is worth is read from the
transaction that makes it, that this is in a block is shown, and that it is unspent is asked of the node.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from btclib.tx.tx import Tx

from chains.bitcoin import formats, parse
from chains.bitcoin.parse import satoshi
from chains.bitcoin.payment import Coin
from chains.bitcoin.reading import NOT_FOUND, TXS_MAX, Reading, outpoint
from chains.errors import MalformedError, RefusedError
from chains.fields import listing, mapping, plain_hash, text, whole
from core.errors import TransientError

RATE_MIN = 1_000
"""Satoshi for 1,000 vbytes. Nodes may pass on what pays less, but not all do."""
CONFIRMATIONS_MAX = 9_999_999

Outpoint = tuple[str, int]
Output = tuple[bytes, int]
"""Script and units."""


@dataclass(frozen=True)
class Rates:
    """Satoshi for 1,000 vbytes."""

    least: int
    """For the node to take it at all."""
    estimate: int | None
    """For it to be in a block soon. None: the node knows too little to tell."""
    step: int
    """What must be paid on top of what is replaced (BIP-125), for the size of what replaces it."""


class WalletReading(Reading):
    """As `Reading`, of a node with a wallet that watches our address."""

    def tip(self) -> int:
        return self._tip()[1]

    def rates(self, blocks: int) -> Rates:
        """For a transaction to be in one of the next blocks."""
        told, pool = self._endpoint.try_all([("estimatesmartfee", [blocks, "economical"]), ("getmempoolinfo", [])])
        if isinstance(pool, RefusedError):
            raise pool
        # A node that estimates nothing (-blocksonly) refuses; one that knows too little says so in `errors`.
        rate = None if isinstance(told, RefusedError) else mapping(told).get("feerate")
        pool = mapping(pool)
        least = max(satoshi(pool.get("mempoolminfee")), satoshi(pool.get("minrelaytxfee")), RATE_MIN)
        step = max(satoshi(pool.get("incrementalrelayfee", 0)), RATE_MIN)
        return Rates(least=least, estimate=None if rate is None else max(satoshi(rate), least), step=step)

    def replaced(self, ids: Sequence[str]) -> int:
        """The most that any of these pays that waits, with all that waits and spends of it: it would go with it."""
        answers = self._endpoint.try_all([("getmempoolentry", [id_]) for id_ in ids])
        most = 0
        for told in answers:
            if not isinstance(told, RefusedError):
                most = max(most, satoshi(mapping(mapping(told).get("fees")).get("descendant")))
            elif told.code != NOT_FOUND:
                raise told
        return most

    # The wallet

    def unspent(self, wallet: str) -> list[Coin]:
        """Outputs in blocks that nothing spends, waiting or not. All of it is the wallet's word: see `check`."""
        info, state, outs = self._endpoint.ask([
            ("getaddressinfo", [wallet]),
            ("getwalletinfo", []),
            ("listunspent", [1, CONFIRMATIONS_MAX, [wallet]]),
        ])  # fmt: skip
        info = mapping(info)
        if not info.get("ismine") and not info.get("iswatchonly"):
            raise TransientError(f"the wallet of {self._endpoint.label} doesn't watch our address")
        if info.get("ischange"):  # it leaves out of its lists what an address pays to itself, unless that has a label
            raise TransientError(f"the wallet of {self._endpoint.label} takes our address for one of its change")
        if mapping(state).get("scanning"):
            raise TransientError(f"the wallet of {self._endpoint.label} is looking through old blocks")
        home = formats.script_of(self._assets.chain, wallet).hex()
        coins = []
        for out in map(mapping, listing(outs)):
            if text(out.get("scriptPubKey")) != home:
                raise MalformedError("an output to another address than was asked for")
            coins.append(Coin(plain_hash(out.get("txid")), whole(out.get("vout")), satoshi(out.get("amount"))))
        return coins

    def check(self, wallet: str, coins: Sequence[Coin]) -> dict[str, Tx]:
        """The transactions that make these outputs. Raises TransientError unless all are what the wallet says."""
        parents = self._found(list(dict.fromkeys(coin.chain_tx for coin in coins)))
        home = formats.script_of(self._assets.chain, wallet)
        for coin in coins:
            parent = parents.get(coin.chain_tx)
            if parent is None or parent.block is None or coin.index >= len(parent.tx.vout):
                raise TransientError(f"{self._endpoint.label} shows no block with the output {coin.name}")
            made = parent.tx.vout[coin.index]
            if made.value != coin.units or made.script_pub_key.script != home:
                raise MalformedError(f"the output {coin.name} is another than the wallet says")
        if len(self.present([(coin.chain_tx, coin.index) for coin in coins], waiting=True)) < len(coins):
            raise TransientError(f"an output that the wallet of {self._endpoint.label} calls unspent is spent")
        return {id_: parent.tx for id_, parent in parents.items()}

    def present(self, outpoints: Sequence[Outpoint], *, waiting: bool = False) -> dict[Outpoint, int]:
        """What those are worth that no block spends (nor, with `waiting`, a transaction that waits)."""
        outs = self._endpoint.ask([("gettxout", [id_, index, waiting]) for id_, index in outpoints])
        return {
            place: satoshi(mapping(out).get("value"))
            for place, out in zip(outpoints, outs, strict=True)
            if out is not None
        }

    def balance(self, wallet: str) -> int:
        """What the newest block leaves to the wallet, whatever waits."""
        with self._unchanged():
            best, _ = self._tip()
            worth = {(coin.chain_tx, coin.index): coin.units for coin in self.unspent(wallet)}
            waiting = self._remembered([id_ for id_, depth in self._listed(best).items() if depth == 0])
            spends = {outpoint(each) for parsed in waiting.values() for each in parse.inputs(parsed)}
            others = [place for place in spends if place not in worth]
            makers = self._remembered(list(dict.fromkeys(id_ for id_, _ in others)))
            home = formats.script_of(self._assets.chain, wallet)
            ours = [
                (id_, index)
                for id_, index in others
                if (made := makers.get(id_))
                and [out.script_pub_key.script for out in made.vout[index : index + 1]] == [home]
            ]
            worth |= self.present(ours)
        return sum(worth.values())

    def _listed(self, since: str) -> dict[str, int]:
        """The wallet's transactions in blocks after this one, and those that wait or are void: how deep each lies."""
        told = mapping(self._endpoint.ask([("listsinceblock", [since, 1, True, False])])[0])
        found = {}
        for each in map(mapping, listing(told.get("transactions"))):
            if type(depth := each.get("confirmations")) is not int:
                raise MalformedError("a transaction of the wallet without confirmations")
            found[plain_hash(each.get("txid"))] = depth
        return found

    # Transactions

    def costs(self, ids: Sequence[str]) -> dict[str, int]:
        """The fees of those that are in a block."""
        with self._unchanged():
            mined = {id_: each.tx for id_, each in self._found(ids).items() if each.block and not each.tx.is_coinbase}
            spends = {id_: [outpoint(each) for each in parse.inputs(tx)] for id_, tx in mined.items()}
            parents = self._raws(list(dict.fromkeys(parent for each in spends.values() for parent, _ in each)))
        return {
            id_: sum(parents[parent].vout[index].value for parent, index in spends[id_])
            - sum(out.value for out in tx.vout)
            for id_, tx in mined.items()
        }

    def _raws(self, ids: Sequence[str]) -> dict[str, Tx]:
        """Transactions that are in a block, and so must be there."""
        found: dict[str, Tx] = {}
        for start in range(0, len(ids), TXS_MAX):
            some = ids[start : start + TXS_MAX]
            answers = self._endpoint.ask([("getrawtransaction", [id_, 0]) for id_ in some])
            found |= {id_: parse.tx(id_, raw) for id_, raw in zip(some, answers, strict=True)}
        return found

    def _remembered(self, ids: Sequence[str]) -> dict[str, Tx]:
        """Those that the wallet knows, also if they are in no block and wait no more."""
        found: dict[str, Tx] = {}
        for start in range(0, len(ids), TXS_MAX):
            some = ids[start : start + TXS_MAX]
            answers = self._endpoint.try_all([("gettransaction", [id_]) for id_ in some])
            for id_, told in zip(some, answers, strict=True):
                if not isinstance(told, RefusedError):
                    found[id_] = parse.tx(id_, mapping(told).get("hex"))
                elif told.code != NOT_FOUND:
                    raise told
        return found

    # What can never be

    def dead(self, txs: Mapping[str, Tx], *, since: int, depth: int) -> bool | None:
        """Whether these transactions can never be in a block: True if so, False if one is, None if nothing is shown.

        It is shown by the transaction that stands in the way: one in a block on which `depth` others stand, proven to
        be in it, that spends an output which one of these needs. That an output is not unspent any more is no proof:
        one of these may have spent it, and a node whose index is not whole would not show that.

        Nor is one that pays just what one of these pays first: it is one of them, or may be one of which our books have
        lost the row.

        `since`: the number of the newest block when none of them was there yet; what stands in the way came later.
        """
        with self._unchanged() as tip:
            if any(found.block for found in self._found(list(txs)).values()):
                return False
            needed = list(dict.fromkeys(outpoint(each) for tx in txs.values() for each in parse.inputs(tx)))
            present = self.present(needed)
            lacking = [place for place in needed if place not in present]
            if not lacking:
                return None
            alike = {_outputs(tx)[0] for tx in txs.values()}
            taken = self._taken(max(0, since - depth), tip - depth, alike=alike)
            makers = self._remembered(list(dict.fromkeys(id_ for id_, _ in lacking)))
        # An output that can never be is as good as a spent one: its transaction was in a block, and then another was.
        void = {id_ for id_, tx in makers.items() if any(taken.get(each, id_) != id_ for each in parse.inputs(tx))}
        gone = all(any(each in taken or outpoint(each)[0] in void for each in parse.inputs(tx)) for tx in txs.values())
        return True if gone else None

    def _taken(self, first: int, last: int, *, alike: AbstractSet[Output]) -> dict[str, str]:
        """What transactions of the wallet use up that are in blocks after `first` up to `last`, and which of them."""
        if last <= first:
            return {}
        (since,) = self._hashes([first]).values()
        listed = [id_ for id_, depth in self._listed(since).items() if depth > 0]
        taken: dict[str, str] = {}
        for id_, found in self._found(listed).items():
            if found.block is None or found.block.number > last or alike & set(_outputs(found.tx)):
                continue
            taken |= dict.fromkeys(parse.inputs(found.tx), id_)
        return taken


def _outputs(tx: Tx) -> list[Output]:
    return [(bytes(out.script_pub_key.script), out.value) for out in tx.vout]
