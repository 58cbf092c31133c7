"""Payments on Bitcoin, out of one P2WPKH address. docs/chains-bitcoin.md says what of the node is needed for it.

Terms are those of `chains.bitcoin.payment`: inputs are outputs of the wallet, and all versions of an order use up those
of its first one. Only what is in a block is used: an unconfirmed output vanishes when its transaction is outbid.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from btclib.tx.tx import Tx

from chains.bitcoin import formats, parse
from chains.bitcoin.payment import (
    INPUT_VSIZE,
    PARENTS_MAX,
    Aim,
    Coin,
    Plan,
    chosen,
    dust,
    fee_of,
    stripped,
    terms_of,
    written,
)
from chains.bitcoin.pool import assets_of, nodes_of
from chains.bitcoin.wallet import Rates, WalletReading
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError, RefusedError
from chains.fields import text
from chains.http import HttpEndpoint
from chains.sending import Broadcast, Order, OrderRefusedError, Reception, Terms, Version, together
from config.assets import Asset, Chain
from core.errors import InvalidRequestError, PermanentError

SOON, SOONER = 6, 2
"""Blocks within which a first version should be in one, and one that has waited."""
OUTPUTS_WANTED = 40
"""Free outputs that the wallet should have: between two blocks it can pay about so often. See `_parts`."""

_VERDICTS = {-22, -25, -26, -27}
"""Codes by which Bitcoin Core refuses a transaction, and not to be asked (src/rpc/protocol.h)."""
_WORDS = {
    Reception.TAKEN: (
        "already in utxo set",
        "already in block chain",
        "txn-already-in-mempool",
        "txn-already-known",
        "txn-same-nonwitness-data-in-mempool",
    ),
    Reception.LATE: ("missingorspent", "missing inputs", "txn-mempool-conflict"),
    Reception.LOW: (
        "insufficient fee",
        "replacement-failed",
        "min relay fee not met",
        "mempool min fee not met",
        "mempool full",
    ),
}
"""Bitcoin Core's (src/validation.cpp, src/policy/rbf.cpp, src/node/transaction.cpp), of several versions."""


