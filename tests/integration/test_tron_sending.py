"""Payouts on Tron: built by the sender, signed by the signer, taken over java-tron's wire, and read by the reader."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tronpy import Contract, Tron  # type: ignore[import-untyped]
from tronpy.exceptions import AddressNotFound  # type: ignore[import-untyped]
from tronpy.providers import HTTPProvider  # type: ignore[import-untyped]

from chains.base import TxStatus
from chains.sending import Order, OrderRefusedError, Reception, Version
from chains.tron import formats
from chains.tron.planning import LIFE_MS
from chains.tron.sender import TronSender
from config.assets import Asset, Chain, Node
from core.errors import TransientError
from signer.tron import TronSigner
from tests.support.tron import recorded
from tests.support.tron.node import Change, TronChain, TronNode, hex_of, serving
from tests.support.tron.paying import ENERGY, ENERGY_NEW, ENERGY_SUN
from tests.support.tron.readers import CHAIN, COIN, TOKEN, TOKEN_ASSET, make_reader

SECRET = hashlib.sha256(b"our wallet").digest()
WALLET = TronSigner().address(CHAIN, SECRET)
RICH = 10**12
STEP_MS = 3_000

_numbers = itertools.count(1)


def new_address() -> str:
    return formats.spelled(bytes([0x41]) + hashlib.sha256(f"payee {next(_numbers)}".encode()).digest()[:20])


def order(to: str, units: int, asset: str = COIN, *, tag: str | None = None) -> Order:
    reference = f"payout-{next(_numbers)}"
    return Order(reference=reference, chain=CHAIN, wallet=WALLET, asset=asset, to=to, units=units, tag=tag)


def sender_of(*urls: str) -> TronSender:
    nodes = tuple(Node(url=url) for url in urls)
    given: dict[str, Any] = {"confirmations": "finalized", "reorg_depth": 0, "block_time_ms": 3000, "head_age_max_s": 0}
    chain = Chain(id=CHAIN, name="Development", namespace="tron", nodes=nodes, **given)
    return TronSender(chain, [Asset(id=id_, symbol="T", scale=6) for id_ in (COIN, TOKEN_ASSET)], read_timeout=5.0)


@dataclass
class Desk:
    node: TronNode
    sender: TronSender

    @property
    def chain(self) -> TronChain:
        return self.node.chain

    def version(self, asked: Order) -> Version:
        terms = self.sender.terms(asked, reserved=())
        signed = TronSigner().build(SECRET, asked, terms)
        assert (signed.fee_max, signed.ends, signed.conflicts) == (terms.fee_max, terms.ends, frozenset())
        return Version(number=1, terms=terms, chain_tx=signed.chain_tx, raw=signed.raw)

    def sent(self, asked: Order) -> Version:
        version = self.version(asked)
        assert self.sender.broadcast(version).reception is Reception.TAKEN
        return version

    def refused(self, asked: Order) -> str:
        with pytest.raises(OrderRefusedError) as error:
            self.sender.terms(asked, reserved=())
        return error.value.what

    def known(self, *, tokens: int = 0) -> str:
        """An address that has had something before."""
        address = new_address()
        self.chain.accounts.coins[hex_of(address)] = 1
        if tokens:
            self.chain.accounts.tokens[hex_of(TOKEN), hex_of(address)] = tokens
        return address

    def settle(self) -> None:
        self.chain.mine(1 + self.chain.solid_lag, after_ms=STEP_MS)

    def pass_end(self, version: Version) -> None:
        """Until the solid head's time is that of its end, or later, and not a block more."""
        while self.chain.time_of(self.chain.solid) < (version.terms.ends or 0):
            self.chain.mine(after_ms=STEP_MS)


@pytest.fixture
def desk() -> Iterator[Desk]:
    chain = TronChain(recorded.MAINNET_GENESIS)
    chain.accounts.coins[hex_of(WALLET)] = RICH
    chain.accounts.tokens[hex_of(TOKEN), hex_of(WALLET)] = 10**9
    chain.mine(5)
    with serving(chain) as node:
        yield Desk(node, sender_of(node.url))


