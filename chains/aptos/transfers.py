"""What one transaction moved, by its events and its changes together. Pure.

An event says that units were put into a place; whose place it is, of what asset, and what is in it now, the changes
say. Sources: aptos-core, framework `coin.move` and `fungible_asset.move`; AIP-21, AIP-63, AIP-73.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chains.aptos import formats
from chains.aptos.objects import APT_METADATA, paired_metadata, primary_store
from chains.aptos.parse import USER, address, succeeded, u64
from chains.base import Block, Transfer
from chains.fields import Json, listing, mapping, prefixed_hash, text

DEPOSIT = "0x1::fungible_asset::Deposit"
WITHDRAW = "0x1::fungible_asset::Withdraw"
COIN_DEPOSIT = "0x1::coin::CoinDeposit"
COIN_WITHDRAW = "0x1::coin::CoinWithdraw"
COIN_DEPOSIT_V1 = "0x1::coin::DepositEvent"
COIN_WITHDRAW_V1 = "0x1::coin::WithdrawEvent"
COIN_STORE_DELETION = "0x1::coin::CoinStoreDeletion"
COIN_STORE_DELETION_V1 = "0x1::coin::CoinEventHandleDeletion"
_ARRIVALS = frozenset({DEPOSIT, COIN_DEPOSIT, COIN_DEPOSIT_V1})
_COIN_STORE = "0x1::coin::CoinStore<"

Place = str | tuple[str, str]
"""A store's address; or, for coins, an account and the coin's type."""


@dataclass(frozen=True)
class Assets:
    """The assets of one chain. A coin and the fungible asset it is paired with are one asset, by its metadata."""

    chain: str
    native: str | None
    tokens: Mapping[str, str]
    """Metadata object -> CAIP-19 id."""

    def named(self, metadata: str, contract: str) -> tuple[str | None, str | None]:
        """The asset's id, and its contract as the id spells it; of an unknown one the contract that is given."""
        if metadata == APT_METADATA:
            return self.native, None
        asset = self.tokens.get(metadata)
        return asset, contract if asset is None else asset.partition("/")[2].partition(":")[2]


@dataclass(frozen=True)
class Arrival:
    """Units that an event says came to a place."""

    index: int
    place: Place
    units: int


@dataclass
class Changes:
    """What a transaction wrote of places where units lie."""

    owners: dict[str, str] = field(default_factory=dict)
    """Object -> its owner."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Store -> its asset."""
    units: defaultdict[Place, int] = field(default_factory=lambda: defaultdict(int))
    """What lies there after the transaction."""
    coin_stores_ended: set[tuple[str, str]] = field(default_factory=set)
    handles: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """A coin store's event handle (address, creation number) -> that store."""


def transfers(raw: Json, block: Block, assets: Assets, watched: Collection[str] | None = None) -> tuple[Transfer, ...]:
    """Every transfer of the transaction, or those to watched addresses; none if it failed.

    `index` is the place of the deposit's event among the transaction's. `sender` is who signed it: not a fee payer, and
    of several signers the first. Only an owner's primary store counts, as an owner may have other objects with stores,
    which whoever made them can empty again.
    """
    if raw.get("type") != USER or not succeeded(raw):
        return ()
    events = [mapping(event) for event in listing(raw.get("events"))]
    if not any(text(event.get("type")) in _ARRIVALS for event in events):
        return ()
    changes = _changes(listing(raw.get("changes")))
    _handles_ended(events, changes)
    arrived = list(_arrivals(events, changes))
    told = [(arrival, whose) for arrival in arrived if (whose := _whose(arrival.place, changes)) is not None]
    if watched is not None:
        told = [(arrival, whose) for arrival, whose in told if whose[0] in watched]
    if not told:
        return ()
    present = _present(events, changes, arrived)
    found = []
    for arrival, (owner, metadata, contract) in told:
        asset, named = assets.named(metadata, contract)
        found.append(
            Transfer(
                chain=assets.chain,
                chain_tx=prefixed_hash(raw.get("hash")),
                index=arrival.index,
                # What the balances don't bear out is no asset that we know.
                asset=asset if present[arrival.place] else None,
                contract=named,
                sender=address(raw.get("sender")),
                recipient=owner,
                units=arrival.units,
                block_number=block.number,
                block_hash=block.hash,
                block_time=block.time,
            )
        )
    return tuple(found)


def _whose(place: Place, changes: Changes) -> tuple[str, str, str] | None:
    """Owner, metadata object, and contract; None for a place that is nobody's in the end, or no primary store."""
    if not isinstance(place, str):
        account, coin_type = place
        return account, paired_metadata(coin_type), formats.coin_reference(coin_type)
    owner, metadata = changes.owners.get(place), changes.metadata.get(place)
    if owner is None or metadata is None or primary_store(owner, metadata) != place:
        return None
    return owner, metadata, metadata