class BitcoinSender:
    """A `ChainSender`. Each method asks one endpoint from start to end, but for `broadcast` and `dead`."""

    def __init__(
        self,
        chain: Chain,
        assets: Sequence[Asset],
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        read_timeout: float = READ_TIMEOUT_S,
    ) -> None:
        self._assets = assets_of(chain, assets)
        if self._assets.native is None:
            raise PermanentError(f"no chains file describes the coin of {chain.id}, {chain.id}/slip44:0")
        self.id = chain.id
        self.coin = self._assets.native
        self._depth = _depth_of(chain, assets)
        self._nodes = nodes_of(chain, connect_timeout=connect_timeout, read_timeout=read_timeout)

    # Terms

    def terms(self, order: Order, *, reserved: Collection[str]) -> Terms:
        aim = self._aim(order)

        def read(endpoint: HttpEndpoint) -> Terms:
            reading = self._reading(endpoint)
            rates, block = reading.rates(SOON), reading.tip()
            rate = rates.estimate or rates.least
            free = self._free(reading, order.wallet, reserved, rate)
            asks, parts = (lambda vsize: fee_of(rate, vsize)), _parts(free)
            found = _proven(reading, order.wallet, free, lambda coins: chosen(aim, coins, asks, parts=parts))
            if found is None:
                raise OrderRefusedError(
                    "funds",
                    f"{order.units} and a fee can't be paid with {sum(coin.units for coin in free)} in {len(free)} "
                    "outputs that are in a block and free",
                )
            return terms_of(*found, cancels=False, block=block)

        return self._nodes.first(read)

    def raised(
        self, order: Order, versions: Sequence[Version], *, reserved: Collection[str] | None = None
    ) -> Terms | None:
        """With the same inputs, paid out of the change; with more if that doesn't suffice and `reserved` is told.

        It pays what replaces them all (BIP-125, rules 3 and 4, and Bitcoin Core's own that the rate be better), and at
        least what is asked for now; where that isn't known, half as much again as before. None if one of them is in a
        block, an input isn't there any more, or nothing is left to pay with. Where one of them cancels, so does this.
        """
        return self._outbidding(order, versions, reserved, cancels=any(each.terms.cancels for each in versions))

    def cancelling(self, order: Order, versions: Sequence[Version]) -> Terms | None:
        """All comes back to the wallet. None as for `raised`."""
        return self._outbidding(order, versions, None, cancels=True)

    def _outbidding(
        self, order: Order, versions: Sequence[Version], reserved: Collection[str] | None, *, cancels: bool
    ) -> Terms | None:
        aim = self._aim(order)
        if cancels:
            aim = Aim(None, 0, aim.home)
        said = [written(each.terms) for each in versions]
        used = list(dict.fromkeys(coin for each in said for coin in each.plan.coins))
        parents = {id_: parent for each in said for id_, parent in each.parents.items()}
        parts = max((len(each.plan.change) for each in said), default=1) or 1
        txs = _parsed(versions)

        def read(endpoint: HttpEndpoint) -> Terms | None:
            reading = self._reading(endpoint)
            # One that no block has spent yet is still there, whatever waits. So none of the versions is in a block.
            if len(reading.present([(coin.chain_tx, coin.index) for coin in used])) < len(used):
                return None
            rate, asks = _outbids(versions, txs, reading.rates(SOONER), reading.replaced(list(txs)))
            more: list[Coin] = []
            if reserved is not None and not cancels:
                taken = {*reserved, *(coin.name for coin in used)}
                more = self._free(reading, order.wallet, taken, rate)
            block = reading.tip()
            found = _proven(
                reading,
                order.wallet,
                more,
                lambda coins: chosen(aim, coins, asks, having=used, parts=1 if cancels else parts),
                parents,
            )
            return None if found is None else terms_of(*found, cancels=cancels, block=block)

        return self._nodes.first(read)

    def _aim(self, order: Order) -> Aim:
        if order.chain != self.id or order.asset != self.coin or order.tag is not None or order.units < 1:
            raise OrderRefusedError("order", f"{self.id} pays {self.coin} without a tag, and more than nothing")
        try:
            home = formats.script_of(self.id, order.wallet)
        except InvalidRequestError as error:
            raise OrderRefusedError("order", f"the wallet: {error}") from None
        if len(home) != 22 or home[0] != 0:  # noqa: PLR2004  # P2WPKH
            raise OrderRefusedError("order", "the wallet is no P2WPKH address")
        try:
            script = formats.script_of(self.id, order.to)
        except InvalidRequestError as error:
            raise OrderRefusedError("destination", str(error)) from None
        if script == home:
            raise OrderRefusedError("destination", "the wallet can't be paid out of itself")
        if order.units < dust(script):
            raise OrderRefusedError(
                "destination", f"{order.units} is dust: nodes pass on {dust(script)} and more to this kind of address"
            )
        return Aim(script, order.units, home)

    @staticmethod
    def _free(reading: WalletReading, wallet: str, reserved: Collection[str], rate: int) -> list[Coin]:
        """Outputs that are no other order's and worth more than it costs to spend them."""
        least = fee_of(rate, INPUT_VSIZE)
        return [coin for coin in reading.unspent(wallet) if coin.name not in reserved and coin.units > least]

    # On the chain

    def broadcast(self, version: Version) -> Broadcast:
        _parsed([version])

        def give(endpoint: HttpEndpoint) -> Broadcast:
            try:
                # What it may cost was the signer's to judge; the node's own limit (maxfeerate) is lifted by the 0.
                told = text(endpoint.ask([("sendrawtransaction", [version.raw, 0])])[0])
            except RefusedError as refusal:
                if refusal.code not in _VERDICTS:
                    raise
                return Broadcast(reception=_reception(refusal.words), why=endpoint.struck(refusal.words)[:200])
            if told != version.chain_tx:
                raise MalformedError(f"given {version.chain_tx}, took {told}")
            return Broadcast(reception=Reception.TAKEN)

        return together(self._nodes.each(give))

    def costs(self, chain_txs: Collection[str]) -> Mapping[str, int]:
        """Their fees: what the inputs have more than the outputs, from the bytes."""
        wanted = list(dict.fromkeys(chain_txs))
        return self._nodes.first(lambda endpoint: self._reading(endpoint).costs(wanted)) if wanted else {}

    def dead(self, versions: Sequence[Version]) -> bool:
        """By `WalletReading.dead`: another transaction, `reorg_depth` deep at least, has spent what each of them needs.

        So a node that lags, or whose index has gaps, shows nothing; one that prunes has no index and is no help.
        """
        txs = _parsed(versions)
        if not txs:
            return False
        since = min(written(each.terms).block for each in versions)
        return self._nodes.proven(lambda endpoint: self._reading(endpoint).dead(txs, since=since, depth=self._depth))

    def balance(self, wallet: str, asset: str) -> int:
        """In blocks. What waiting payments use is still in it, and their change is not yet."""
        if asset != self.coin:
            raise PermanentError(f"{self.id} has no {asset}, only {self.coin}")
        wallet = formats.parse_address(self.id, wallet)
        return self._nodes.first(lambda endpoint: self._reading(endpoint).balance(wallet))

    def _reading(self, endpoint: HttpEndpoint) -> WalletReading:
        return WalletReading(endpoint, self._assets)