class TestPaying:
    def test_coins_arrive_with_their_memo_and_cost_what_was_said(self, desk: Desk) -> None:
        recipient = desk.known()
        version = desk.sent(order(recipient, 5_000_000, tag="user-77"))
        desk.settle()
        tx = make_reader(desk.node.url).chain_txs([version.chain_tx])[version.chain_tx]
        (moved,) = tx.transfers
        assert (moved.sender, moved.recipient, moved.units, moved.asset) == (WALLET, recipient, 5_000_000, COIN)
        assert moved.tags == ("user-77",)
        cost = desk.sender.costs([version.chain_tx])[version.chain_tx]
        assert desk.sender.balance(WALLET, COIN) == RICH - 5_000_000 - cost
        assert 1_000_000 + 265_000 < cost < 1_300_000 and cost + 1_100_000 == version.terms.fee_max

    def test_a_recipient_that_has_never_had_anything_is_activated(self, desk: Desk) -> None:
        recipient = new_address()
        first = desk.sent(order(recipient, 7))
        desk.settle()
        second = desk.sent(order(recipient, 8))
        desk.settle()
        costs = desk.sender.costs([first.chain_tx, second.chain_tx])
        assert costs[first.chain_tx] - costs[second.chain_tx] == 1_100_000
        assert costs[first.chain_tx] == first.terms.fee_max and desk.sender.balance(recipient, COIN) == 15

    def test_tokens_arrive_and_cost_their_energy(self, desk: Desk) -> None:
        versions = [desk.sent(order(to, 12, TOKEN_ASSET)) for to in (desk.known(tokens=5), new_address())]
        desk.settle()
        told = make_reader(desk.node.url).chain_txs([one.chain_tx for one in versions])
        assert [[(part.asset, part.units) for part in tx.transfers] for tx in told.values()] == [
            [(TOKEN_ASSET, 12)]
        ] * 2
        assert desk.sender.balance(WALLET, TOKEN_ASSET) == 10**9 - 24
        costs = desk.sender.costs(list(told))
        net = 345_000
        assert [costs[one.chain_tx] for one in versions] == [
            pytest.approx(energy * ENERGY_SUN + net, abs=20_000) for energy in (ENERGY, ENERGY_NEW)
        ]
        assert [int(one.terms.fields["fee_limit"]) for one in versions] == [160_713 * ENERGY_SUN, 325_713 * ENERGY_SUN]
        assert desk.sender.balance(WALLET, COIN) == RICH - sum(costs.values())
        assert all(costs[one.chain_tx] < one.terms.fee_max < 40_000_000 for one in versions)

    def test_a_recipient_that_was_emptied_meanwhile_is_paid_all_the_same(self, desk: Desk) -> None:
        recipient = desk.known(tokens=5)
        version = desk.sent(order(recipient, 12, TOKEN_ASSET))
        del desk.chain.accounts.tokens[hex_of(TOKEN), hex_of(recipient)]
        desk.settle()
        assert desk.sender.balance(recipient, TOKEN_ASSET) == 12
        assert desk.sender.costs([version.chain_tx])[version.chain_tx] <= version.terms.fee_max

    def test_what_fails_in_its_block_costs_its_energy(self, desk: Desk) -> None:
        first, second = (desk.sent(order(desk.known(), 10**9, TOKEN_ASSET)) for _ in range(2))
        desk.settle()
        told = make_reader(desk.node.url).chain_txs([first.chain_tx, second.chain_tx])
        assert [tx.status for tx in told.values()] == [TxStatus.SUCCEEDED, TxStatus.REVERTED]
        assert 0 < desk.sender.costs([second.chain_tx])[second.chain_tx] <= second.terms.fee_max
        assert not desk.sender.dead([second])

    def test_two_orders_that_are_alike_are_two_payments(self, desk: Desk) -> None:
        recipient = desk.known()
        versions = [desk.sent(order(recipient, 9)) for _ in range(2)]
        assert versions[0].terms == versions[1].terms and versions[0].chain_tx != versions[1].chain_tx
        desk.settle()
        assert desk.sender.balance(recipient, COIN) == 1 + 18

    def test_terms_name_a_solid_block_and_end_in_minutes(self, desk: Desk) -> None:
        version = desk.version(order(desk.known(), 9))
        solid = desk.chain.solid
        assert version.terms.fields == {"block": str(solid), "block_hash": desk.chain.blocks[solid]["blockID"]}
        assert version.terms.ends == desk.chain.time_of(solid) + LIFE_MS and version.terms.inputs == ()
        assert (
            desk.sender.raised(order(WALLET, 1), [version])
            is desk.sender.cancelling(order(WALLET, 1), [version])
            is None
        )


