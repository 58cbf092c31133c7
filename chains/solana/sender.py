"""Paying on Solana: SOL, and tokens of both token programs. docs/chains-solana.md says how, and why like that."""

import base64
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from solders.transaction import VersionedTransaction

from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError, RefusedError
from chains.fields import U64_MAX, Json, listing, mapping
from chains.http import HttpEndpoint
from chains.nodes import Nodes
from chains.proven import Proven
from chains.sending import Broadcast, Order, OrderRefusedError, Reception, Terms, Version, together
from chains.solana import accounts, parse, payments, refusals
from chains.solana.fields import u64
from chains.solana.formats import parse_chain_tx
from chains.solana.instructions import SYSTEM
from chains.solana.planning import CONFIRMED, planned, read_mint
from chains.solana.proofs import is_dead
from chains.solana.reader import check_assets, verify
from chains.solana.scanning import portions, read_txs
from chains.solana.transfers import associated
from config.assets import Asset, Chain

SYSTEM_TRANSFER = (2).to_bytes(4, "little")
"""The first bytes of such an instruction of the system program."""


class SolanaSender:
    """A `ChainSender`. An order has one version, as nothing but time makes two exclude each other.

    Nothing is known here of what other orders will take of the wallet: one that finds too little there fails in its
    block, at the cost of its fee.
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
        self.coin = f"{chain.id}/slip44:501"
        check_assets(chain.id, assets)
        self._assets = {asset.id for asset in assets} | {self.coin}
        endpoints = [
            HttpEndpoint(node, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes
        ]
        self._nodes = Nodes(chain, endpoints, verify=partial(verify, chain.id))
        self._proven = Proven()

    def terms(self, order: Order, *, reserved: Collection[str]) -> Terms:  # noqa: ARG002  # nothing is used up
        if order.chain != self.id or order.asset not in self._assets or not 0 < order.units <= U64_MAX:
            raise OrderRefusedError("order", f"{order.units} of {order.asset} can't be paid on {self.id}")
        try:
            payments.check_recipient(order)
        except ValueError as error:
            raise OrderRefusedError("destination", str(error)) from None
        return self._nodes.first(lambda endpoint: planned(endpoint, order))

    def raised(self, order: Order, versions: Sequence[Version]) -> Terms | None:  # noqa: ARG002
        return None

    def cancelling(self, order: Order, versions: Sequence[Version]) -> Terms | None:  # noqa: ARG002
        return None

    def broadcast(self, version: Version) -> Broadcast:
        """By way of each node's trial of it (preflight), which tells what has happened to it meanwhile."""
        plan = payments.plan_of(version.terms.fields)
        content = base64.b64encode(bytes.fromhex(version.raw)).decode()
        config = {"encoding": "base64", "preflightCommitment": "confirmed", "minContextSlot": plan.slot}

        def give(endpoint: HttpEndpoint) -> Broadcast:
            try:
                (answer,) = endpoint.ask([("sendTransaction", [content, config])])
            except RefusedError as refusal:
                return refusals.reception(endpoint, refusal)
            if answer != version.chain_tx:
                raise MalformedError(f"{version.chain_tx} was sent, and {answer!r:.100} answered")
            return Broadcast(reception=Reception.TAKEN)

        return together(self._nodes.each(give))

    def costs(self, chain_txs: Collection[str]) -> Mapping[str, int]:
        """Fees, and the rent of accounts that were opened. Of final blocks, as all that is read here."""
        canonical = {id_: parse_chain_tx(self.id, id_) for id_ in chain_txs}
        wanted = list(dict.fromkeys(canonical.values()))

        def read(endpoint: HttpEndpoint) -> dict[str, int]:
            found: dict[str, int] = {}
            for some in portions(wanted):
                told = read_txs(endpoint, some)
                found |= {id_: _cost(id_, mapping(raw)) for id_, raw in told.items() if raw is not None}
            return found

        costs = self._nodes.first(read) if wanted else {}
        return {id_: costs[name] for id_, name in canonical.items() if name in costs}

    def dead(self, versions: Sequence[Version]) -> bool:
        """By reading every block that could have taken it: proofs.py."""
        return all(self._nodes.proven(partial(self._is_dead, version)) for version in versions)

    def _is_dead(self, version: Version, endpoint: HttpEndpoint) -> bool | None:
        slot = payments.plan_of(version.terms.fields).slot
        tx = VersionedTransaction.from_bytes(bytes.fromhex(version.raw))
        named = str(tx.message.recent_blockhash)
        prove = partial(is_dead, endpoint, version.chain_tx, blockhash=named, slot=slot)
        return self._proven.by(endpoint, version.chain_tx, prove)

    def balance(self, wallet: str, asset: str) -> int:
        """As of the newest confirmed block."""
        if asset not in self._assets:
            raise OrderRefusedError("order", f"{asset} is not paid on {self.id}")
        mint = None if asset == self.coin else asset.partition(":")[2].partition(":")[2]

        def read(endpoint: HttpEndpoint) -> int:
            if mint is None:
                (answer,) = endpoint.ask([("getBalance", [wallet, CONFIRMED])])
                return u64(mapping(answer).get("value"))
            token = read_mint(endpoint, mint, CONFIRMED)
            (found,) = accounts.read_accounts(endpoint, [associated(wallet, mint, token.program)], CONFIRMED)
            held = accounts.token_account(found)
            return held.units if held is not None else 0

        return self._nodes.first(read)


def _cost(id_: str, raw: Json) -> int:
    """What the payer has less, without the lamports that it paid: a payment of ours moves coins in no other way."""
    tx = parse.signed(id_, raw.get("transaction"))
    meta = mapping(raw.get("meta"))
    before, after = (listing(meta.get(name)) for name in ("preBalances", "postBalances"))
    if not before or not after:
        raise MalformedError(f"{id_} is told without balances")
    less = u64(before[0]) - u64(after[0])
    cost = less if parse.has_failed(meta) else less - _paid(tx)
    if cost < 0:
        raise MalformedError(f"{id_} cost its payer less than nothing")
    return cost


def _paid(tx: VersionedTransaction) -> int:
    keys = [str(key) for key in tx.message.account_keys]
    return sum(
        int.from_bytes(part.data[4:12], "little")
        for part in tx.message.instructions
        if part.data[:4] == SYSTEM_TRANSFER and keys[part.program_id_index] == SYSTEM and not part.accounts[0]
    )