def _proven(
    reading: WalletReading,
    wallet: str,
    free: Sequence[Coin],
    choose: Callable[[Sequence[Coin]], Plan | None],
    known: Mapping[str, Tx] | None = None,
) -> tuple[Plan, Mapping[str, Tx]] | None:
    """What is chosen with these, all of them proven, and the transactions that made them and what there was (`known`).

    They go to the signer. Outputs of transactions that are too large for that, such as an exchange's that pays
    thousands at once, are done without.
    """
    left = list(free)
    while (plan := choose(left)) is not None:
        made = {**(known or {}), **reading.check(wallet, [coin for coin in plan.coins if coin in left])}
        sizes = {coin.chain_tx: len(stripped(made[coin.chain_tx])) for coin in plan.coins}
        others = [coin.chain_tx for coin in plan.coins if known is None or coin.chain_tx not in known]
        if sum(sizes.values()) <= PARENTS_MAX or not others:
            return plan, made
        largest = max(others, key=lambda id_: (sizes[id_], id_))
        left = [coin for coin in left if coin.chain_tx != largest]
    return None


def _parts(free: Sequence[Coin]) -> int:
    """Into how many outputs the change is parted.

    What comes back can't be used before it is in a block. So that one payment doesn't wait for the other's change, the
    wallet's outputs are doubled with each payment until there are enough.
    """
    return 2 if len(free) < OUTPUTS_WANTED else 1


def _outbids(
    versions: Sequence[Version], txs: Mapping[str, Tx], rates: Rates, replaced: int
) -> tuple[int, Callable[[int], int]]:
    """The least rate that replaces any of these and is enough for now; and from the size in vbytes to the least fee.

    `replaced`: as `WalletReading.replaced`. Who was paid may have spent it already, and then that is outbid as well.
    """
    highest = max(replaced, *(each.terms.fee_max for each in versions))
    best = max(-(-each.terms.fee_max * 1_000 // txs[each.chain_tx].vsize) for each in versions)
    now = rates.estimate or max(rates.least, best * 3 // 2)
    rate = max(now, best + rates.step)
    return rate, lambda vsize: max(fee_of(rate, vsize), highest + fee_of(rates.step, vsize))


def _parsed(versions: Sequence[Version]) -> dict[str, Tx]:
    """By id. Raises PermanentError if the bytes of one are not what its id stands for: our own have been changed."""
    try:
        return {each.chain_tx: parse.tx(each.chain_tx, each.raw) for each in versions}
    except MalformedError as error:
        raise PermanentError(f"a stored version is broken: {error}") from None


def _reception(words: str) -> Reception:
    told = words.lower()
    return next((kind for kind, those in _WORDS.items() if any(each in told for each in those)), Reception.REFUSED)


def _depth_of(chain: Chain, assets: Sequence[Asset]) -> int:
    """Blocks on a block that is taken for final: `reorg_depth`, and no fewer than any deposit waits for."""
    depths = [chain.reorg_depth]
    for rule in (chain.confirmations, *(asset.confirmations for asset in assets)):
        match rule:
            case int():
                depths.append(rule)
            case tuple():
                depths += [tier.blocks for tier in rule]
    return max(depths)
