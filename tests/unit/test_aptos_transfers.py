"""What recorded transactions of mainnet moved (tests/support/aptos), and what is not to be taken for a transfer."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chains.aptos import parse
from chains.aptos.objects import APT_METADATA, long, primary_store
from chains.aptos.transfers import Assets, transfers
from chains.base import Block, TxStatus
from chains.errors import MalformedError
from tests.support.aptos_ledger import Json, Ledger, Move

RECORDED = Path(__file__).parent.parent / "support" / "aptos"
CHAIN = "aptos:1"
APT = f"{CHAIN}/slip44:637"
USDT = "0x357b0b74bc833e95a115ad22604854d6b0fca151cecd94111770e5d6ffc9dc2b"
USDC = "0xbae207659db88bea0cbead6da0ed00aac12edcdda169e591cd41c94180b46f3b"
LZ_USDT = "0xf22bede237a07e121b56d91a491eb7bcdfd1f5907926a9e58338f964a01b17fa%3A%3Aasset%3A%3AUSDT"
LZ_USDT_TYPE = "0xf22bede237a07e121b56d91a491eb7bcdfd1f5907926a9e58338f964a01b17fa::asset::USDT"
LZ_USDT_METADATA = "0xe568e9322107a5c9ba4cbd05a630a5586aa73e744ada246c3efb0f4ce3e295f3"
ASSETS = Assets(
    chain=CHAIN,
    native=APT,
    tokens={
        USDT: f"{CHAIN}/fungible:{USDT}",
        USDC: f"{CHAIN}/fungible:{USDC}",
        LZ_USDT_METADATA: f"{CHAIN}/coin:{LZ_USDT}",
    },
)
BLOCK = Block(number=7, hash="0x" + "b" * 64, parent_hash="", time=datetime(2026, 1, 1, tzinfo=UTC))
PAYER = "0x" + "c1" * 30 + "0fee"
PAYEE = "0x" + "5d" * 32
LOOK_ALIKE = "0xbadc0ffee::asset::USDT"


def recorded(name: str) -> Json:
    content: Json = json.loads((RECORDED / name).read_text())
    return content


def told(raw: Json, assets: Assets = ASSETS) -> list[tuple[int, str | None, str | None, str, int]]:
    return [(t.index, t.asset, t.contract, t.recipient, t.units) for t in transfers(raw, BLOCK, assets)]


def executed(*moves: Move, ledger: Ledger | None = None, **fields: Any) -> Json:
    """The transaction as it is told once it is in a block."""
    ledger = ledger or Ledger()
    ledger.mine()
    hash_ = ledger.submit(*moves, sender=PAYER, **fields)
    ledger.mine()
    found = ledger.tx(hash_)
    assert found is not None
    return found


def event(raw: Json, kind: str) -> Json:
    found: Json = next(event for event in raw["events"] if event["type"] == kind)
    return found


class TestRecorded:
    def test_a_coin_told_by_its_stores_event(self) -> None:
        raw = recorded("block-57347454.json")["transactions"][1]
        payee = "0x4c1b416e4e3793724dabd2d10909689bd534159a2d4d4b605ec22d9e593bbad3"
        assert told(raw) == [(1, f"{CHAIN}/coin:{LZ_USDT}", LZ_USDT, payee, 50_000)]
        assert told(raw, replace(ASSETS, tokens={})) == [(1, None, LZ_USDT, payee, 50_000)]
        # The asset that the coin is paired with is the same money.
        paired = replace(ASSETS, tokens={LZ_USDT_METADATA: f"{CHAIN}/fungible:{LZ_USDT_METADATA}"})
        assert told(raw, paired) == [(1, f"{CHAIN}/fungible:{LZ_USDT_METADATA}", LZ_USDT_METADATA, payee, 50_000)]

    def test_fungible_assets(self) -> None:
        block = recorded("block-445814139.json")
        star = "0x43782fca70e1416fc0c75954942dadd4af8d305a608b6153397ad5801b71e72d"
        payee = "0x541e28fb12aa661a30358f2bebcd44460187ec918cb9cee075c2db86ee6aed93"
        found = [told(raw) for raw in block["transactions"]]
        assert [len(moved) for moved in found] == [0, 1, 1, 1, 0]
        assert found[2] == [(1, None, star, payee, 100_000_000)]

    def test_the_payer_signs_and_does_not_pay_the_fee(self) -> None:
        raw = recorded("block-445814139.json")["transactions"][1]
        assert raw["signature"]["fee_payer_address"] != raw["sender"]
        assert [t.sender for t in transfers(raw, BLOCK, ASSETS)] == [raw["sender"]]

    def test_several_in_one_transaction(self) -> None:
        taker = "0xbf9239be9eb7e7a3d8e4c1f36083464fd47e6bd1f82a43b7c0f7ee958705a52f"
        found = told(recorded("tx-3541198891.json"))
        assert [(index, asset, units) for index, asset, _, _, units in found] == [
            (1, APT, 16_009_606),
            (4, f"{CHAIN}/fungible:{USDC}", 4_002),
            (6, f"{CHAIN}/fungible:{USDC}", 16_005_604),
            (10, APT, 318_716_385),
        ]
        assert [contract for _, _, contract, _, _ in found] == [None, USDC, USDC, None]
        assert found[0][3] == found[3][3] == taker

    def test_stores_that_are_nobodys_primary_ones_are_left_out(self) -> None:
        raw = recorded("tx-3541198895.json")
        deposits = [i for i, e in enumerate(raw["events"]) if e["type"] == "0x1::fungible_asset::Deposit"]
        assert deposits == [2, 4, 9]
        assert [(index, asset) for index, asset, *_ in told(raw)] == [(9, f"{CHAIN}/fungible:{USDT}")]

    def test_what_failed_moved_nothing(self) -> None:
        block = recorded("block-456015808.json")
        failed = [raw for raw in block["transactions"] if not raw["success"]]
        assert len(failed) == 2
        for raw in failed:
            assert parse.chain_tx(raw["hash"], raw).status is TxStatus.REVERTED
            assert told(raw) == []


class TestFrauds:
    def test_a_failed_transaction_with_the_right_events_moved_nothing(self) -> None:
        raw = executed(Move(PAYEE, 5))
        assert [units for *_, units in told(raw)] == [5]
        assert told(raw | {"success": False}) == []

    def test_a_coin_of_the_same_name_is_another_coin(self) -> None:
        raw = executed(Move(PAYEE, 5, LOOK_ALIKE, "coin_v1"))
        (found,) = told(raw)
        assert found[1:] == (None, "0xbadc0ffee%3A%3Aasset%3A%3AUSDT", PAYEE, 5)

    def test_an_event_of_the_same_name_in_another_module_is_no_deposit(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        event(raw, "0x1::fungible_asset::Deposit")["type"] = "0xbad::fungible_asset::Deposit"
        assert told(raw) == []

    @pytest.mark.parametrize("kind", [None, [], {}, 5])
    def test_an_event_of_no_type_is_the_nodes_failure(self, kind: object) -> None:
        raw = executed(Move(PAYEE, 5))
        raw["events"][0]["type"] = kind
        with pytest.raises(MalformedError):
            told(raw)

    def test_a_secondary_store_can_be_emptied_by_whoever_made_it(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT, "secondary"), Move(PAYEE, 6, USDT))
        assert told(raw) == [(3, f"{CHAIN}/fungible:{USDT}", USDT, PAYEE, 6)]

    def test_a_store_that_says_it_is_of_another_owner_is_not_believed(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        store = primary_store(PAYEE, USDT)
        for change in raw["changes"]:
            if parse.address(change["address"]) == store and change["data"]["type"] == "0x1::object::ObjectCore":
                change["data"]["data"]["owner"] = "0x77"
        assert told(raw) == []

    def test_a_deposit_into_a_store_that_did_not_change_is_none(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        store = primary_store(PAYEE, USDT)
        raw["changes"] = [change for change in raw["changes"] if parse.address(change["address"]) != store]
        assert told(raw) == []

    def test_what_the_balance_does_not_bear_out_is_no_asset_of_ours(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        event(raw, "0x1::fungible_asset::Deposit")["data"]["amount"] = "6"
        assert [(asset, units) for _, asset, _, _, units in told(raw)] == [(None, 6)]

    def test_coins_too_have_to_be_there(self) -> None:
        raw = executed(Move(PAYEE, 5, LZ_USDT_TYPE, "coin_v1"))
        event(raw, "0x1::coin::DepositEvent")["data"]["amount"] = "6"
        assert [(asset, units) for _, asset, _, _, units in told(raw)] == [(None, 6)]

    def test_coins_that_move_to_their_owners_primary_store_bring_nothing(self) -> None:
        # As the framework of 2024 told it: the store's end, then a deposit of what had been in it.
        raw = executed(Move(PAYEE, 5, APT_METADATA), Move(PAYEE, 6, APT_METADATA))
        deposits = [i for i, e in enumerate(raw["events"]) if e["type"] == "0x1::fungible_asset::Deposit"]
        ended: Json = {
            "guid": {"creation_number": "0", "account_address": "0x0"},
            "sequence_number": "0",
            "type": "0x1::coin::CoinEventHandleDeletion",
            "data": {
                "event_handle_creation_address": PAYEE,
                "deleted_deposit_event_handle_creation_number": "2",
                "deleted_withdraw_event_handle_creation_number": "3",
            },
        }
        raw["events"][deposits[0] - 1] = ended
        assert [(index, units) for index, *_, units in told(raw)] == [(deposits[1], 6)]
        ended["data"]["event_handle_creation_address"] = PAYER
        assert [units for *_, units in told(raw)] == [5, 6]


class TestCoins:
    @pytest.mark.parametrize("way", ["coin", "coin_v1", "coin_v2"])
    def test_a_transfer_counts_once_however_many_events_tell_of_it(self, way: Any) -> None:
        raw = executed(
            Move(PAYEE, 5, LZ_USDT_TYPE, way), Move(PAYEE, 5, LZ_USDT_TYPE, way), Move(PAYER, 7, LZ_USDT_TYPE, way)
        )
        found = told(raw)
        assert [(asset, recipient, units) for _, asset, _, recipient, units in found] == [
            (f"{CHAIN}/coin:{LZ_USDT}", PAYEE, 5),
            (f"{CHAIN}/coin:{LZ_USDT}", PAYEE, 5),
            (f"{CHAIN}/coin:{LZ_USDT}", PAYER, 7),
        ]
        kinds = {raw["events"][index]["type"] for index, *_ in found}
        assert kinds == {"0x1::coin::DepositEvent" if way == "coin_v1" else "0x1::coin::CoinDeposit"}

    def test_apt_is_one_asset_as_a_coin_and_as_a_fungible_asset(self) -> None:
        raw = executed(Move(PAYEE, 5, "0x1::aptos_coin::AptosCoin", "coin"), Move(PAYEE, 6))
        assert [(asset, contract, units) for _, asset, contract, _, units in told(raw)] == [
            (APT, None, 5),
            (APT, None, 6),
        ]
        assert [asset for _, asset, *_ in told(raw, replace(ASSETS, native=None))] == [None, None]

    def test_nothing_is_reported_too(self) -> None:
        assert [units for *_, units in told(executed(Move(PAYEE, 0, LZ_USDT_TYPE, "coin_v1")))] == [0]

    def test_a_coin_store_that_ends_in_the_same_transaction_still_got_what_came_before(self) -> None:
        raw = executed(Move(PAYEE, 5, LZ_USDT_TYPE, "coin_v1"))
        kept = [change for change in raw["changes"] if change["data"]["type"].startswith("0x1::coin::CoinStore<")]
        (store,) = [change for change in kept if change["address"] != long(PAYER)]
        raw["changes"].remove(store)
        raw["changes"].append(
            {
                "address": store["address"],
                "state_key_hash": store["state_key_hash"],
                "resource": store["data"]["type"],
                "type": "delete_resource",
            }
        )
        assert told(raw) == []
        deletion = {
            "coin_type": LZ_USDT_TYPE,
            "event_handle_creation_address": PAYEE,
            "deleted_deposit_event_handle_creation_number": "2",
            "deleted_withdraw_event_handle_creation_number": "3",
        }
        raw["events"].append({"guid": {}, "type": "0x1::coin::CoinStoreDeletion", "data": deletion})
        assert [(asset, units) for _, asset, _, _, units in told(raw)] == [(f"{CHAIN}/coin:{LZ_USDT}", 5)]


class TestFungibleAssets:
    def test_a_balance_may_be_an_aggregator(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT, "concurrent"))
        assert told(raw) == [(1, f"{CHAIN}/fungible:{USDT}", USDT, PAYEE, 5)]

    def test_what_comes_and_goes_in_one_transaction_is_told_as_it_came(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        store = primary_store(PAYEE, USDT)
        for change in raw["changes"]:
            if parse.address(change["address"]) == store and "balance" in change["data"]["data"]:
                change["data"]["data"]["balance"] = "1"
        assert [asset for _, asset, *_ in told(raw)] == [None]
        gone = {"type": "0x1::fungible_asset::Withdraw", "data": {"amount": "4", "store": store}}
        raw["events"].append(gone)
        assert told(raw) == [(1, f"{CHAIN}/fungible:{USDT}", USDT, PAYEE, 5)]

    @pytest.mark.parametrize("way", ["coin_v1", "coin_v2"])
    def test_coins_that_come_and_go_are_told_as_they_came(self, way: Any) -> None:
        raw = executed(Move(PAYEE, 5, LZ_USDT_TYPE, way))
        for change in raw["changes"]:
            if change["address"] == PAYEE and change["data"]["type"].startswith("0x1::coin::CoinStore"):
                change["data"]["data"]["coin"]["value"] = "1"
        assert [asset for _, asset, *_ in told(raw)] == [None]
        gone = {
            "coin_v1": {
                "guid": {"creation_number": "3", "account_address": PAYEE},
                "type": "0x1::coin::WithdrawEvent",
                "data": {"amount": "4"},
            },
            "coin_v2": {
                "type": "0x1::coin::CoinWithdraw",
                "data": {"account": PAYEE, "amount": "4", "coin_type": LZ_USDT_TYPE},
            },
        }
        raw["events"].append(gone[way])
        assert [asset for _, asset, *_ in told(raw)] == [f"{CHAIN}/coin:{LZ_USDT}"]

    def test_only_those_to_watched_addresses_if_so_asked(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT), Move(PAYER, 6, USDT))
        (found,) = transfers(raw, BLOCK, ASSETS, frozenset({PAYEE}))
        assert (found.index, found.units) == (1, 5)

    def test_other_programs_may_write_and_say_what_they_like(self) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        raw["events"].append({"type": "0xbad::m::E", "data": None})
        raw["changes"] += [
            {"type": "write_table_item", "data": None, "handle": "0x1", "key": "0x", "value": "0x"},
            {"type": "write_module", "address": "0xbad", "data": {"bytecode": "0x", "abi": None}},
            {"type": "write_resource", "address": "0xbad", "data": {"type": "0xbad::m::CoinStore<u8>", "data": {}}},
            {"type": "delete_resource", "address": "0xbad", "resource": "0xbad::m::R"},
        ]
        assert [units for *_, units in told(raw)] == [5]

    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            ("0x1::fungible_asset::Deposit", "amount", 5),
            ("0x1::fungible_asset::Deposit", "amount", "5.0"),
            ("0x1::fungible_asset::Deposit", "amount", "-5"),
            ("0x1::fungible_asset::Deposit", "amount", None),
            ("0x1::fungible_asset::Deposit", "store", "0x"),
            ("0x1::fungible_asset::Deposit", "store", 7),
            ("0x1::fungible_asset::Withdraw", "amount", "\u0665"),
        ],
    )
    def test_what_the_framework_can_not_have_said_is_nonsense(self, kind: str, name: str, value: object) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        event(raw, kind)["data"][name] = value
        with pytest.raises(MalformedError):
            told(raw)

    @pytest.mark.parametrize("field", ["events", "changes", "success", "hash", "sender"])
    def test_a_transaction_without_its_parts_is_nonsense(self, field: str) -> None:
        raw = executed(Move(PAYEE, 5, USDT))
        del raw[field]
        with pytest.raises(MalformedError):
            told(raw)
