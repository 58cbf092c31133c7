"""A ledger like that of an Aptos full node: it executes transfers and tells of them in the REST API's form.

The form is that of the recorded transactions in tests/support/aptos; the effects are those of aptos-core's framework:
`fungible_asset.move`, `coin.move`, `primary_fungible_store.move`.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chains.aptos.objects import APT_METADATA, long, primary_store

Json = dict[str, Any]

GENESIS_US = 1_700_000_000_000_000
RICH = 10**18
GAS_UNITS = 11
GAS_PRICE = 100

Way = Literal["primary", "concurrent", "secondary", "coin", "coin_v1", "coin_v2"]
"""Into the owner's primary store (its balance plain, or an aggregator); into another store of the owner's; or into a
coin store, told by both events, by the store's alone, or by the module's alone."""


@dataclass(frozen=True)
class Move:
    to: str
    units: int
    asset: str = APT_METADATA
    """Metadata object, or coin type."""
    way: Way = "primary"


@dataclass
class Pending:
    hash: str
    sender: str
    sequence_number: int
    expires: int
    moves: Sequence[Move]
    success: bool
    nonce: int | None
    edit: Json
    """Laid over the transaction as it is told: for what a node should not say."""


@dataclass
class CoinStore:
    units: int
    creation_num: int
    deposits: int = 0
    withdrawals: int = 0


@dataclass
class Ledger:
    """Blocks of transactions. Versions begin at `base`, so that a recorded block can be the first."""

    chain_id: int = 1
    base: int = 0
    txs: list[Json] = field(default_factory=list)
    blocks: list[Json] = field(default_factory=list)
    pending: dict[str, Pending] = field(default_factory=dict)
    oldest: int = 0
    """Versions before it are pruned."""
    sequence_numbers: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Account -> (version, number from then on), oldest first."""
    units: dict[str, int] = field(default_factory=dict)
    """Store -> what lies there."""
    stores: dict[str, tuple[str, str, bool]] = field(default_factory=dict)
    """Store -> owner, metadata object, whether its balance is an aggregator."""
    coins: dict[tuple[str, str], CoinStore] = field(default_factory=dict)
    _count: int = 0

    # Acting

    def submit(
        self,
        *moves: Move,
        sender: str,
        success: bool = True,
        expires_in_s: float = 600,
        sequence_number: int | None = None,
        orderless: bool = False,
        edit: Json | None = None,
    ) -> str:
        """A transaction that waits for the next block."""
        self._count += 1
        hash_ = _hash(f"user {self.chain_id} {self._count}")
        waiting = [tx.sequence_number for tx in self.pending.values() if tx.sender == sender]
        number = max([self.sequence_number(sender), *(number + 1 for number in waiting)])
        self.pending[hash_] = Pending(
            hash=hash_,
            sender=sender,
            sequence_number=2**64 - 1 if orderless else number if sequence_number is None else sequence_number,
            expires=int(self.now_us() / 1e6 + expires_in_s),
            moves=moves,
            success=success,
            nonce=self._count if orderless else None,
            edit=edit or {},
        )
        return hash_

    def mine(self) -> None:
        """A block of what waits and has not expired, each sender's in order."""
        timestamp = self.now_us()
        height = int(self.blocks[-1]["block_height"]) + 1 if self.blocks else 0
        hash_ = _hash(f"block {self.chain_id} {height}")
        first = self.base + len(self.txs)
        opened = _block_metadata(height, hash_, timestamp) if height else _chains_own("genesis_transaction", timestamp)
        self._append(opened)
        for tx in sorted(self.pending.values(), key=lambda tx: tx.sequence_number):
            if tx.nonce is None and tx.sequence_number != self.sequence_number(tx.sender):
                if tx.sequence_number < self.sequence_number(tx.sender):
                    del self.pending[tx.hash]  # another one of the same number came first
                continue
            del self.pending[tx.hash]
            if tx.expires * 1_000_000 > timestamp:
                self._append(self._executed(tx, timestamp))
        if height:
            self._append(_chains_own("block_epilogue_transaction", timestamp))
        self.blocks.append(
            {
                "block_height": str(height),
                "block_hash": hash_,
                "block_timestamp": str(timestamp),
                "first_version": str(first),
                "last_version": str(self.version),
            }
        )

    def hold(self, block: Json) -> None:
        """A recorded block, as the ledger's first."""
        self.base = self.oldest = int(block["first_version"])
        self.txs = list(block["transactions"])
        self.blocks = [{name: value for name, value in block.items() if name != "transactions"}]

    # Reading

    @property
    def version(self) -> int:
        return self.base + len(self.txs) - 1

    def now_us(self) -> int:
        """The time of a block that is made now."""
        last = int(self.blocks[-1]["block_timestamp"]) if self.blocks else 0
        return max(int(time.time() * 1e6), last + 1_000)

    def tx(self, hash_: str) -> Json | None:
        for tx in self.txs:
            if tx["hash"] == hash_:
                return tx
        waiting = self.pending.get(hash_)
        return None if waiting is None else {**_request(waiting), "type": "pending_transaction"} | waiting.edit

    def sequence_number(self, account: str, version: int | None = None) -> int:
        found = 0
        for since, number in self.sequence_numbers.get(account, []):
            if version is None or since <= version:
                found = number
        return found

    # Executing

    def _append(self, tx: Json) -> None:
        self.txs.append({"version": str(self.base + len(self.txs))} | tx)

    def _executed(self, tx: Pending, timestamp: int) -> Json:
        version = self.base + len(self.txs)
        if tx.nonce is None:
            self.sequence_numbers.setdefault(tx.sender, []).append((version, tx.sequence_number + 1))
        events: list[Json] = []
        touched: dict[str, None] = {}
        coins_touched: dict[tuple[str, str], None] = {}
        for move in tx.moves if tx.success else ():
            if move.way.startswith("coin"):
                events += self._move_coin(tx.sender, move)
                coins_touched |= dict.fromkeys([(tx.sender, move.asset), (move.to, move.asset)])
            else:
                source, target = self.store(tx.sender, move.asset), self.store(move.to, move.asset, way=move.way)
                self.units[source] -= move.units
                self.units[target] += move.units
                touched |= dict.fromkeys([source, target])
                if move.units:
                    events.append(
                        _module_event("fungible_asset::Withdraw", amount=str(move.units), store=short(source))
                    )
                    events.append(_module_event("fungible_asset::Deposit", amount=str(move.units), store=short(target)))
        gas = self.store(tx.sender, APT_METADATA)
        self.units[gas] -= GAS_UNITS * GAS_PRICE
        touched[gas] = None
        events.append(_module_event("transaction_fee::FeeStatement", total_charge_gas_units=str(GAS_UNITS)))
        changes = [change for store in touched for change in self._store_changes(store)]
        changes += [self._coin_change(place) for place in coins_touched]
        return {
            **_outcome(tx.hash, GAS_UNITS, success=tx.success),
            "changes": changes,
            **_request(tx),
            "replay_protection_nonce": None if tx.nonce is None else str(tx.nonce),
            "events": events,
            "timestamp": str(timestamp),
            "type": "user_transaction",
        } | tx.edit

    def store(self, owner: str, metadata: str, *, way: Way = "primary") -> str:
        """The owner's store of the asset, made if there is none yet."""
        owner = long(owner)
        place = primary_store(owner, metadata)
        if way == "secondary":
            place = _hash(f"store {owner} {metadata}")
        if place not in self.stores:
            self.stores[place] = (owner, metadata, way == "concurrent")
            self.units[place] = RICH if owner.endswith("fee") else 0
        return place

    def _move_coin(self, sender: str, move: Move) -> Iterator[Json]:
        source = self.coins.setdefault((sender, move.asset), CoinStore(RICH, 4))
        target = self.coins.setdefault((move.to, move.asset), CoinStore(0, 2))
        source.units -= move.units
        target.units += move.units
        for place, store, sort in (
            ((sender, move.asset), source, "Withdraw"),
            ((move.to, move.asset), target, "Deposit"),
        ):
            if move.way in ("coin", "coin_v2"):
                yield _module_event(
                    f"coin::Coin{sort}", account=short(place[0]), amount=str(move.units), coin_type=move.asset
                )
            if move.way in ("coin", "coin_v1"):
                number = store.creation_num + (sort == "Withdraw")
                counter = store.withdrawals if sort == "Withdraw" else store.deposits
                yield {
                    "guid": {"creation_number": str(number), "account_address": short(place[0])},
                    "sequence_number": str(counter),
                    "type": f"0x1::coin::{sort}Event",
                    "data": {"amount": str(move.units)},
                }
        source.withdrawals += 1
        target.deposits += 1

    def _store_changes(self, place: str) -> Iterator[Json]:
        owner, metadata, concurrent = self.stores[place]
        units = str(self.units[place])
        if concurrent:
            balance = {"balance": {"max_value": str(2**64 - 1), "value": units}}
            yield _written(place, "0x1::fungible_asset::ConcurrentFungibleBalance", balance)
        plain = {"balance": "0" if concurrent else units, "frozen": False, "metadata": {"inner": short(metadata)}}
        yield _written(place, "0x1::fungible_asset::FungibleStore", plain)
        guid = {"id": {"addr": short(place), "creation_num": "1125899906842624"}}
        core = {
            "allow_ungated_transfer": False,
            "guid_creation_num": "1125899906842625",
            "owner": short(owner),
            "transfer_events": {"counter": "0", "guid": guid},
        }
        yield _written(place, "0x1::object::ObjectCore", core)

    def _coin_change(self, place: tuple[str, str]) -> Json:
        account, coin_type = place
        store = self.coins[place]

        def handle(number: int, counter: int) -> Json:
            return {"counter": str(counter), "guid": {"id": {"addr": short(account), "creation_num": str(number)}}}

        data = {
            "coin": {"value": str(store.units)},
            "deposit_events": handle(store.creation_num, store.deposits),
            "frozen": False,
            "withdraw_events": handle(store.creation_num + 1, store.withdrawals),
        }
        return _written(account, f"0x1::coin::CoinStore<{coin_type}>", data)


