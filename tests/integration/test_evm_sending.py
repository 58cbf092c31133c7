"""Paying on a real EVM node: at most one version of an order is ever mined, and it is found out which."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from chains.base import TxStatus
from chains.errors import RefusedError
from chains.evm import reception
from chains.evm.fees import Market, Prices
from chains.evm.reader import EvmReader
from chains.evm.sender import CANCEL_GAS, PLAIN_GAS, EvmSender
from chains.sending import Order, OrderRefusedError, Reception, Terms, Version
from config.assets import Asset, Chain, Node
from core.errors import PermanentError, TransientError
from local.anvil import Anvil
from local.devchain import GWEI, DevChain
from signer.evm import EvmSigner
from tests.support.evm import CHAIN, COIN, changing, proxy

ETHER = 10**18
ONE, OTHER = "127.0.0.1", "localhost"
"""Two hosts, as far as anybody can tell by their names."""
FINAL_AFTER = 2
"""Blocks on top of one, until anvil calls it finalized."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """Our own: base fees and reorgs are everybody's on a node."""
    node = Anvil(tmp_path_factory.mktemp("anvil"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def chain(node: Anvil) -> Iterator[DevChain]:
    with DevChain(node.url) as chain:
        yield chain
        chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        chain.mine()


@pytest.fixture(scope="module")
def token(node: Anvil) -> str:
    with DevChain(node.url) as chain:
        return chain.deploy("TestToken", "Tether USD", "USDT", 6, 10**18).lower()


def asset_of(token: str) -> str:
    return f"{CHAIN}/erc20:{token}"


def described(*urls: str) -> Chain:
    return Chain(
        id=CHAIN,
        name="Development",
        namespace="eip155",
        confirmations=2,
        reorg_depth=16,
        block_time_ms=1000,
        nodes=tuple(Node(url=url) for url in urls),
    )


def sender_of(*urls: str, tokens: tuple[str, ...] = ()) -> EvmSender:
    assets = [Asset(id=COIN, symbol="ETH", scale=18)]
    assets += [Asset(id=asset_of(each), symbol="USDT", scale=6) for each in tokens]
    return EvmSender(described(*urls), assets, read_timeout=5)


@pytest.fixture
def sender(node: Anvil, token: str) -> EvmSender:
    return sender_of(node.url, tokens=(token,))


@dataclass
class Wallet:
    """Of ours, and what the signer does with it."""

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def address(self) -> str:
        return EvmSigner().address(CHAIN, self.secret)

    def order(self, to: str, units: int, asset: str = COIN, **fields: Any) -> Order:
        order = Order(reference=secrets.token_hex(8), chain=CHAIN, wallet=self.address, asset=asset, to=to, units=units)
        return replace(order, **fields)

    def sign(self, order: Order, terms: Terms, number: int = 1) -> Version:
        signed = EvmSigner().build(self.secret, order, terms)
        assert signed.fee_max == terms.fee_max and signed.conflicts == set(terms.inputs)
        return Version(number=number, terms=terms, chain_tx=signed.chain_tx, raw=signed.raw)

    def first(self, sender: EvmSender, order: Order, reserved: tuple[str, ...] = ()) -> Version:
        return self.sign(order, sender.terms(order, reserved=reserved))

    def elsewhere(self, chain: DevChain, nonce: int, *, price: int = 20 * GWEI) -> str:
        """The wallet's key is used by somebody else."""
        order = self.order(chain.accounts[1], 1)
        fields = {"gas": str(PLAIN_GAS), "gas_price": str(price)}
        terms = Terms(inputs=(f"{self.address}/{nonce}",), fee_max=PLAIN_GAS * price, fields=fields)
        return str(chain.rpc("eth_sendRawTransaction", "0x" + self.sign(order, terms).raw))


@pytest.fixture
def wallet(chain: DevChain, token: str) -> Wallet:
    made = Wallet()
    chain.fund(made.address, ETHER)
    chain.send_token(token, made.address, 1_000)
    return made


def refused(what: str, ask: Callable[[], Any]) -> str:
    with pytest.raises(OrderRefusedError) as caught:
        ask()
    assert caught.value.what == what
    return str(caught.value)


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

    def test_a_node_that_knows_no_pending_count(self, chain: DevChain, node: Anvil, wallet: Wallet) -> None:
        def without(body: Any, answers: Any) -> Any:
            odd = {call["id"] for call in body if call["params"][-1:] == ["pending"]}
            error = {"code": -32602, "message": "unknown tag"}
            return [{"id": each["id"], "error": error} if each["id"] in odd else each for each in answers]

        with proxy(node.url, without) as plain:
            terms = sender_of(plain.url).terms(wallet.order(chain.new_account(), 1), reserved=())
        assert terms.inputs == (f"{wallet.address}/0",)


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
            # From now on whatever outbids it cancels as well.
            assert sender.raised(order, [paying, cancel]) is None
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
        def without(body: Any, answers: Any) -> Any:
            odd = {call["id"] for call in body if call["method"] == "eth_maxPriorityFeePerGas"}
            error = {"code": -32601, "message": "method not found"}
            return [{"id": each["id"], "error": error} if each["id"] in odd else each for each in answers]

        with proxy(node.url, without) as old:
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
        def busy(body: Any, answers: Any) -> Any:
            odd = {call["id"] for call in body if call["method"] == "eth_estimateGas"}
            error = {"code": -32000, "message": "missing trie node"}
            return [{"id": each["id"], "error": error} if each["id"] in odd else each for each in answers]

        order = wallet.order(chain.new_account(), 5)
        with proxy(node.url, busy) as sick:
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


def pruned(before: int) -> Callable[[Any, Any], Any]:
    """For `proxy`: a node that has no state of older blocks."""

    def change(body: Any, answers: Any) -> Any:
        old = {
            call["id"]
            for call in body
            if call["method"] == "eth_getTransactionCount"
            and call["params"][1].startswith("0x")
            and int(call["params"][1], 16) < before
        }
        error = {"code": -32000, "message": "missing trie node"}
        return [{"id": each["id"], "error": error} if each["id"] in old else each for each in answers]

    return change


class TestDead:
    @pytest.fixture
    def replaced(self, chain: DevChain, sender: EvmSender, wallet: Wallet) -> Version:
        """A version whose nonce somebody else has used, in the newest block."""
        version = wallet.first(sender, wallet.order(chain.new_account(), 600))
        with chain.no_mining():
            wallet.elsewhere(chain, 0)
            assert not sender.dead([version])
            chain.mine()
        assert sender.broadcast(version).reception is Reception.LATE
        return version

    @pytest.fixture
    def paid(self, chain: DevChain, sender: EvmSender, wallet: Wallet) -> Version:
        """A version that is in a final block."""
        version = wallet.first(sender, wallet.order(chain.new_account(), 600))
        assert sender.broadcast(version).reception is Reception.TAKEN
        chain.wait_mined(version.chain_tx)
        chain.mine(FINAL_AFTER + 1)
        return version

    def test_only_when_the_foreign_one_is_final(self, chain: DevChain, sender: EvmSender, replaced: Version) -> None:
        seen = []
        for _ in range(FINAL_AFTER + 1):
            seen.append(sender.dead([replaced]))
            chain.mine()
        assert seen == [False] * FINAL_AFTER + [True]
        assert sender.costs([replaced.chain_tx]) == {}

    def test_it_is_found_far_back_in_few_requests(self, chain: DevChain, node: Anvil, replaced: Version) -> None:
        chain.mine(300)
        with proxy(node.url) as seen:
            assert sender_of(seen.url).dead([replaced])
            assert len(seen.bodies) < 10

    def test_a_receipt_that_a_node_has_lost_proves_nothing(self, chain: DevChain, node: Anvil, paid: Version) -> None:
        # All of the hosts have: pruned, indexing, or a bug of the node's.
        lost = changing("eth_getTransactionReceipt", lambda _: None)
        with proxy(node.url, lost) as one, proxy(node.url, lost) as other:
            assert not sender_of(one.url).dead([paid])
            assert not sender_of(one.url, other.url.replace(ONE, OTHER)).dead([paid])

    @pytest.mark.parametrize("liar_first", [True, False])
    def test_one_host_that_makes_up_a_foreign_one_is_not_enough(
        self, node: Anvil, paid: Version, liar_first: bool
    ) -> None:
        def forge(body: Any, answers: Any) -> Any:
            asked = {call["id"]: call["method"] for call in body}
            for answer in answers:
                if asked[answer["id"]] == "eth_getTransactionReceipt":
                    answer["result"] = None
                elif asked[answer["id"]] == "eth_getBlockByNumber":
                    for tx in answer["result"]["transactions"]:
                        if isinstance(tx, dict) and tx["hash"] == paid.chain_tx:
                            tx["hash"] = "0x" + "cd" * 32
            return answers

        with proxy(node.url, forge) as liar, proxy(node.url) as honest:
            assert sender_of(liar.url).dead([paid])  # alone it is believed: the test's lie is a good one
            urls = [liar.url, honest.url.replace(ONE, OTHER)]
            assert not sender_of(*(urls if liar_first else reversed(urls))).dead([paid])

    def test_both_hosts_must_have_come_so_far(self, chain: DevChain, node: Anvil, replaced: Version) -> None:
        chain.mine(FINAL_AFTER)
        behind = [True]

        def lag(body: Any, answers: Any) -> Any:
            tags = {call["id"]: call["params"][0] for call in body if call["method"] == "eth_getBlockByNumber"}
            for answer in answers if behind[0] else ():
                if tags.get(answer["id"]) in ("latest", "finalized"):
                    answer["result"]["number"] = "0x1"
            return answers

        with proxy(node.url, lag) as late:
            pair = sender_of(node.url, late.url.replace(ONE, OTHER))
            assert not pair.dead([replaced])
            behind[0] = False
            assert pair.dead([replaced])

    def test_without_the_second_host_nothing_is_proven(self, chain: DevChain, node: Anvil, replaced: Version) -> None:
        chain.mine(FINAL_AFTER)
        assert sender_of(node.url).dead([replaced])
        assert not sender_of(node.url, f"http://{OTHER}:1").dead([replaced])

    def test_one_node_that_remembers_is_enough_to_know_where_to_look(
        self, chain: DevChain, node: Anvil, replaced: Version
    ) -> None:
        here = chain.mine(40)
        with proxy(node.url, pruned(before=here - 30)) as full:
            assert not sender_of(full.url).dead([replaced])
            other = full.url.replace(ONE, OTHER)
            assert sender_of(other, node.url).dead([replaced])
        with proxy(node.url, pruned(before=here - 45)) as full:
            assert sender_of(full.url).dead([replaced])  # asked in time

    def test_a_nonce_that_was_used_by_no_transaction_stays_for_people(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet
    ) -> None:
        version = wallet.first(sender, wallet.order(chain.new_account(), 600))
        chain.mine()
        chain.rpc("anvil_setNonce", wallet.address, "0x1")  # as by a delegation (EIP-7702)
        chain.mine(FINAL_AFTER + 1)
        assert sender.broadcast(version).reception is Reception.LATE
        assert not sender.dead([version])


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
        full = {"code": -32000, "message": "txpool is full, project SECRETKEY123"}

        def refuses(body: Any, answers: Any) -> Any:
            sent = {call["id"] for call in body if call["method"] == "eth_sendRawTransaction"}
            return [{"id": each["id"], "error": full} if each["id"] in sent else each for each in answers]

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


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("already known", Reception.TAKEN),
        ("ALREADY_EXISTS: already known", Reception.TAKEN),
        ("AlreadyKnown", Reception.TAKEN),
        ("Known transaction", Reception.TAKEN),
        ("existing txn with same hash", Reception.TAKEN),
        ("INTERNAL_ERROR: existing tx with same hash", Reception.TAKEN),
        ("transaction already imported", Reception.TAKEN),
        ("Transaction with the same hash was already imported.", Reception.TAKEN),
        ("nonce too low: next nonce 8, tx nonce 7", Reception.LATE),
        ("Nonce too low", Reception.LATE),
        ("OldNonce, Current nonce: 8, nonce of rejected tx: 7", Reception.LATE),
        ("Transaction nonce is too low. Try incrementing the nonce.", Reception.LATE),
        ("replacement transaction underpriced", Reception.LOW),
        ("transaction underpriced: tip needed 1000000, tip permitted 0", Reception.LOW),
        ("transaction underpriced, so it is either in pool2 or pool3", Reception.LOW),
        ("transaction gas price below minimum: gas tip cap 0, minimum needed 1", Reception.LOW),
        ("max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 7", Reception.LOW),
        ("INTERNAL_ERROR: could not replace existing tx", Reception.LOW),
        ("fee too low", Reception.LOW),
        ("FeeTooLowToCompete", Reception.LOW),
        ("ReplacementNotAllowed", Reception.LOW),
        ("Gas price below current base fee", Reception.LOW),
        (
            "Transaction gas price is too low. There is another transaction with same nonce in the queue.",
            Reception.LOW,
        ),
        ("insufficient funds for gas * price + value", Reception.REFUSED),
        ("intrinsic gas too low: gas 20000, minimum needed 21000", Reception.REFUSED),
        ("nonce too high: tx nonce 9, gapped nonce 7", Reception.REFUSED),
        ("in-flight transaction limit reached for delegated accounts", Reception.REFUSED),
        ("tx fee (1.05 ether) exceeds the configured cap (1.00 ether)", Reception.REFUSED),
    ],
)
def test_what_the_words_of_a_node_mean(words: str, meant: Reception) -> None:
    refusal = RefusedError(f"node refused eth_sendRawTransaction: {words}")
    refusal.words = words
    assert reception.of(refusal).reception is meant