def _arrivals(events: Sequence[Json], changes: Changes) -> Iterator[Arrival]:
    """Each deposit once: by framework version a coin's is told by its store's event, by the module's, or by both."""
    told: Counter[tuple[Place, int]] = Counter()
    for event in events:
        if event.get("type") == COIN_DEPOSIT:
            told[_coin_place(event), _amount(event)] += 1
    migrating: str | None = None
    for index, event in enumerate(events):
        migrated, migrating = migrating, None
        kind = event.get("type")
        if kind == COIN_STORE_DELETION_V1:
            migrating = address(mapping(event.get("data")).get("event_handle_creation_address"))
        elif kind == DEPOSIT:
            store = _store(event)
            # Who moves an account's coins to its primary store (anybody may) brings it nothing. Framework versions of
            # 2024 called that a deposit, right after the coin store's end; later ones emit none.
            if migrated is None or changes.owners.get(store) != migrated:
                yield Arrival(index, store, _amount(event))
        elif kind == COIN_DEPOSIT:
            yield Arrival(index, _coin_place(event), _amount(event))
        elif kind == COIN_DEPOSIT_V1 and (place := changes.handles.get(_handle(event))) is not None:
            if told[place, _amount(event)]:
                told[place, _amount(event)] -= 1
            else:
                yield Arrival(index, place, _amount(event))


def _present(events: Sequence[Json], changes: Changes, arrived: Sequence[Arrival]) -> dict[Place, bool]:
    """Whether what came to each place, less what left it, is there after the transaction.

    Gas is the only thing that leaves without an event, and who pays it had it before.
    """
    left: Counter[Place] = Counter()
    left_v1: Counter[Place] = Counter()
    for event in events:
        kind = event.get("type")
        if kind == WITHDRAW:
            left[_store(event)] += _amount(event)
        elif kind == COIN_WITHDRAW:
            left[_coin_place(event)] += _amount(event)
        elif kind == COIN_WITHDRAW_V1 and (place := changes.handles.get(_handle(event))) is not None:
            left_v1[place] += _amount(event)
    came: Counter[Place] = Counter()
    for arrival in arrived:
        came[arrival.place] += arrival.units
    return {
        # A coin store that is gone was emptied into the owner's primary store.
        place: place in changes.coin_stores_ended
        or units - max(left[place], left_v1[place]) <= changes.units.get(place, 0)
        for place, units in came.items()
    }


def _changes(changes: Sequence[object]) -> Changes:
    found = Changes()
    for change in map(mapping, changes):
        if change.get("type") == "delete_resource":
            kind = text(change.get("resource"))
            if kind.startswith(_COIN_STORE):
                found.coin_stores_ended.add((address(change.get("address")), kind[len(_COIN_STORE) : -1]))
        if change.get("type") != "write_resource":
            continue
        resource = mapping(change.get("data"))
        kind = text(resource.get("type"))
        if kind == "0x1::object::ObjectCore":
            found.owners[address(change.get("address"))] = address(mapping(resource.get("data")).get("owner"))
        elif kind == "0x1::fungible_asset::FungibleStore":
            store, data = address(change.get("address")), mapping(resource.get("data"))
            found.metadata[store] = address(mapping(data.get("metadata")).get("inner"))
            found.units[store] += u64(data.get("balance"))
        elif kind == "0x1::fungible_asset::ConcurrentFungibleBalance":
            # The balance lies here or in FungibleStore, where the other is zero.
            balance = mapping(mapping(resource.get("data")).get("balance"))
            found.units[address(change.get("address"))] += u64(balance.get("value"))
        elif kind.startswith(_COIN_STORE) and kind.endswith(">"):
            place = (address(change.get("address")), kind[len(_COIN_STORE) : -1])
            data = mapping(resource.get("data"))
            found.units[place] += u64(mapping(data.get("coin")).get("value"))
            for name in ("deposit_events", "withdraw_events"):
                found.handles[_guid(mapping(mapping(mapping(data.get(name)).get("guid")).get("id")))] = place
    return found


def _handles_ended(events: Sequence[Json], changes: Changes) -> None:
    """The event handles of coin stores that end in this transaction, for deposits that came before."""
    for event in events:
        if event.get("type") in (COIN_STORE_DELETION, COIN_STORE_DELETION_V1):
            data = mapping(event.get("data"))
            account = address(data.get("event_handle_creation_address"))
            ended = [place for place in changes.coin_stores_ended if place[0] == account]
            if "coin_type" in data:
                ended = [place for place in ended if place[1] == text(data["coin_type"])]
            if len(ended) == 1:
                for name in ("deposit", "withdraw"):
                    number = u64(data.get(f"deleted_{name}_event_handle_creation_number"))
                    changes.handles[account, number] = ended[0]


def _guid(id_: Json) -> tuple[str, int]:
    return address(id_.get("addr")), u64(id_.get("creation_num"))


def _handle(event: Json) -> tuple[str, int]:
    guid = mapping(event.get("guid"))
    return address(guid.get("account_address")), u64(guid.get("creation_number"))


def _store(event: Json) -> str:
    return address(mapping(event.get("data")).get("store"))


def _coin_place(event: Json) -> tuple[str, str]:
    data = mapping(event.get("data"))
    return address(data.get("account")), text(data.get("coin_type"))


def _amount(event: Json) -> int:
    return u64(mapping(event.get("data")).get("amount"))