def short(address: str) -> str:
    """As nodes spell an address: without leading zeros."""
    return "0x" + (address[2:].lstrip("0") or "0")


def _request(tx: Pending) -> Json:
    return {
        "hash": tx.hash,
        "sender": short(tx.sender),
        "sequence_number": str(tx.sequence_number),
        "max_gas_amount": "2000",
        "gas_unit_price": str(GAS_PRICE),
        "expiration_timestamp_secs": str(tx.expires),
        "payload": {
            "function": "0x1::aptos_account::transfer_fungible_assets",
            "type_arguments": [],
            "arguments": [[move.to, str(move.units)] for move in tx.moves],
            "type": "entry_function_payload",
        },
        "signature": {"public_key": _hash("key"), "signature": _hash("signature"), "type": "ed25519_signature"},
        "replay_protection_nonce": None if tx.nonce is None else str(tx.nonce),
    }


def _outcome(hash_: str, gas: int, *, success: bool = True) -> Json:
    return {
        "hash": hash_,
        "state_change_hash": _hash(f"state {hash_}"),
        "event_root_hash": _hash(f"events {hash_}"),
        "state_checkpoint_hash": None,
        "gas_used": str(gas),
        "success": success,
        "vm_status": "Executed successfully" if success else "Move abort in 0x1::fungible_asset: EINSUFFICIENT_BALANCE",
        "accumulator_root_hash": _hash(f"accumulator {hash_}"),
    }


