"""Paying on Tron: TRX and TRC-20 tokens. docs/chains-tron.md says how, and why like that."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError
from chains.fields import whole
from chains.nodes import Nodes
from chains.proven import Proven
from chains.sending import Broadcast, Order, OrderRefusedError, Reception, Terms, Version, together
from chains.tron.formats import parse_chain_tx
from chains.tron.payments import check_recipient, plan_of, units_max
from chains.tron.planning import coins, planned, token_units
from chains.tron.proofs import is_dead
from chains.tron.reader import assets_of, verify
from chains.tron.rpc import TronEndpoint
from config.assets import Asset, Chain
from core.errors import TransientError

_RECEPTIONS = {
    "SUCCESS": Reception.TAKEN,
    "DUP_TRANSACTION_ERROR": Reception.TAKEN,
    "TRANSACTION_EXPIRATION_ERROR": Reception.LATE,
    "TAPOS_ERROR": Reception.LATE,
}
"""java-tron's api.proto, Return.response_code. All others are REFUSED, but for those of the node's own troubles."""
_NODES_OWN = {"SERVER_BUSY", "NO_CONNECTION", "NOT_ENOUGH_EFFECTIVE_CONNECTION", "BLOCK_UNSOLIDIFIED"}
_WHY_MAX = 200


class TronSender:
    """A `ChainSender`. An order has one version, as nothing but time makes two exclude each other.

    Nothing is known here of what other orders will take of the wallet: one that finds too little there is taken by no
    block, or fails in one at the cost of its energy.
    """

    def __init__(
        self,
        chain: Chain,
        assets: Sequence[Asset],
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        read_timeout: float = READ_TIMEOUT_S,
    ) -> None:
        self.id = chain.id
        self.coin = f"{chain.id}/slip44:195"
        known = assets_of(chain.id, assets)
        self._tokens = {asset: contract for contract, asset in known.trc20.items()}
        endpoints = [
            TronEndpoint(node, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes
        ]
        self._nodes = Nodes(chain, endpoints, verify=partial(verify, chain.id))
        self._proven = Proven()

    def terms(self, order: Order, *, reserved: Collection[str]) -> Terms:  # noqa: ARG002  # nothing is used up
        paid = order.chain == self.id and (order.asset == self.coin or order.asset in self._tokens)
        if not paid or not 0 < order.units <= units_max(order):
            raise OrderRefusedError("order", f"{order.units} of {order.asset} can't be paid on {self.id}")
        try:
            check_recipient(order)
        except ValueError as error:
            raise OrderRefusedError("destination", str(error)) from None
        return self._nodes.first(lambda endpoint: planned(endpoint, order))

    def raised(self, order: Order, versions: Sequence[Version]) -> Terms | None:  # noqa: ARG002
        return None

    def cancelling(self, order: Order, versions: Sequence[Version]) -> Terms | None:  # noqa: ARG002
        return None

    def broadcast(self, version: Version) -> Broadcast:
        return together(self._nodes.each(lambda endpoint: _given(endpoint, version)))

    def costs(self, chain_txs: Collection[str]) -> Mapping[str, int]:
        """All that was burnt for it: energy, bandwidth, a memo, an account that was activated. Of solid blocks."""
        canonical = {id_: parse_chain_tx(self.id, id_) for id_ in chain_txs}

        def read(endpoint: TronEndpoint) -> dict[str, int]:
            infos = {id_: endpoint.solid_info(name) for id_, name in canonical.items()}
            for id_, info in infos.items():
                if info is not None and info.get("id") != canonical[id_]:
                    raise MalformedError(f"asked for the info of {id_}, told of another")
            return {id_: whole(info.get("fee", 0)) for id_, info in infos.items() if info is not None}

        return self._nodes.first(read) if canonical else {}

    def dead(self, versions: Sequence[Version]) -> bool:
        """By reading every block that could have taken it: proofs.py."""
        return all(self._nodes.proven(partial(self._is_dead, version)) for version in versions)

    def _is_dead(self, version: Version, endpoint: TronEndpoint) -> bool | None:
        prove = partial(is_dead, endpoint, version.chain_tx, plan_of(version.terms))
        return self._proven.by(endpoint, version.chain_tx, prove)

    def balance(self, wallet: str, asset: str) -> int:
        """As of the newest block."""
        token = self._tokens.get(asset)
        if token is None and asset != self.coin:
            raise OrderRefusedError("order", f"{asset} is not paid on {self.id}")

        def read(endpoint: TronEndpoint) -> int:
            return coins(endpoint.account(wallet)) if token is None else token_units(endpoint, token, wallet)

        return self._nodes.first(read)


def _given(endpoint: TronEndpoint, version: Version) -> Broadcast:
    answer = endpoint.give(version.raw)
    code = "SUCCESS" if answer.get("result") is True else answer.get("code")
    if not isinstance(code, str):
        raise MalformedError("a broadcast that was neither taken nor refused")
    why = endpoint.struck_cut(f"{code}: {answer.get('message') or ''}"[:_WHY_MAX])
    if code in _NODES_OWN:
        raise TransientError(f"{endpoint.label} takes nothing now: {why}")
    if code == "SUCCESS" and answer.get("txid") != version.chain_tx:
        raise MalformedError(f"{version.chain_tx} was sent, and {answer.get('txid')!r:.80} answered")
    reception = _RECEPTIONS.get(code, Reception.REFUSED)
    return Broadcast(reception=reception, why=None if code == "SUCCESS" else why)
