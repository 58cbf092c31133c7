"""EVM chains (Ethereum, BNB Smart Chain and their like) over JSON-RPC. docs/chains-evm.md says what is read how."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from chains import agreement, formats
from chains.base import Block, ChainTx, Head, NodeHealth, Scan, Transfer
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError
from chains.evm import parse, rpc
from chains.evm.arrived import measured
from chains.evm.rpc import EvmEndpoint, block_call, count_call, head
from chains.evm.scanning import Scanner
from chains.http import Call
from config.assets import Asset, Chain
from core.errors import TransientError

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


class EvmReader:
    """A `ChainReader`. Each method asks one endpoint from start to end; the next one only if the first fails.

    The index of a transfer is its log's within the block, -1 (NATIVE_INDEX) for the transaction's own value. What a
    transaction uses up is its sender's nonce: `0xSender/7`, the sender spelled by EIP-55.
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
        self._chain = chain
        self._assets = parse.assets_of(chain.id, assets)
        self._nodes = rpc.nodes_of(chain, connect_timeout=connect_timeout, read_timeout=read_timeout)

    def head(self) -> Head:
        """The newest block and the number of the finalized one. An endpoint without the tag answers None."""
        return self._nodes.head(head)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        wanted = list(dict.fromkeys(numbers))

        def read(endpoint: EvmEndpoint) -> dict[int, Block]:
            answers = endpoint.ask([block_call(hex(number)) for number in wanted])
            found = {number: parse.block(raw) for number, raw in zip(wanted, answers, strict=True) if raw is not None}
            if any(block.number != number for number, block in found.items()):
                raise MalformedError("not the block that was asked for")
            return found

        return self._nodes.first(read)

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = self._canonical(ids)
        found = self._nodes.first(lambda endpoint: self._chain_txs(endpoint, canonical.values()))
        return {id_: found[name] for id_, name in canonical.items()}

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = self._canonical(ids)

        def read(endpoint: EvmEndpoint) -> agreement.Told:
            seen = head(endpoint)
            return agreement.Told(seen.latest.number, seen.finalized, self._chain_txs(endpoint, canonical.values()))

        told = agreement.agreed(self._nodes, read)
        return {id_: told[name] for id_, name in canonical.items()}

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        """A nonce is used up when the sender's next one is higher. Raises ValueError for what is no input."""
        parsed = {}
        for each in inputs:
            sender, nonce = parse.sender_and_nonce(each)
            parsed[each] = (sender.lower(), nonce)
        senders = list(dict.fromkeys(sender for sender, _ in parsed.values()))

        def read(endpoint: EvmEndpoint) -> dict[str, int]:
            # Nodes keep the state of some 128 blocks, archives that of all. The head's is no answer for an older block.
            tag = "latest" if block is None else hex(block)
            answers = endpoint.ask([count_call(sender, tag) for sender in senders])
            return {sender: parse.quantity(raw) for sender, raw in zip(senders, answers, strict=True)}

        counts = self._nodes.first(read) if senders else {}
        return frozenset(each for each, (sender, nonce) in parsed.items() if nonce < counts[sender])

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Raises ValueError for a range that is empty or longer than the chain's `scan_blocks_max`."""
        if not 0 <= first <= last:
            raise ValueError(f"blocks {first} to {last} are no range")
        if last - first >= self._chain.scan_blocks_max:
            raise ValueError(f"blocks {first} to {last}: {self.id} reads at most {self._chain.scan_blocks_max} at once")
        watched = list(dict.fromkeys(self._lower(address) for address in addresses))
        return self._nodes.first(lambda endpoint: Scanner(endpoint, self._assets, watched).scan(first, last))

    def nodes(self) -> Sequence[NodeHealth]:
        return self._nodes.health()

    def _lower(self, address: str) -> str:
        """No checksum: a keccak in Python, and thousands of them would take longer than reading the blocks."""
        return address.lower() if _ADDRESS.fullmatch(address) else formats.parse_address(self.id, address).lower()

    def _canonical(self, ids: Sequence[str]) -> dict[str, str]:
        return {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}

    def _chain_txs(self, endpoint: EvmEndpoint, ids: Collection[str]) -> dict[str, ChainTx]:
        wanted = list(dict.fromkeys(ids))
        calls: list[Call] = []
        for id_ in wanted:
            calls += [("eth_getTransactionByHash", [id_]), ("eth_getTransactionReceipt", [id_])]
        answers = iter(endpoint.ask(calls))
        found = {id_: parse.chain_tx(id_, next(answers), next(answers), self._assets) for id_ in wanted}
        return self._measured(endpoint, found) if self._assets.fee_on_transfer else found

    def _measured(self, endpoint: EvmEndpoint, found: Mapping[str, ChainTx]) -> dict[str, ChainTx]:
        """With what arrived of tokens whose logs may tell more."""
        transfers = [transfer for chain_tx in found.values() for transfer in chain_tx.transfers]
        hashes = {
            t.block_hash for t in transfers if t.contract is not None and t.contract in self._assets.fee_on_transfer
        }
        raws = endpoint.ask([("eth_getBlockByHash", [hash_, False]) for hash_ in sorted(hashes)])
        if None in raws:
            raise TransientError(f"the chain changed under the reading of balances ({endpoint.label})")
        blocks = [parse.block(raw) for raw in raws]
        parents = {block.hash: block.parent_hash for block in blocks}
        if parents.keys() != hashes:
            raise MalformedError("not the block that was asked for")
        counted: dict[str, list[Transfer]] = {id_: [] for id_ in found}
        for transfer in measured(endpoint, self._assets, transfers, parents):
            counted[transfer.chain_tx].append(transfer)
        return {id_: replace(chain_tx, transfers=tuple(counted[id_])) for id_, chain_tx in found.items()}