def _chains_own(kind: str, timestamp: int) -> Json:
    outcome = _outcome(_hash(f"{kind} {timestamp}"), 0)
    events: Json = {"events": []} if kind == "genesis_transaction" else {"timestamp": str(timestamp)}
    return outcome | {"changes": []} | events | {"type": kind}


def _block_metadata(height: int, hash_: str, timestamp: int) -> Json:
    event = {
        "guid": {"creation_number": "3", "account_address": "0x1"},
        "sequence_number": str(height),
        "type": "0x1::block::NewBlockEvent",
        "data": {
            "epoch": "1",
            "failed_proposer_indices": [],
            "hash": hash_,
            "height": str(height),
            "previous_block_votes_bitvec": "0xff",
            "proposer": short(_hash("proposer")),
            "round": str(height),
            "time_microseconds": str(timestamp),
        },
    }
    return {
        **_outcome(_hash(f"metadata {hash_}"), 0),
        "changes": [],
        "id": hash_,
        "epoch": "1",
        "round": str(height),
        "events": [event],
        "previous_block_votes_bitvec": [255],
        "proposer": event["data"]["proposer"],  # type: ignore[index]
        "failed_proposer_indices": [],
        "timestamp": str(timestamp),
        "type": "block_metadata_transaction",
    }


def _module_event(kind: str, **data: str) -> Json:
    return {
        "guid": {"creation_number": "0", "account_address": "0x0"},
        "sequence_number": "0",
        "type": f"0x1::{kind}",
        "data": data,
    }


def _written(address: str, kind: str, data: Json) -> Json:
    return {
        "address": short(address),
        "state_key_hash": _hash(f"key {address}"),
        "data": {"type": kind, "data": data},
        "type": "write_resource",
    }


def _hash(seed: str) -> str:
    return "0x" + hashlib.sha3_256(seed.encode()).hexdigest()
