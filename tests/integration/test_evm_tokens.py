"""Tokens that don't behave like plain ones: what is counted is what arrived, and once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.base import Transfer, TxStatus
from chains.errors import RefusedError
from chains.evm.arrived import _apportioned
from chains.evm.reader import EvmReader
from config.assets import Asset
from core.errors import TransientError
from local.devchain import DevChain
from tests.support.evm import CHAIN, MakeReader, Token, changing, proxy

pytest_plugins = ["tests.support.evm_fixtures"]

PAY = "pay(address[],address[],uint256[])"


def asset(contract: str, **fields: Any) -> Asset:
    return Asset(id=f"{CHAIN}/erc20:{contract.lower()}", symbol="ODD", scale=6, **fields)


def units(reader: EvmReader, chain_tx: str, payee: str) -> list[int]:
    return [t.units for t in reader.chain_txs([chain_tx])[chain_tx].transfers if t.recipient == payee]


class TestFeeOnTransfer:
    @pytest.fixture
    def silent(self, dev_chain: DevChain) -> str:
        """It keeps 2.5 % and does not say so."""
        return dev_chain.deploy("SilentFeeToken", "Silent", "SIL", 6, 10**18, 250)

    @pytest.fixture
    def reader(self, make_evm_reader: MakeReader, silent: str) -> EvmReader:
        return make_evm_reader(more=[asset(silent, fee_on_transfer=True)])

    def test_what_arrived_is_told_and_not_what_was_sent(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, reader: EvmReader, silent: str
    ) -> None:
        payee = dev_chain.new_account()
        first = dev_chain.height + 1
        ids = [dev_chain.send_token(silent, payee, sent) for sent in (1_000, 2_000)]
        assert [units(reader, chain_tx, payee) for chain_tx in ids] == [[975], [1_950]]
        scanned = reader.scan(first, dev_chain.height, [payee]).transfers
        assert [t.units for t in scanned] == [975, 1_950] and dev_chain.balance(payee, token=silent) == 2_925
        # Who does not list it as such is told what its log says.
        trusting = make_evm_reader(more=[asset(silent)])
        assert units(trusting, ids[0], payee) == [1_000]

    def test_several_in_one_block_are_never_more_than_the_balance_grew(
        self, dev_chain: DevChain, reader: EvmReader, silent: str
    ) -> None:
        payee, other, payer = dev_chain.new_account(), dev_chain.new_account(), dev_chain.deploy("Payer")
        dev_chain.send_token(silent, payer, 10**6)
        with dev_chain.no_mining():
            ids = [
                dev_chain.transact(payer, PAY, [silent] * 3, [payee, other, payee], [1_001, 999, 777]),
                dev_chain.send_token(silent, payee, 333),
            ]
            here = dev_chain.mine()
        told = {
            (t.chain_tx, t.index): t.units for tx in reader.chain_txs(ids).values() for t in tx.transfers if t.asset
        }
        scanned = reader.scan(here, here, [payee, other]).transfers
        assert {(t.chain_tx, t.index): t.units for t in scanned} == {
            key: value for key, value in told.items() if key in {(t.chain_tx, t.index) for t in scanned}
        }
        mine = [t.units for t in scanned if t.recipient == payee]
        grew = dev_chain.balance(payee, token=silent)
        assert len(mine) == 3 and grew - 3 < sum(mine) <= grew
        assert [t.units for t in scanned if t.recipient == other] == [dev_chain.balance(other, token=silent)]

    def test_what_was_paid_out_in_the_same_block_makes_it_a_lower_bound(
        self, dev_chain: DevChain, reader: EvmReader, silent: str
    ) -> None:
        payee = dev_chain.new_account(units=10**18)
        dev_chain.send_token(silent, payee, 1_000)
        with dev_chain.no_mining():
            paid = dev_chain.send_token(silent, payee, 1_000)
            dev_chain.send_token(silent, dev_chain.new_account(), 600, sender=payee)
            dev_chain.mine()
        assert units(reader, paid, payee) == [375]

    def test_one_pays_oneself_nothing(self, dev_chain: DevChain, reader: EvmReader, silent: str) -> None:
        payee = dev_chain.new_account(units=10**18)
        dev_chain.send_token(silent, payee, 1_000)
        with dev_chain.no_mining():
            own = dev_chain.send_token(silent, payee, 900, sender=payee)
            paid = dev_chain.send_token(silent, payee, 1_000)
            dev_chain.mine()
        assert units(reader, own, payee) == [0]
        assert units(reader, paid, payee)[0] <= 975

    def test_an_honest_token_is_told_as_before(self, dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
        honest = dev_chain.deploy("FeeToken", "Fee", "FEE", 6, 10**18, 250)
        payee = dev_chain.new_account()
        reader = make_evm_reader(more=[asset(honest, fee_on_transfer=True)])
        assert units(reader, dev_chain.send_token(honest, payee, 1_000), payee) == [975]

    def test_plain_tokens_cost_no_more_for_it(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, token: Token, silent: str
    ) -> None:
        chain_tx = dev_chain.send_token(token.address, dev_chain.new_account(), 5)
        with proxy(dev_chain.url) as node:
            reader = make_evm_reader(node.url, more=[asset(silent, fee_on_transfer=True)])
            assert reader.chain_txs([chain_tx])[chain_tx].status is TxStatus.SUCCEEDED
            assert "eth_call" not in node.methods and len(node.bodies) == 2

    def test_a_node_without_the_state_is_asked_no_further(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, silent: str
    ) -> None:
        payee = dev_chain.new_account()
        chain_tx = dev_chain.send_token(silent, payee, 1_000)
        listed = [asset(silent, fee_on_transfer=True)]

        def pruned(body: Any, answers: Any) -> Any:
            calls = {call["id"] for call in body if call["method"] == "eth_call"}
            error = {"code": -32000, "message": "missing trie node"}
            return [{"id": a["id"], "error": error} if a["id"] in calls else a for a in answers]

        with proxy(dev_chain.url, pruned) as node:
            with pytest.raises(RefusedError, match="missing trie node"):
                make_evm_reader(node.url, more=listed).chain_txs([chain_tx])
            with pytest.raises(RefusedError, match="missing trie node"):
                make_evm_reader(node.url, more=listed).scan(dev_chain.height, dev_chain.height, [payee])
            archive = make_evm_reader(node.url, dev_chain.url, more=listed)
            assert units(archive, chain_tx, payee) == [975]

    @pytest.mark.parametrize(
        "broken",
        [
            {"error": {"code": 3, "message": "execution reverted: too many requests", "data": "0x"}},
            {"error": {"code": -32000, "message": "invalid opcode: INVALID"}},
            {"result": "0x"},
            {"result": "0x" + "ff" * 64},
        ],
        ids=["reverts", "invalid", "no contract any more", "no number"],
    )
    def test_a_token_that_does_not_tell_balances_stops_nobody_else(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, token: Token, silent: str, broken: dict[str, Any]
    ) -> None:
        payee, first = dev_chain.new_account(), dev_chain.height + 1
        ids = [dev_chain.send_token(silent, payee, 1_000), dev_chain.send_token(token.address, payee, 5)]

        def failing(body: Any, answers: Any) -> Any:
            theirs = {
                call["id"]
                for call in body
                if call["method"] == "eth_call" and call["params"][0]["to"].lower() == silent.lower()
            }
            return [{"id": a["id"]} | broken if a["id"] in theirs else a for a in answers]

        with proxy(dev_chain.url, failing) as node:
            reader = make_evm_reader(node.url, more=[asset(silent, fee_on_transfer=True)])
            assert [units(reader, chain_tx, payee) for chain_tx in ids] == [[0], [5]]
            assert [t.units for t in reader.scan(first, dev_chain.height, [payee]).transfers] == [0, 5]

    def test_a_log_that_vanished_meanwhile_fails_the_reading(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, silent: str
    ) -> None:
        payee = dev_chain.new_account()
        chain_tx = dev_chain.send_token(silent, payee, 1_000)
        with proxy(dev_chain.url, changing("eth_getLogs", lambda _: [])) as node:
            reader = make_evm_reader(node.url, more=[asset(silent, fee_on_transfer=True)])
            with pytest.raises(TransientError, match="changed under the reading"):
                reader.chain_txs([chain_tx])

    @given(st.lists(st.integers(0, 2**256 - 1), max_size=8), st.integers(0, 2**256 - 1), st.lists(st.booleans()))
    def test_shares_are_whole_and_never_more_in_sum(self, sent: list[int], grew: int, own: list[bool]) -> None:
        logged = [
            Transfer("c", "t", index, "a", "k", "r" if own[index : index + 1] == [True] else "s", "r", each, 1, "b")
            for index, each in enumerate(sent)
        ]
        shares = _apportioned(("b", "k", "r"), logged, grew)
        assert shares.keys() == {("b", index) for index in range(len(sent))}
        assert sum(shares.values()) <= grew
        assert all(0 <= shares["b", each.index] <= each.units for each in logged)
        if sum(each.units for each in logged if each.sender != "r") <= grew:
            assert all(shares["b", each.index] == each.units for each in logged if each.sender != "r")


class TestWrappedCoin:
    @pytest.mark.parametrize("both", [False, True], ids=["like WETH9", "with both events"])
    def test_wrapping_is_counted_at_most_once(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, *, both: bool
    ) -> None:
        wrapped = dev_chain.deploy("WrappedCoin", both)
        reader = make_evm_reader(more=[asset(wrapped)])
        payee = dev_chain.new_account(units=10**18)
        first = dev_chain.height + 1
        ids = [
            dev_chain.transact(wrapped, "depositTo(address)", payee, units=700),
            dev_chain.transact(wrapped, "deposit()", sender=payee, units=50),
            dev_chain.transact(wrapped, "withdraw(uint256)", 20, sender=payee),
        ]
        scanned = reader.scan(first, dev_chain.height, [payee]).transfers
        told = [t for tx in reader.chain_txs(ids).values() for t in tx.transfers if t.recipient == payee]
        # Without a Transfer nobody was paid by anybody: an event of another name is no promise of an ERC-20.
        assert [t.units for t in scanned] == [t.units for t in told] == ([700, 50] if both else [])
        dev_chain.transact(wrapped, "deposit()", units=90)
        paid = dev_chain.send_token(wrapped, payee, 90)
        assert units(reader, paid, payee) == [90]


class TestManyInOneTransaction:
    def test_coins_that_a_contract_passes_on_are_not_seen_and_its_tokens_are(
        self, dev_chain: DevChain, reader: EvmReader, token: Token
    ) -> None:
        payer, zero = dev_chain.deploy("Payer"), "0x" + "00" * 20
        a, b = dev_chain.new_account(), dev_chain.new_account()
        dev_chain.send_token(token.address, payer, 100)
        args = [token.address, zero, token.address, token.address], [a, a, b, a], [1, 2, 3, 1]
        chain_tx = dev_chain.transact(payer, PAY, *args, units=2)
        found = reader.chain_txs([chain_tx])[chain_tx].transfers
        assert [(t.recipient, t.units) for t in found if t.asset == token.asset] == [(a, 1), (b, 3), (a, 1)]
        assert [t.units for t in found if t.recipient == payer] == [2]
        assert dev_chain.balance(a) == 2  # it arrived all the same: docs/chains-evm.md, known limits
        scanned = reader.scan(dev_chain.height, dev_chain.height, [a, b]).transfers
        assert sorted(t.index for t in scanned) == sorted(t.index for t in found if t.asset == token.asset)
