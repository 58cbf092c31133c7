"""Paying on a real EVM node: at most one version of an order is ever mined, and it is found out which."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from chains.base import TxStatus
from chains.errors import RefusedError
from chains.evm.fees import Market, Prices
from chains.evm.reader import EvmReader
from chains.evm.sender import CANCEL_GAS, PLAIN_GAS, EvmSender
from chains.sending import OrderRefusedError, Reception, Terms
from config.assets import Asset
from core.errors import PermanentError, TransientError
from local.anvil import Anvil
from local.devchain import DevChain
from tests.support.evm import CHAIN, COIN, changing, proxy
from tests.support.evm_sending import (
    ETHER,
    FINAL_AFTER,
    ONE,
    OTHER,
    Wallet,
    asset_of,
    described,
    refused,
    refusing,
    sender_of,
)


def wei(terms: Terms) -> Prices:
    return Prices.of(terms.fields)


class TestPaying:
    @pytest.mark.parametrize("kind", ["coin", "token"])
    def test_an_order_is_paid_once_however_often_it_is_broadcast(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet, token: str, kind: str
    ) -> None:
        payee, contract = chain.new_account(), token if kind == "token" else None
        asset = COIN if contract is None else asset_of(token)
        order = wallet.order(payee, 600, asset)
        before, owned = sender.balance(wallet.address, COIN), sender.balance(wallet.address, asset)
        with chain.no_mining():
            version = wallet.first(sender, order)
            assert version.terms.inputs == (f"{wallet.address}/0",)
            with ThreadPoolExecutor(4) as threads:
                said = list(threads.map(sender.broadcast, [version] * 8))
            assert {each.reception for each in said} == {Reception.TAKEN}
            assert sender.costs([version.chain_tx]) == {}
            chain.mine()
        assert sender.broadcast(version).reception is Reception.LATE
        assert chain.balance(payee, token=contract) == 600
        reader = EvmReader(described(chain.url), [Asset(id=COIN, symbol="ETH", scale=18)])
        seen = reader.chain_txs([version.chain_tx])[version.chain_tx]
        assert seen.status is TxStatus.SUCCEEDED and seen.inputs == version.terms.inputs
        cost = sender.costs([version.chain_tx, "0x" + "ab" * 32])[version.chain_tx]
        assert 0 < cost <= version.terms.fee_max
        moved = 600 if contract is None else 0
        assert sender.balance(wallet.address, COIN) == before - moved - cost
        assert sender.balance(wallet.address, asset) == owned - 600 - (cost if contract is None else 0)
        if contract is None:
            assert version.terms.fields["gas"] == "21000"

    def test_what_reverts_after_all_costs_its_gas(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet, token: str
    ) -> None:
        orders = [wallet.order(chain.new_account(), 600, asset_of(token)) for _ in range(3)]
        one = wallet.first(sender, orders[0])
        other = wallet.first(sender, orders[1], one.terms.inputs)  # each can be paid, both together can't
        with chain.no_mining():
            for version in (one, other):
                assert sender.broadcast(version).reception is Reception.TAKEN
            # What waits is subtracted where a node can tell.
            refused("funds", lambda: sender.terms(orders[2], reserved=(*one.terms.inputs, *other.terms.inputs)))
            chain.mine()
        costs = sender.costs([one.chain_tx, other.chain_tx])
        assert chain.receipt(other.chain_tx)["status"] == "0x0"  # type: ignore[index]
        assert sum(costs.values()) == ETHER - sender.balance(wallet.address, COIN)
        assert len(costs) == 2 and min(costs.values()) > 0

    def test_the_fee_for_data_of_a_rollup_is_a_cost(self, chain: DevChain, node: Anvil, sender: EvmSender) -> None:
        chain_tx = chain.send(chain.new_account(), 1)
        plain = sender.costs([chain_tx])[chain_tx]
        with proxy(node.url, changing("eth_getTransactionReceipt", lambda told: told | {"l1Fee": "0x64"})) as rollup:
            assert sender_of(rollup.url).costs([chain_tx]) == {chain_tx: plain + 100}


class TestNonces:
    def test_gaps_are_filled_and_what_others_use_is_left_alone(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet
    ) -> None:
        order = wallet.order(chain.new_account(), 1)

        def nonce(*reserved: int) -> int:
            (only,) = sender.terms(order, reserved={f"{wallet.address}/{each}" for each in reserved}).inputs
            return int(only.removeprefix(f"{wallet.address}/"))

        wallet.elsewhere(chain, 0)
        chain.mine()
        assert nonce() == 1 and nonce(0, 7) == 1
        assert nonce(1, 2, 4) == 3
        with chain.no_mining():
            waiting = wallet.elsewhere(chain, 1)  # not ours, and in no block yet
            assert nonce() == 2 and nonce(2, 3) == 4
            chain.drop(waiting)
            assert nonce(2, 3) == 1

    def test_a_node_that_does_not_tell_what_waits(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet, token: str
    ) -> None:
        one, other = (wallet.order(chain.new_account(), 600, asset_of(token)) for _ in range(2))
        waiting = wallet.first(sender, one)
        with chain.no_mining(), proxy(chain.url, refusing(lambda call: call["params"][-1:] == ["pending"])) as plain:
            sender.broadcast(waiting)
            refused("funds", lambda: sender.terms(other, reserved=waiting.terms.inputs))
            terms = sender_of(plain.url, tokens=(token,)).terms(other, reserved=waiting.terms.inputs)
            assert terms.inputs == (f"{wallet.address}/1",)


class TestFees:
    def test_a_stuck_version_is_outbid_and_one_of_the_two_is_mined(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet, token: str
    ) -> None:
        payee = chain.new_account()
        order = wallet.order(payee, 600, asset_of(token))
        with chain.no_mining():
            low = wallet.first(sender, order)
            assert sender.broadcast(low).reception is Reception.TAKEN
            assert sender.raised(order, [low]) is None  # it pays enough
            chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(10 * wei(low.terms).most))
            chain.mine()
            assert sender.costs([low.chain_tx]) == {}
            raised = sender.raised(order, [low])
            assert raised is not None and raised.inputs == low.terms.inputs
            assert wei(raised).most > 10 * wei(low.terms).most
            assert 8 * wei(raised).tip >= 9 * wei(low.terms).tip
            high = wallet.sign(order, raised, 2)
            assert sender.broadcast(high).reception is Reception.TAKEN
            assert sender.broadcast(low).reception is Reception.LOW
            chain.mine()
        chain.mine(FINAL_AFTER)
        assert sender.costs([low.chain_tx, high.chain_tx]).keys() == {high.chain_tx}
        assert chain.balance(payee, token=token) == 600
        assert sender.raised(order, [low, high]) is None and sender.cancelling(order, [low, high]) is None
        assert not sender.dead([low, high])

    def test_a_payment_is_cancelled_for_good(self, chain: DevChain, sender: EvmSender, wallet: Wallet) -> None:
        payee = chain.new_account()
        order = wallet.order(payee, 600)
        with chain.no_mining():
            paying = wallet.first(sender, order)
            sender.broadcast(paying)
            terms = sender.cancelling(order, [paying])
            assert terms is not None and terms.cancels and terms.fields["gas"] == "21000"
            cancel = wallet.sign(order, terms, 2)
            assert sender.broadcast(cancel).reception is Reception.TAKEN
            # From now on whatever outbids it cancels as well, and only if that is needed.
            assert sender.raised(order, [paying, cancel]) is None and sender.cancelling(order, [paying, cancel]) is None
            chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(10 * wei(terms).most))
            chain.mine()
            again = sender.raised(order, [paying, cancel])
            assert again is not None and again.cancels
            last = wallet.sign(order, again, 3)
            assert sender.broadcast(last).reception is Reception.TAKEN
            chain.mine()
        assert sender.broadcast(paying).reception is Reception.LATE
        assert chain.balance(payee) == 0
        assert sender.costs([paying.chain_tx, cancel.chain_tx, last.chain_tx]).keys() == {last.chain_tx}
        assert chain.nonce(wallet.address) == 1

    @pytest.mark.parametrize("code", ["WrappedCoin", "TestToken"])
    def test_a_wallet_with_delegated_code_can_cancel(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet, code: str
    ) -> None:
        delegate = chain.deploy(code, *((False,) if code == "WrappedCoin" else ("T", "T", 6, 1)))
        chain.rpc("anvil_setCode", wallet.address, "0xef0100" + delegate[2:].lower())  # EIP-7702
        order = wallet.order(chain.new_account(), 600)
        with chain.no_mining():
            paying = wallet.first(sender, order)
            terms = sender.cancelling(order, [paying])
            assert terms is not None
            gas = int(terms.fields["gas"])
            assert gas > PLAIN_GAS if code == "WrappedCoin" else gas == CANCEL_GAS  # a token takes no coin
            cancel = wallet.sign(order, terms, 2)
            assert sender.broadcast(cancel).reception is Reception.TAKEN
            chain.mine()
        assert sender.broadcast(paying).reception is Reception.LATE
        assert 0 < sender.costs([cancel.chain_tx])[cancel.chain_tx] <= terms.fee_max

    def test_a_chain_without_a_base_fee_is_paid_by_one_price(
        self, chain: DevChain, node: Anvil, wallet: Wallet
    ) -> None:
        def before_london(block: Any) -> Any:
            return {name: value for name, value in block.items() if name != "baseFeePerGas"}

        payee = chain.new_account()
        order = wallet.order(payee, 5)
        with proxy(node.url, changing("eth_getBlockByNumber", before_london)) as old, chain.no_mining():
            sender = sender_of(old.url)
            version = wallet.first(sender, order)
            assert version.terms.fields.keys() == {"gas", "gas_price"}
            assert sender.broadcast(version).reception is Reception.TAKEN
            assert sender.raised(order, [version]) is None
            terms = sender.cancelling(order, [version])
            assert terms is not None and 8 * wei(terms).most >= 9 * wei(version.terms).most
            chain.mine()
        assert chain.balance(payee) == 5

    def test_a_chain_whose_base_fee_is_nothing(self, chain: DevChain, node: Anvil, wallet: Wallet) -> None:
        # BNB Smart Chain, BEP-226: the most is the tip.
        with proxy(node.url, changing("eth_getBlockByNumber", lambda block: block | {"baseFeePerGas": "0x0"})) as bsc:
            terms = sender_of(bsc.url).terms(wallet.order(chain.new_account(), 5), reserved=())
        assert wei(terms).most == wei(terms).tip == int(chain.rpc("eth_maxPriorityFeePerGas"), 16)

    def test_a_node_that_suggests_no_tip(self, chain: DevChain, node: Anvil, wallet: Wallet) -> None:
        with proxy(node.url, refusing(lambda call: call["method"] == "eth_maxPriorityFeePerGas")) as old:
            terms = sender_of(old.url).terms(wallet.order(chain.new_account(), 5), reserved=())
        price, base = (
            int(chain.rpc("eth_gasPrice"), 16),
            int(chain.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16),
        )
        assert wei(terms) == Prices(price + base, price - base)

    def test_prices_are_raised_by_an_eighth_or_to_what_is_offered(self) -> None:
        quiet = Market(base=100, tip=3)
        assert quiet.offer == Prices(203, 3) and quiet.satisfied(Prices(103, 3))
        assert not quiet.satisfied(Prices(102, 3)) and not quiet.satisfied(Prices(500, 2))
        assert quiet.outbidding([Prices(203, 3)]) == Prices(229, 4)
        assert quiet.outbidding([Prices(9, 9), Prices(800, 1)]) == Prices(900, 11)
        assert Market(base=None, tip=8).outbidding([Prices(8, 8, legacy=True)]) == Prices(9, 9, legacy=True)
        assert Market(base=0, tip=1).outbidding([Prices(1, 1)]) == Prices(2, 2)


def stubborn(chain: DevChain, answer: str) -> str:
    """A token of which everybody has 255, and whose `transfer` does as told: EVM code that follows a JUMPDEST."""
    token = chain.new_account().lower()
    chain.rpc("anvil_setCode", token, "0x5f3560e01c63a9059cbb1460165760ff5f5260205ff35b" + answer)
    return token


class TestWhatCanNotBeCarried:
    def test_a_recipient_that_takes_none(self, chain: DevChain, sender: EvmSender, wallet: Wallet) -> None:
        def terms(to: str) -> Terms:
            return sender.terms(wallet.order(to, 5), reserved=())

        contract = chain.deploy("TestToken", "T", "T", 6, 1)
        assert "revert" in refused("destination", lambda: terms(contract))
        refused("destination", lambda: terms("0x" + "0" * 40))
        refused("destination", lambda: terms("0x" + "ab" * 20))  # not EIP-55: the signer takes no other spelling
        own = sender_of(chain.url, tokens=(contract.lower(),))
        refused("destination", lambda: own.terms(wallet.order(contract, 1, asset_of(contract.lower())), reserved=()))

    @pytest.mark.parametrize(
        ("answer", "takes"), [("5f5ffd", False), ("fe", False), ("5f5f5260205ff3", False), ("00", True)]
    )
    def test_a_token_that_says_no(self, chain: DevChain, node: Anvil, wallet: Wallet, answer: str, takes: bool) -> None:
        token = stubborn(chain, answer)  # reverts; breaks; returns false; returns nothing, as old ones do
        sender, order = sender_of(node.url, tokens=(token,)), wallet.order(chain.new_account(), 5, asset_of(token))
        if takes:
            assert int(sender.terms(order, reserved=()).fields["gas"]) > PLAIN_GAS
        else:
            refused("destination", lambda: sender.terms(order, reserved=()))

    def test_a_wallet_that_has_too_little(self, chain: DevChain, sender: EvmSender, wallet: Wallet, token: str) -> None:
        payee = chain.new_account()

        def terms(units: int, asset: str) -> Terms:
            return sender.terms(wallet.order(payee, units, asset), reserved=())

        refused("funds", lambda: terms(1_001, asset_of(token)))
        refused("funds", lambda: terms(ETHER + 1, COIN))
        assert "for gas" in refused("funds", lambda: terms(ETHER, COIN))
        fee_max = terms(1, COIN).fee_max
        assert terms(ETHER - fee_max, COIN).fee_max == fee_max
        chain.fund(wallet.address, terms(1, asset_of(token)).fee_max - 1)
        assert "for gas" in refused("funds", lambda: terms(1, asset_of(token)))

    def test_what_is_no_order_for_the_chain(self, sender: EvmSender, wallet: Wallet, chain: DevChain) -> None:
        payee = chain.new_account()
        odds: tuple[dict[str, Any], ...] = (
            {"chain": "eip155:1"},
            {"asset": f"{CHAIN}/erc20:0x" + "11" * 20},
            {"tag": "x"},
            {"units": 0},
            {"units": 2**256},
            {"wallet": wallet.address.lower()},
        )
        for odd in odds:
            order = replace(wallet.order(payee, 1), **odd)
            with pytest.raises(OrderRefusedError) as caught:
                sender.terms(order, reserved=())
            assert caught.value.what == "order"
        with pytest.raises(PermanentError, match="no asset of"):
            sender.balance(wallet.address, f"{CHAIN}/erc20:0x" + "11" * 20)

    def test_a_node_that_refuses_for_reasons_of_its_own_decides_nothing(
        self, chain: DevChain, node: Anvil, wallet: Wallet
    ) -> None:
        order = wallet.order(chain.new_account(), 5)
        with proxy(node.url, refusing(lambda call: call["method"] == "eth_estimateGas")) as sick:
            with pytest.raises(RefusedError):
                sender_of(sick.url).terms(order, reserved=())
            assert sender_of(sick.url, node.url).terms(order, reserved=()).inputs


class TestReorgs:
    def test_a_payment_that_a_reorg_drops_comes_back_by_its_own_bytes(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet
    ) -> None:
        payee = chain.new_account()
        version = wallet.first(sender, wallet.order(payee, 600))
        with chain.no_mining():
            sender.broadcast(version)
            chain.mine()
            assert chain.balance(payee) == 600
            chain.reorg(1)
            assert chain.balance(payee) == 0 and sender.costs([version.chain_tx]) == {}
            assert not sender.dead([version])
            assert sender.broadcast(version).reception is Reception.TAKEN
            chain.mine()
        assert chain.balance(payee) == 600 and chain.nonce(wallet.address) == 1
        assert sender.costs([version.chain_tx]).keys() == {version.chain_tx}


class TestNodes:
    def test_one_of_two_that_is_down_costs_a_broadcast_nothing(
        self, chain: DevChain, node: Anvil, wallet: Wallet
    ) -> None:
        payee = chain.new_account()
        both = sender_of(f"http://{OTHER}:1", node.url)
        version = wallet.first(both, wallet.order(payee, 600))
        with chain.no_mining():
            assert both.broadcast(version).reception is Reception.TAKEN
            with pytest.raises(TransientError):
                sender_of(f"http://{OTHER}:1", f"http://{ONE}:1").broadcast(version)
            chain.mine()
        assert chain.balance(payee) == 600

    def test_all_nodes_are_told_and_one_that_has_it_is_enough(
        self, chain: DevChain, node: Anvil, wallet: Wallet
    ) -> None:
        refuses = refusing(
            lambda call: call["method"] == "eth_sendRawTransaction", "txpool is full, project SECRETKEY123"
        )
        version = wallet.first(sender_of(node.url), wallet.order(chain.new_account(), 600))
        with chain.no_mining(), proxy(node.url) as one, proxy(node.url, refuses) as other:
            said = sender_of(other.url).broadcast(version)
            assert said.reception is Reception.REFUSED
            assert "txpool is full" in (said.why or "") and "SECRETKEY" not in (said.why or "")
            both = sender_of(other.url, one.url.replace(ONE, OTHER))
            assert both.broadcast(version).reception is Reception.TAKEN
            assert [node.methods.count("eth_sendRawTransaction") for node in (one, other)] == [1, 2]

    def test_a_node_that_tells_of_another_hash_is_not_believed(
        self, chain: DevChain, node: Anvil, wallet: Wallet
    ) -> None:
        version = wallet.first(sender_of(node.url), wallet.order(chain.new_account(), 600))
        lie = changing("eth_sendRawTransaction", lambda _: "0x" + "cd" * 32)
        with proxy(node.url, lie) as odd, pytest.raises(TransientError, match="nonsense"):
            sender_of(odd.url).broadcast(version)