class TestRefusals:
    """Before anything is signed."""

    def test_too_little(self, desk: Desk) -> None:
        assert desk.refused(order(desk.known(), RICH)) == "funds"
        assert desk.refused(order(desk.known(), 10**9 + 1, TOKEN_ASSET)) == "funds"
        assert desk.refused(replace(order(desk.known(), 1), wallet=new_address())) == "funds"
        desk.chain.accounts.coins[hex_of(WALLET)] = 16_000_000  # the energy of most, not the whole that it may take
        assert desk.refused(order(desk.known(tokens=1), 5, TOKEN_ASSET)) == "funds"

    def test_recipients_that_can_not_take_it(self, desk: Desk) -> None:
        contract = desk.known()
        desk.chain.accounts.contracts.add(hex_of(contract))
        assert desk.refused(order(contract, 5)) == "destination"
        assert desk.sender.terms(order(contract, 5, TOKEN_ASSET), reserved=())  # some are wallets
        assert desk.refused(order(WALLET, 5)) == "destination"
        assert desk.refused(order(TOKEN, 5, TOKEN_ASSET)) == "destination"
        assert desk.refused(order(formats.spelled(bytes([0x41]) + bytes(20)), 5)) == "destination"
        assert desk.refused(order(hex_of(contract), 5)) == "destination"
        assert desk.refused(order(new_address(), 5, tag="\n")) == "destination"
        desk.chain.accounts.refusing.add(hex_of(TOKEN))
        # What is undone is told twice, and once is enough.
        answers: list[dict[str, Any]] = [{}, {"transaction": {}}, {"result": {"result": True}}]
        for told in answers:
            desk.node.change = only("triggerconstantcontract", _with(told))
            assert desk.refused(order(desk.known(), 5, TOKEN_ASSET)) == "destination"

    def test_tokens_that_are_not_what_they_seem(self, desk: Desk) -> None:
        assert desk.refused(order(desk.known(), 5, f"{CHAIN}/trc20:{new_address()}")) == "order"
        assert desk.refused(order(desk.known(), 5, f"{CHAIN}/trc10:1000617")) == "order"
        desk.chain.accounts.fees_taken[hex_of(TOKEN)] = 1
        assert desk.refused(order(desk.known(), 5, TOKEN_ASSET)) == "order"

    @pytest.mark.parametrize("price", ["getTransactionFee", "getMemoFee", "getCreateAccountFee"])
    def test_a_network_that_asks_for_more_than_all_is_counted_with(self, desk: Desk, price: str) -> None:
        desk.chain.accounts.prices[price] += 1
        assert desk.refused(order(desk.known(), 5)) == "order"

    def test_energy_that_costs_more_than_the_network_takes(self, desk: Desk) -> None:
        desk.chain.accounts.prices["getEnergyFee"] = 100_000
        assert desk.refused(order(desk.known(), 5, TOKEN_ASSET)) == "order"


class TestBroadcasting:
    def test_any_number_of_times(self, desk: Desk) -> None:
        version = desk.sent(order(desk.known(), 5))
        assert desk.sender.broadcast(version).reception is Reception.TAKEN  # it waits
        desk.settle()
        told = desk.sender.broadcast(version)
        assert told.reception is Reception.TAKEN and "DUP_TRANSACTION_ERROR" in (told.why or "")
        desk.pass_end(version)
        assert desk.sender.broadcast(version).reception is Reception.LATE

    def test_the_loss_of_a_node_is_none(self, desk: Desk) -> None:
        version = desk.version(order(desk.known(), 5))
        down = "http://localhost:1/SECRETKEY123"
        assert sender_of(down, desk.node.url).broadcast(version).reception is Reception.TAKEN
        with pytest.raises(TransientError) as error:
            sender_of(down).broadcast(version)
        assert "SECRETKEY" not in str(error.value)

    def test_what_a_node_makes_of_it(self, desk: Desk) -> None:
        version = desk.version(order(desk.known(), 5))
        forged = replace(version, raw=version.raw[:-20] + "00" * 9 + version.raw[-2:])
        told = desk.sender.broadcast(forged)
        assert told.reception is Reception.REFUSED and (told.why or "").startswith("SIGERROR")
        with serving(TronChain(recorded.MAINNET_GENESIS)) as other:  # of the same name, and without that block
            assert sender_of(other.url).broadcast(version).reception is Reception.LATE
        desk.chain.accounts.coins[hex_of(WALLET)] = 1
        told = desk.sender.broadcast(version)
        assert told.reception is Reception.REFUSED and "balance is not sufficient" in (told.why or "")

    @pytest.mark.parametrize(
        "answer",
        [{"result": False, "code": "SERVER_BUSY"}, {"code": "NO_CONNECTION", "message": "x"}, {}, {"result": True}],
        ids=str,
    )
    def test_a_node_that_has_not_answered(self, desk: Desk, answer: dict[str, Any]) -> None:
        version = desk.version(order(desk.known(), 5))
        desk.node.change = only("broadcasthex", lambda _: answer)
        with pytest.raises(TransientError):
            desk.sender.broadcast(version)


