"""Paying on EVM chains: coin and ERC-20, one nonce an order. docs/chains-evm.md says what is asked how."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import structlog

from chains import formats, sending
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError, RefusedError
from chains.evm import erc20, fees, parse, reception, rpc, taken
from chains.evm.fees import Prices
from chains.evm.rpc import EvmEndpoint, count_call
from chains.fields import mapping, prefixed_hash
from chains.http import Call
from chains.sending import Broadcast, Order, OrderRefusedError, Reception, Terms, Version
from config.assets import Asset, Chain
from core.errors import InvalidRequestError, PermanentError

log = structlog.stdlib.get_logger(__name__)

PLAIN_GAS = 21_000
"""Of a transfer of coin to what is no contract (Yellow Paper, appendix G), and never less or more."""
MARGIN = 4
"""A quarter more gas than was estimated: the state may be another one by then. What isn't used isn't paid."""
CANCEL_GAS = 100_000
"""Where a payment to ourselves reverts (a wallet with delegated code, EIP-7702): it uses the nonce up all the same."""

_U256_MAX = 2**256 - 1
_NOBODY = "0x" + "0" * 40
_REVERTED = 3
"""The code of what a contract said no to (EIP-1474's extensions; geth, Erigon, reth, anvil)."""
_FAILED = re.compile(
    r"revert|invalid opcode|out of gas|gas required exceeds|stack (limit|underflow|overflow)|invalid jump"
    r"|vm execution error|evm error|write protection",
    re.IGNORECASE,
)
"""The words of nodes for what would fail in a block, too, whatever the code. Any other refusal is the node's own."""


@dataclass(frozen=True, slots=True)
class _Payment:
    """What a version calls."""

    wallet: str
    to: str
    value: int
    data: str
    token: str | None
    """The contract that it calls; None for coin."""
    units: int
    cancels: bool = False

    @property
    def call(self) -> dict[str, str]:
        return {"from": self.wallet, "to": self.to, "value": hex(self.value), "data": self.data}


class EvmSender:
    """A `ChainSender`. What versions of an order share is the wallet's nonce: `0xWallet/7`, spelled by EIP-55."""

    def __init__(
        self,
        chain: Chain,
        assets: Sequence[Asset],
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        read_timeout: float = READ_TIMEOUT_S,
    ) -> None:
        self.id = chain.id
        self._chain = chain
        known = parse.assets_of(chain.id, assets)
        if known.native is None:
            raise PermanentError(f"no asset is {chain.id}'s coin (slip44:...), in which its fees are paid")
        self.coin = known.native
        self._contracts: dict[str, str | None] = {asset: contract for contract, asset in known.tokens.items()}
        self._contracts[self.coin] = None
        self._places = taken.Places()
        self._nodes = rpc.nodes_of(chain, connect_timeout=connect_timeout, read_timeout=read_timeout)

    def terms(self, order: Order, *, reserved: Collection[str]) -> Terms:
        """The nonce is the lowest that neither a block, nor the node's pool, nor another order of ours has."""
        payment = self._payment(order)

        def read(endpoint: EvmEndpoint) -> Terms:
            nonce = _free_nonce(endpoint, payment.wallet, reserved)
            market = fees.market(endpoint)
            return _carried(endpoint, payment, nonce, market.offer, pending=True)

        return self._nodes.first(read)

    def raised(self, order: Order, versions: Sequence[Version]) -> Terms | None:
        """None: the nonce is used up, or what is out already pays what the chain asks for now.

        If one of the versions cancels the order, so does this one: it is never paid any more.
        """
        cancels = any(version.terms.cancels for version in versions)
        return self._outbidding(self._payment(order, cancels=cancels), versions, always=False)

    def cancelling(self, order: Order, versions: Sequence[Version]) -> Terms | None:
        """Of nothing, paid to ourselves. None: the nonce is used up, or one that cancels is out and pays enough.

        Raises OrderRefusedError for want of coin.
        """
        first = not any(version.terms.cancels for version in versions)
        return self._outbidding(self._payment(order, cancels=True), versions, always=first)

    def broadcast(self, version: Version) -> Broadcast:
        raw = "0x" + version.raw.removeprefix("0x")

        def send(endpoint: EvmEndpoint) -> Broadcast:
            try:
                (id_,) = endpoint.ask([("eth_sendRawTransaction", [raw])])
            except RefusedError as refusal:
                return reception.of(refusal)
            if prefixed_hash(id_) != version.chain_tx:
                raise MalformedError(f"sent {version.chain_tx}, told of {id_}")
            return Broadcast(reception=Reception.TAKEN)

        return sending.together(self._nodes.each(send))

    def costs(self, chain_txs: Collection[str]) -> Mapping[str, int]:
        """Gas used at the price that was paid, whether it succeeded or reverted; on rollups that tell it, also the fee
        for the data (`l1Fee`).
        """
        ids = {id_: formats.parse_chain_tx(self.id, id_) for id_ in chain_txs}

        def read(endpoint: EvmEndpoint) -> dict[str, int]:
            calls: list[Call] = [("eth_getTransactionReceipt", [name]) for name in ids.values()]
            calls += [("eth_getTransactionByHash", [name]) for name in ids.values()]
            answers = endpoint.ask(calls)
            costs = {}
            for (id_, name), receipt, tx in zip(ids.items(), answers, answers[len(ids) :], strict=False):
                if (cost := _cost(name, receipt)) is not None:
                    costs[id_] = cost
                    self._places.keep(name, tx)
            return costs

        return self._nodes.first(read) if ids else {}

    def dead(self, versions: Sequence[Version]) -> bool:
        """Whether another transaction with the nonce is in a final block: see chains/evm/taken.py.

        Where no endpoint can look back far enough, it is not proven, and an error is not raised.
        """
        sender, nonce = _shared(versions)
        ours = frozenset(version.chain_tx for version in versions)
        depth = self._chain.reorg_depth

        def shown(block: int) -> bool:
            return self._nodes.proven(
                lambda endpoint: taken.foreign(endpoint, sender, nonce, block=block, ours=ours, reorg_depth=depth)
            )

        told = self._places.of(sender, nonce)
        if told is not None and shown(told):
            return True
        try:
            block = self._nodes.first(lambda endpoint: taken.block_of(endpoint, sender, nonce, reorg_depth=depth))
        except RefusedError as refusal:
            log.warning("a nonce is used, and no node can tell by what", chain=self.id, error=str(refusal))
            return False
        return block is not None and block != told and shown(block)

    def balance(self, wallet: str, asset: str) -> int:
        if asset not in self._contracts:
            raise PermanentError(f"{asset!r} is no asset of {self.id}")
        return self._nodes.first(lambda endpoint: _balance(endpoint, wallet, self._contracts[asset]))

    def _payment(self, order: Order, *, cancels: bool = False) -> _Payment:
        """Raises OrderRefusedError for what is no order for this chain."""
        if order.chain != self.id or order.asset not in self._contracts or order.tag is not None:
            raise OrderRefusedError("order", f"{order.reference} is no order for {self.id}, or of no asset of it")
        if not 0 < order.units <= _U256_MAX:
            raise OrderRefusedError("order", f"{order.reference} is of {order.units} units")
        wallet = self._address(order.wallet, "order")
        if cancels:
            return _Payment(wallet, wallet, 0, "0x", None, 0, cancels=True)
        to, token = self._address(order.to, "destination"), self._contracts[order.asset]
        # What is sent to either is lost for ever, and many a token lets it pass.
        if to.lower() in (_NOBODY, token):
            raise OrderRefusedError("destination", f"{to} is nobody's address")
        if token is None:
            return _Payment(wallet, to, order.units, "0x", None, order.units)
        return _Payment(wallet, token, 0, erc20.transfer_data(to, order.units), token, order.units)

    def _address(self, text: str, what: Literal["destination", "order"]) -> str:
        try:
            canonical = formats.parse_address(self.id, text)
        except InvalidRequestError as error:
            raise OrderRefusedError(what, str(error)) from None
        if canonical != text:  # the signer builds from the order as it is, and takes one spelling only
            raise OrderRefusedError(what, f"{text} is not in EIP-55 spelling")
        return canonical

    def _outbidding(self, payment: _Payment, versions: Sequence[Version], *, always: bool) -> Terms | None:
        """`always`: also if what is out pays enough."""
        sender, nonce = _shared(versions)
        if sender != payment.wallet:
            raise OrderRefusedError("order", f"its versions are of the wallet {sender}, not of {payment.wallet}")
        out = [Prices.of(version.terms.fields) for version in versions]
        alike = (version for version in versions if version.terms.cancels is payment.cancels)
        gas_min = max((int(version.terms.fields["gas"]) for version in alike), default=0)

        def read(endpoint: EvmEndpoint) -> Terms | None:
            if parse.quantity(endpoint.ask([count_call(sender, "latest")])[0]) > nonce:
                return None
            market = fees.market(endpoint)
            if not always and any(market.satisfied(prices) for prices in out):
                return None
            return _carried(endpoint, payment, nonce, market.outbidding(out), gas_min=gas_min)

        return self._nodes.first(read)


def _shared(versions: Sequence[Version]) -> tuple[str, int]:
    """Wallet and nonce, which all of them use."""
    inputs = {version.terms.inputs for version in versions}
    if len(inputs) != 1 or len(only := inputs.pop()) != 1:
        raise ValueError("the versions of an order share one nonce, and nothing else")
    return parse.sender_and_nonce(only[0])


def _free_nonce(endpoint: EvmEndpoint, wallet: str, reserved: Collection[str]) -> int:
    latest, pending = endpoint.try_all([count_call(wallet, tag) for tag in ("latest", "pending")])
    if isinstance(latest, RefusedError):
        raise latest
    first = parse.quantity(latest)
    if not isinstance(pending, RefusedError):
        # Below it the pool has a transaction for each nonce: ours are reserved, the others somebody else has sent.
        first = max(first, parse.quantity(pending))
    return next(nonce for nonce in count(first) if parse.input_of(wallet, nonce) not in reserved)


def _carried(
    endpoint: EvmEndpoint, payment: _Payment, nonce: int, prices: Prices, *, gas_min: int = 0, pending: bool = False
) -> Terms:
    """Raises OrderRefusedError if the wallet can't pay it, or its recipient can't take it.

    `pending`: what waits in the node's pool is subtracted from what the wallet has, by nodes that can.
    """
    coin = _balance(endpoint, payment.wallet, None, pending=pending)
    has = coin if payment.token is None else _balance(endpoint, payment.wallet, payment.token, pending=pending)
    if has < payment.units:
        raise OrderRefusedError("funds", f"{payment.wallet} has {has} units, {payment.units} are to be paid")
    gas = max(gas_min, _gas(endpoint, payment))
    fee_max = gas * prices.most
    if coin < payment.value + fee_max:
        needed = f"{payment.value} units to be paid and {fee_max} for gas"
        raise OrderRefusedError("funds", f"{payment.wallet} has {coin} units of the coin: too little for {needed}")
    return Terms(
        inputs=(parse.input_of(payment.wallet, nonce),),
        fee_max=fee_max,
        cancels=payment.cancels,
        fields={"gas": str(gas), **prices.fields()},
    )


def _gas(endpoint: EvmEndpoint, payment: _Payment) -> int:
    """What it takes, by carrying it out on the newest block, and a margin."""
    calls: list[Call] = [("eth_estimateGas", [payment.call, "latest"])]
    if payment.token is not None:
        calls.append(("eth_call", [payment.call, "latest"]))
    estimate, *said = endpoint.try_all(calls)
    for answer in (estimate, *said):
        if isinstance(answer, RefusedError):
            if answer.code != _REVERTED and not _FAILED.search(answer.words):
                raise answer
            if payment.cancels:
                return CANCEL_GAS
            raise OrderRefusedError("destination", str(answer))
    # A token says yes (EIP-20), or nothing at all as some old ones do, or it moves nothing.
    if said and said[0] != "0x" and erc20.number(said[0]) != 1:
        raise OrderRefusedError("destination", f"the token {payment.token} says no")
    gas = parse.quantity(estimate)
    return gas if gas == PLAIN_GAS else gas + -(-gas // MARGIN)


def _balance(endpoint: EvmEndpoint, wallet: str, token: str | None, *, pending: bool = False) -> int:
    """Units in the newest block; with `pending` also after what waits, if that leaves less and the node can tell."""
    tags = ("latest", "pending") if pending else ("latest",)
    if token is None:
        calls: list[Call] = [("eth_getBalance", [wallet, tag]) for tag in tags]
    else:
        calls = [erc20.balance_call(token, wallet, tag) for tag in tags]
    latest, *others = endpoint.try_all(calls)
    if isinstance(latest, RefusedError):
        raise latest
    told = [latest, *(answer for answer in others if not isinstance(answer, RefusedError))]
    if token is None:
        return min(map(parse.quantity, told))
    units = [number for answer in told if (number := erc20.number(answer)) is not None]
    if len(units) < len(told):
        raise MalformedError(f"the token {token} does not tell the balance of {wallet}")
    return min(units)


def _cost(id_: str, receipt: object) -> int | None:
    """What the receipt says that it cost; None if it is in no block."""
    if receipt is None:
        return None
    told = mapping(receipt)
    if prefixed_hash(told.get("transactionHash")) != id_:
        raise MalformedError(f"asked for the receipt of {id_}, told of {told.get('transactionHash')}")
    if told.get("blockHash") is None:
        return None
    data_fee = parse.quantity(told["l1Fee"]) if told.get("l1Fee") is not None else 0
    return parse.quantity(told.get("gasUsed")) * parse.quantity(told.get("effectiveGasPrice")) + data_fee