class TestDeath:
    def test_only_a_solid_block_past_its_end_proves_it(self, desk: Desk) -> None:
        version = desk.sent(order(desk.known(), 5))
        desk.chain.drop(version.chain_tx)
        ends = version.terms.ends or 0
        while desk.chain.time_of(desk.chain.newest) < ends:
            assert not desk.sender.dead([version])
            desk.chain.mine(20, after_ms=STEP_MS)
        desk.chain.stands_at = max(n for n in desk.chain.blocks if desk.chain.time_of(n) < ends)
        desk.chain.mine(desk.chain.solid_lag, after_ms=STEP_MS)
        assert desk.chain.solid == desk.chain.stands_at and not desk.sender.dead([version])
        desk.chain.stands_at += 1
        assert desk.sender.dead([version]) and desk.sender.dead([])

    def test_landed_in_the_last_block_that_takes_it(self, desk: Desk) -> None:
        """Whose own time is past its end: only the one before it counts."""
        version = desk.version(order(desk.known(), 5))
        ends = version.terms.ends or 0
        while desk.chain.time_of(desk.chain.newest) + STEP_MS < ends:
            desk.chain.mine(after_ms=STEP_MS)
        assert desk.sender.broadcast(version).reception is Reception.TAKEN
        desk.chain.mine(after_ms=3 * STEP_MS)
        desk.chain.mine(desk.chain.solid_lag, after_ms=STEP_MS)
        landed = desk.chain.infos[version.chain_tx]["blockNumber"]
        assert desk.chain.time_of(landed) > ends and not desk.sender.dead([version])
        tx = make_reader(desk.node.url).chain_txs([version.chain_tx])[version.chain_tx]
        assert tx.status is TxStatus.SUCCEEDED
        desk.node.change = only("gettransactioninfobyid", lambda _: {})  # nor does a hole in an index make it so
        assert not desk.sender.dead([version])


def _with(told: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda answer: answer | told


def only(method: str, change: Callable[[Any], Any]) -> Change:
    return lambda path, _params, answer: change(answer) if path.endswith("/" + method) else answer


class TestNodesThatProveNothing:
    @pytest.fixture
    def landed(self, desk: Desk) -> Version:
        version = desk.sent(order(desk.known(), 5))
        desk.pass_end(version)
        return version

    @pytest.fixture
    def ended(self, desk: Desk) -> Version:
        version = desk.version(order(desk.known(), 5))
        desk.pass_end(version)
        return version

    def test_history_that_is_not_kept(self, desk: Desk, landed: Version) -> None:
        """No index, then no blocks, no transactions in them, or not all of the blocks."""
        number = desk.chain.infos[landed.chain_tx]["blockNumber"]

        def without(blocks: Callable[[list[Any]], Any]) -> Change:
            def change(path: str, _params: dict[str, Any], answer: Any) -> Any:
                if path.endswith("gettransactioninfobyid"):
                    return {}
                if path.endswith("getblockbylimitnext"):
                    return {"block": blocks(answer["block"])}
                return answer

            return change

        def number_of(block: Any) -> int:
            return int(block["block_header"]["raw_data"]["number"])

        for change, why in (
            (without(lambda _: []), "not all blocks"),
            (
                without(lambda blocks: [{k: v for k, v in b.items() if k != "transactions"} for b in blocks]),
                "without the",
            ),
            (without(lambda blocks: [b for b in blocks if number_of(b) != number]), "does not follow"),
        ):
            desk.node.change = change
            with pytest.raises(TransientError, match=why):
                sender_of(desk.node.url).dead([landed])
        lite = {"Error": "this API is closed because this node is a lite fullnode"}
        desk.node.change = only("gettransactioninfobyid", lambda _: lite)
        with pytest.raises(TransientError):
            sender_of(desk.node.url).dead([landed])

    def test_one_host_of_two_is_not_enough(self, desk: Desk, ended: Version) -> None:
        assert desk.sender.dead([ended])
        assert sender_of(desk.node.url, desk.node.url + "/").dead([ended])  # one host, twice
        with ExitStack() as stack:
            second = stack.enter_context(serving(desk.chain, host="localhost"))
            assert sender_of(desk.node.url, second.url).dead([ended])
            second.change = only("getblock", lambda answer: answer | _header(desk, desk.chain.solid - 1))
            assert not sender_of(desk.node.url, second.url).dead([ended])
            assert not sender_of(second.url, desk.node.url).dead([ended])
        assert not sender_of(desk.node.url, "http://localhost:1/SECRETKEY123").dead([ended])

    def test_another_chain_of_blocks(self, desk: Desk, ended: Version) -> None:
        other = f"{int(ended.terms.fields['block']):016x}" + "ab" * 24
        terms = replace(ended.terms, fields=dict(ended.terms.fields) | {"block_hash": other})
        with pytest.raises(TransientError, match="another id"):
            desk.sender.dead([replace(ended, terms=terms)])


def test_tronpy_reads_the_doubles_accounts_and_prices_alike(desk: Desk) -> None:
    """So that the wire format is not only ours."""
    tronpy = Tron(HTTPProvider(desk.node.url + "/", timeout=5))
    assert tronpy.get_account_balance(WALLET) * 10**6 == desk.sender.balance(WALLET, COIN) == RICH
    kinds = {"stateMutability": "view", "inputs": [{"name": "who", "type": "address"}]}
    abi = [{"type": "function", "name": "balanceOf", "outputs": [{"name": "", "type": "uint256"}], **kinds}]
    token = Contract(addr=TOKEN, bytecode="", name="Test", abi=abi, owner_address=WALLET, client=tronpy)
    assert token.functions.balanceOf(WALLET) == desk.sender.balance(WALLET, TOKEN_ASSET) == 10**9
    assert {"key": "getEnergyFee", "value": ENERGY_SUN} in tronpy.get_chain_parameters()
    with pytest.raises(AddressNotFound):
        tronpy.get_account(new_address())


GARBAGE: list[Any] = [None, -1, {"result": {}}, {"block": [{}]}, True]


def test_garbage_is_a_failure_of_the_node(desk: Desk) -> None:
    """In place of any one answer. What is absent (an account, an info) is believed where it may be so."""
    asked = order(desk.known(tokens=1), 5, TOKEN_ASSET)
    version, never = desk.sent(asked), desk.version(replace(asked, reference="never"))
    desk.settle()
    desk.pass_end(never)
    waiting = desk.version(replace(asked, reference="waiting"))
    asks: dict[str, Callable[[TronSender], Any]] = {
        "terms": lambda sender: sender.terms(asked, reserved=()),
        "broadcast": lambda sender: sender.broadcast(waiting),
        "costs": lambda sender: sender.costs([version.chain_tx]),
        "balance": lambda sender: sender.balance(WALLET, TOKEN_ASSET),
        "dead": lambda sender: sender.dead([never]),
    }
    at: dict[str, Any] = {"method": "", "garbage": None}

    def change(path: str, _params: dict[str, Any], answer: Any) -> Any:
        return at["garbage"] if path.endswith("/" + at["method"]) else answer

    desk.node.change = change
    for name, ask in asks.items():
        at["method"] = "none of them"
        desk.node.paths.clear()
        sender = sender_of(desk.node.url)
        ask(sender)
        methods = {path.rpartition("/")[2] for path in desk.node.paths} - {"getblockbynum"}
        for at["method"] in sorted(methods):
            for at["garbage"] in GARBAGE:
                told: Any = None
                with suppress(TransientError, OrderRefusedError):
                    told = ask(sender_of(desk.node.url) if name == "dead" else sender)
                assert told is None or told is False, (name, at, told)


def _header(desk: Desk, number: int) -> dict[str, Any]:
    held = desk.chain.blocks[number]
    return {"blockID": held["blockID"], "block_header": held["block_header"]}
