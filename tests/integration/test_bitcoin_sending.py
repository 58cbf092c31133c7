"""Payments on a real regtest node: paid once, whatever is raised, cancelled, undone or spent by others."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from btclib import b32, b58
from btclib.tx.tx import Tx

from chains.base import TxStatus
from chains.bitcoin.payment import Coin, Plan, written
from chains.bitcoin.payment import terms_of as terms_from
from chains.bitcoin.sender import BitcoinSender
from chains.sending import Order, OrderRefusedError, Reception, Terms, Version
from chains.signing import terms_body, terms_of
from config.assets import Asset, Chain, Node
from core.errors import PermanentError, TransientError
from local.bitcoin_chain import RegtestChain
from signer.bitcoin import BitcoinSigner
from tests.support.bitcoin import COIN, REGTEST, Change, MakeReader, altered
from tests.support.evm import FakeNode, changing

pytest_plugins = ["tests.support.bitcoin_fixtures"]

UNITS = 1_000_000
DEPTH = 3
SIGNER = BitcoinSigner()
_numbers = itertools.count(1)


@dataclass
class Wallet:
    """A key of its own, its orders, and what its versions may use yet."""

    chain: RegtestChain
    secret: bytes = field(default_factory=lambda: hashlib.sha256(b"sending %d" % next(_numbers)).digest())
    reserved: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return SIGNER.address(REGTEST, self.secret)

    def fund(self, *units: int) -> None:
        self.chain.send(*[(self.address, each) for each in units])
        self.chain.mine()

    def order(self, to: str | None = None, units: int = UNITS) -> Order:
        return Order(
            reference=f"order-{next(_numbers)}",
            chain=REGTEST,
            wallet=self.address,
            asset=COIN,
            to=to or self.chain.new_address(),
            units=units,
        )

    def sign(self, order: Order, terms: Terms | None, number: int = 1) -> Version:
        """Of terms that have been in the database, as there are no others."""
        assert terms is not None
        kept = terms_of(json.loads(json.dumps(terms_body(terms))))
        signed = SIGNER.build(self.secret, order, kept)
        assert signed.conflicts == set(terms.inputs) and signed.fee_max == terms.fee_max
        self.reserved |= signed.conflicts
        return Version(number=number, terms=kept, chain_tx=signed.chain_tx, raw=signed.raw)

    def first(self, sender: BitcoinSender, order: Order) -> Version:
        return self.sign(order, sender.terms(order, reserved=self.reserved))


@pytest.fixture
def wallet(regtest: RegtestChain, nothing_waits: None) -> Wallet:
    made = Wallet(regtest)
    regtest.watch(made.address)
    return made


MakeSender = Callable[..., BitcoinSender]


@pytest.fixture
def make_sender(regtest: RegtestChain) -> MakeSender:
    def make(*urls: str, reorg_depth: int = DEPTH) -> BitcoinSender:
        chain = Chain(
            id=REGTEST,
            name="Regtest",
            namespace="bip122",
            confirmations=2,
            reorg_depth=reorg_depth,
            block_time_ms=1_000,
            head_age_max_s=0,
            nodes=tuple(Node(url=url) for url in urls or [regtest.url]),
        )
        return BitcoinSender(chain, [Asset(id=COIN, symbol="BTC", scale=8)], read_timeout=5)

    return make


@pytest.fixture
def sender(make_sender: MakeSender) -> BitcoinSender:
    return make_sender()


@contextmanager
def asking(chain: RegtestChain, *rates: float | None) -> Iterator[list[FakeNode]]:
    """Nodes that estimate these fees (BTC for 1,000 vbytes), or know too little."""
    with ExitStack() as stack:
        told = [{"feerate": rate} if rate else {"errors": ["Insufficient data or no feerate found"]} for rate in rates]
        yield [stack.enter_context(altered(chain, answering("estimatesmartfee", each))) for each in told]


def answering(method: str, result: Any) -> Change:
    return changing(method, lambda _: result)


def fee(version: Version) -> int:
    return version.terms.fee_max


def took(sender: BitcoinSender, version: Version) -> None:
    told = sender.broadcast(version)
    assert told.reception is Reception.TAKEN, told


# --- paid once -------------------------------------------------------------------------------------------------------


def test_every_kind_of_address_is_paid_and_the_change_comes_back(
    sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain, make_bitcoin_reader: MakeReader
) -> None:
    payees = [
        b58.address_from_h160("p2pkh", b"\x41" * 20, "regtest"),
        b58.address_from_h160("p2sh", b"\x42" * 20, "regtest"),
        b32.address_from_witness(0, b"\x43" * 20, "regtest"),
        b32.address_from_witness(0, b"\x44" * 32, "regtest"),
        b32.address_from_witness(1, b"\x45" * 32, "regtest"),
    ]
    wallet.fund(*[3 * UNITS] * 5)
    orders = [wallet.order(to, UNITS + place) for place, to in enumerate(payees)]
    versions = [wallet.first(sender, order) for order in orders]
    assert len(wallet.reserved) == 5, "each has an output of its own"
    for version in versions:
        took(sender, version)
        took(sender, version)  # again
    assert sender.balance(wallet.address, COIN) == 15 * UNITS, "blocks know nothing of it yet"
    assert sender.costs([version.chain_tx for version in versions]) == {}
    regtest.mine()
    took(sender, versions[0])  # also when it is in a block: its outputs are there
    paid = make_bitcoin_reader().chain_txs([version.chain_tx for version in versions])
    for order, version in zip(orders, versions, strict=True):
        first, *change = paid[version.chain_tx].transfers
        assert (first.recipient, first.units) == (order.to, order.units)
        assert {each.recipient for each in change} == {wallet.address} and len(change) == 1
        assert 3 * UNITS - order.units - sum(each.units for each in change) == fee(version)
        vsize = regtest.rpc("getrawtransaction", version.chain_tx, 1)["vsize"]
        assert fee(version) >= vsize, "a satoshi for each vbyte at least"
    assert sender.costs([version.chain_tx for version in versions]) == {each.chain_tx: fee(each) for each in versions}
    spent = sum(order.units for order in orders) + sum(map(fee, versions))
    assert sender.balance(wallet.address, COIN) == 15 * UNITS - spent


def test_a_lone_output_becomes_many_by_paying(sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain) -> None:
    wallet.fund(40 * UNITS)
    for expected in (1, 2, 4):
        made = [wallet.first(sender, wallet.order()) for _ in range(expected)]
        with pytest.raises(OrderRefusedError) as refused:
            wallet.first(sender, wallet.order())
        assert refused.value.what == "funds"
        for version in made:
            took(sender, version)
        regtest.mine()


def test_one_that_waits_too_long_is_outbid_and_one_is_mined(
    make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    wallet.fund(5 * UNITS)
    with asking(regtest, 0.00002, None, 0.0005) as nodes:
        low, silent, high = (make_sender(node.url) for node in nodes)
        order = wallet.order()
        versions = [wallet.first(low, order)]
        took(low, versions[0])
        for sender in (low, silent, high):
            versions.append(wallet.sign(order, sender.raised(order, versions), len(versions) + 1))
            assert low.broadcast(versions[-1]).reception is Reception.TAKEN, "it outbids what waits"
        fees = list(map(fee, versions))
        assert fees[1] - fees[0] >= 140, "no need: a satoshi more for each vbyte"
        assert fees[2] * 2 >= fees[1] * 3 - 2, "unknown: half as much again"
        assert fees[3] >= 50 * 140 and regtest.waiting == [versions[3].chain_tx]
        assert low.broadcast(versions[0]).reception is Reception.LOW
        assert len({version.terms.inputs for version in versions}) == 1
        regtest.mine()
        assert high.raised(order, versions) is None, "one is in a block"
        assert low.broadcast(versions[0]).reception is Reception.LATE
        assert low.costs([version.chain_tx for version in versions]) == {versions[3].chain_tx: fees[3]}
        regtest.mine(DEPTH + 1)
        assert not low.dead(versions)


def test_more_inputs_pay_for_it_only_if_the_others_are_told(
    make_sender: MakeSender, sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    wallet.fund(UNITS + 2_000, UNITS // 10, UNITS // 20)
    order = wallet.order()
    first = wallet.first(sender, order)
    took(sender, first)
    with asking(regtest, 0.0002) as (node,):
        dearer = make_sender(node.url)
        assert dearer.raised(order, [first]) is None
        terms = dearer.raised(order, [first], reserved=wallet.reserved)
        assert terms is not None and terms.inputs[:1] == first.terms.inputs and len(terms.inputs) == 2
        other = dearer.raised(order, [first], reserved={*wallet.reserved, terms.inputs[1]})
        assert other is not None and len(other.inputs) == 2 and other.inputs[1] != terms.inputs[1]
        second = wallet.sign(order, terms, 2)
        took(dearer, second)
        third = wallet.sign(order, dearer.raised(order, [first, second], reserved=wallet.reserved), 3)
        assert set(third.terms.inputs) >= set(second.terms.inputs)
        took(dearer, third)
    assert regtest.waiting == [third.chain_tx]


def test_what_is_too_large_for_the_signer_is_done_without(
    make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = make_sender()
    wallet.fund(UNITS + 20_000)
    many = regtest.send((wallet.address, 5 * UNITS), *[(regtest.new_address(), UNITS)] * 20)
    regtest.mine()
    order = wallet.order()
    assert sender.terms(order, reserved=()).inputs == (f"{many}:0",)
    monkeypatch.setattr("chains.bitcoin.sender.PARENTS_MAX", 800)
    version = wallet.first(sender, order)
    assert not version.terms.inputs[0].startswith(many)
    took(sender, version)
    with pytest.raises(OrderRefusedError, match="can't be paid"):
        sender.terms(wallet.order(units=2 * UNITS), reserved=())
    with asking(regtest, 0.002) as (node,):  # more than the change
        dearer = make_sender(node.url)
        assert dearer.raised(order, [version], reserved=wallet.reserved) is None
        monkeypatch.undo()
        assert dearer.raised(order, [version], reserved=wallet.reserved) is not None


def test_it_outbids_what_was_made_of_it_as_well(sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain) -> None:
    """Who was paid has spent it in turn before it was in a block: BIP-125 counts that fee too."""
    wallet.fund(5 * UNITS)
    payee = Wallet(regtest)
    order = wallet.order(payee.address)
    first = wallet.first(sender, order)
    took(sender, first)
    parent = Tx.parse(bytes.fromhex(first.raw))
    coin, costs = Coin(first.chain_tx, 0, UNITS), 30_000
    plan = Plan((coin,), (UNITS // 2 - costs,), costs)
    child = terms_from(plan, {first.chain_tx: parent}, cancels=False, block=0)
    took(sender, payee.sign(payee.order(units=UNITS // 2), child))
    second = wallet.sign(order, sender.raised(order, [first]), 2)
    assert fee(second) >= fee(first) + costs + 140
    took(sender, second)
    assert regtest.waiting == [second.chain_tx]


def test_a_rest_too_small_for_an_output_goes_to_the_fee(
    make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    alone, with_change, least = 110, 141, 294  # vbytes at a satoshi each; and the dust limit of P2WPKH
    with asking(regtest, 0.00001) as (node,):
        sender = make_sender(node.url)
        for rest, change, costs in (
            (alone - 1, None, 0),
            (alone, (), alone),
            (with_change + least - 1, (), with_change + least - 1),
            (with_change + least, (least,), with_change),
        ):
            payer = Wallet(regtest)
            regtest.watch(payer.address)
            payer.fund(UNITS + rest)
            if change is None:
                with pytest.raises(OrderRefusedError, match="can't be paid"):
                    payer.first(sender, payer.order())
                continue
            version = payer.first(sender, payer.order())
            assert (written(version.terms).plan.change, fee(version)) == (change, costs)
            took(sender, version)


def test_cancelled_all_comes_back(sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain) -> None:
    wallet.fund(3 * UNITS)
    order = wallet.order()
    first = wallet.first(sender, order)
    took(sender, first)
    second = wallet.sign(order, sender.cancelling(order, [first]), 2)
    assert second.terms.cancels and second.terms.inputs == first.terms.inputs
    took(sender, second)
    third = wallet.sign(order, sender.raised(order, [first, second]), 3)
    assert third.terms.cancels, "what is being cancelled isn't paid after all"
    took(sender, third)
    regtest.mine()
    assert sender.broadcast(first).reception is Reception.LATE
    assert sender.costs([third.chain_tx]) == {third.chain_tx: fee(third)}
    assert sender.balance(wallet.address, COIN) == 3 * UNITS - fee(third)
    regtest.mine(DEPTH - 1)
    assert not sender.dead([first])
    regtest.mine()
    assert sender.dead([first]) and sender.dead([first, second]) and not sender.dead([first, second, third])


# --- undone, and spent by others -------------------------------------------------------------------------------------


def in_the_way(wallet: Wallet, version: Version, *, to: str | None = None, units: int = 2 * UNITS) -> Version:
    """Of somebody else who has the key: the same inputs, another payment, a higher fee."""
    order = wallet.order(to, units)
    total = sum(coin.units for coin in written(version.terms).plan.coins)
    fields = {**version.terms.fields, "change": [str(total - units - 9_000)]}
    return wallet.sign(order, replace(version.terms, fee_max=9_000, cancels=False, fields=fields))


def test_undone_by_a_reorg_it_is_broadcast_again(
    sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain, make_bitcoin_reader: MakeReader
) -> None:
    wallet.fund(3 * UNITS)
    version = wallet.first(sender, wallet.order())
    took(sender, version)
    regtest.mine()
    regtest.undo(1)
    assert regtest.waiting == [] and sender.costs([version.chain_tx]) == {} and not sender.dead([version])
    took(sender, version)
    regtest.mine()
    status = make_bitcoin_reader().chain_txs([version.chain_tx])[version.chain_tx].status
    assert status is TxStatus.SUCCEEDED and sender.costs([version.chain_tx]) == {version.chain_tx: fee(version)}


def test_it_is_dead_once_another_has_its_input_deep_in_the_chain(
    sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    wallet.fund(5 * UNITS)
    order = wallet.order()
    first = wallet.first(sender, order)
    took(sender, first)
    second = wallet.sign(order, sender.raised(order, [first]), 2)
    versions = [first, second]
    other = in_the_way(wallet, first)
    took(sender, other)
    assert not sender.dead(versions)
    regtest.mine(DEPTH)
    assert sender.broadcast(second).reception is Reception.LATE
    assert not sender.dead(versions), "a reorg may undo it yet"
    assert sender.raised(order, versions) is None and sender.cancelling(order, versions) is None
    regtest.undo(DEPTH)
    assert not sender.dead(versions)
    took(sender, other)
    regtest.mine(DEPTH + 1)
    assert sender.dead(versions) and not sender.dead([*versions, other]) and not sender.dead([])


def test_what_pays_just_the_same_proves_nothing(sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain) -> None:
    """It may be a version of which our books have lost the row: nobody must be paid twice for that."""
    wallet.fund(5 * UNITS)
    order = wallet.order()
    version = wallet.first(sender, order)
    lost = in_the_way(wallet, version, to=order.to, units=order.units)
    took(sender, lost)
    regtest.mine(DEPTH + 2)
    assert not sender.dead([version]) and sender.dead([in_the_way(wallet, version)])


def test_dead_is_one_whose_input_was_undone_with_the_version_that_made_it(
    sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    """Its input was the change of an earlier payment, of which another version is in the chain now."""
    wallet.fund(9 * UNITS)
    earlier = wallet.order()
    first = wallet.first(sender, earlier)
    took(sender, first)
    second = wallet.sign(earlier, sender.raised(earlier, [first]), 2)
    regtest.mine()
    version = wallet.first(sender, wallet.order())
    assert version.terms.inputs[0].startswith(first.chain_tx)
    took(sender, version)
    regtest.drop(version.chain_tx)
    regtest.undo(1)
    assert not sender.dead([version]), "it only waits for its input to come back"
    took(sender, second)
    regtest.mine(DEPTH)
    assert not sender.dead([version])
    regtest.mine()
    assert sender.dead([version])


# --- nodes that are lost, lag or lie ---------------------------------------------------------------------------------


def elsewhere(node: FakeNode) -> str:
    """The same node under another host's name."""
    return node.url.replace("127.0.0.1", "localhost")


def gone(_body: Any, _answers: Any) -> Any:
    return 502, {}, b"bad gateway"


def test_the_loss_of_a_node_stops_no_payment_and_proves_no_death(
    make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    wallet.fund(3 * UNITS)
    with altered(regtest, gone) as lost, altered(regtest, lambda _, answers: answers) as sound:
        order = wallet.order()
        sender = make_sender(elsewhere(lost), sound.url)
        version = wallet.first(sender, order)
        took(sender, version)
        took(sender, in_the_way(wallet, version))
        regtest.mine(DEPTH + 1)
        assert not make_sender(elsewhere(lost), sound.url).dead([version]), "one host alone is no proof of two"
        assert make_sender(sound.url).dead([version])
        with pytest.raises(TransientError):
            make_sender(lost.url).broadcast(version)
    with altered(regtest, lambda _, answers: answers) as one, altered(regtest, lambda _, answers: answers) as two:
        assert make_sender(elsewhere(one), two.url).dead([version])
        took(make_sender(elsewhere(one), two.url), wallet.first(make_sender(), wallet.order(units=UNITS // 2)))
        assert "sendrawtransaction" in one.methods and "sendrawtransaction" in two.methods, "all are told"


def test_no_node_makes_a_paid_one_look_dead(make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain) -> None:
    """Neither one that lags nor one whose index has lost it, for good or until it is asked again."""
    wallet.fund(3 * UNITS)
    sender = make_sender()
    version = wallet.first(sender, wallet.order())
    told = regtest.rpc("getblockchaininfo")
    before = {"blocks": told["blocks"], "bestblockhash": told["bestblockhash"]}
    took(sender, version)
    regtest.mine(DEPTH + 1)
    unknown = {
        "code": -5,
        "message": "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
    }

    def forgets(times: int) -> Change:
        left = [unknown] * times

        def change(body: Any, answers: Any) -> Any:
            asked = {call["id"] for call in body if call["method"] == "getrawtransaction"}
            ours = {call["id"] for call in body if call["id"] in asked and version.chain_tx in call["params"]}
            return [
                {"id": each["id"], "error": left.pop()} if each["id"] in ours and left else each for each in answers
            ]

        return change

    lagging = altered(regtest, changing("getblockchaininfo", lambda told: told | before))
    with lagging as old, altered(regtest, forgets(9)) as forgetful, altered(regtest, forgets(1)) as absent:
        for node in (forgetful, absent):
            assert not make_sender(node.url).dead([version]) and node.methods.count("listsinceblock") == 1
        assert not make_sender(old.url).dead([version])
        assert not make_sender(elsewhere(forgetful), old.url).dead([version])


def test_a_wallet_that_does_not_watch_is_no_empty_wallet(
    make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    stranger = Wallet(regtest)
    stranger.fund(3 * UNITS)
    for ask in (
        lambda: make_sender().terms(stranger.order(), reserved=()),
        lambda: make_sender().balance(stranger.address, COIN),
    ):
        with pytest.raises(TransientError, match="doesn't watch"):
            ask()
    wallet.fund(3 * UNITS)
    scans = changing("getwalletinfo", lambda told: told | {"scanning": {"progress": 0.5}})
    hides = changing("getaddressinfo", lambda told: told | {"ischange": True})
    for change, words in ((scans, "old blocks"), (hides, "change")):
        with altered(regtest, change) as node:
            with pytest.raises(TransientError, match=words):
                make_sender(node.url).terms(wallet.order(), reserved=())
            assert make_sender(elsewhere(node), regtest.url).terms(wallet.order(), reserved=()).inputs


@pytest.mark.parametrize(
    "change",
    [
        changing("listunspent", lambda outs: [out | {"amount": out["amount"] + 0.1} for out in outs]),
        changing("listunspent", lambda outs: [out | {"vout": out["vout"] + 1} for out in outs]),
        changing("listunspent", lambda outs: [out | {"amount": "3"} for out in outs]),
        changing("listunspent", lambda outs: [out | {"scriptPubKey": "00"} for out in outs]),
        changing("listunspent", lambda outs: [out | {"txid": "00" * 32} for out in outs]),
        changing("gettxout", lambda _: None),
        changing("estimatesmartfee", lambda _: {"feerate": -1}),
        changing("estimatesmartfee", lambda _: {"feerate": 1e-9}),
        changing("getmempoolinfo", lambda told: told | {"mempoolminfee": None}),
    ],
)
def test_nothing_is_built_on_what_does_not_hold(
    make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain, change: Change
) -> None:
    wallet.fund(3 * UNITS)
    with altered(regtest, change) as node, pytest.raises(TransientError):
        make_sender(node.url).terms(wallet.order(), reserved=())


def test_an_output_that_only_waits_is_not_used(make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain) -> None:
    """Whatever the node's wallet says of it."""
    wallet.fund(3 * UNITS)
    waits = regtest.send((wallet.address, 9 * UNITS))
    assert not make_sender().terms(wallet.order(), reserved=()).inputs[0].startswith(waits)
    with altered(
        regtest, changing("listunspent", lambda outs: [outs[0] | {"txid": waits, "vout": 0, "amount": 0.09}])
    ) as node:
        with pytest.raises(TransientError, match="shows no block"):
            make_sender(node.url).terms(wallet.order(), reserved=())
        regtest.mine()
        assert make_sender(node.url).terms(wallet.order(), reserved=()).inputs == (f"{waits}:0",)


WORDS = [
    (-27, "Transaction outputs already in utxo set", Reception.TAKEN),
    (-27, "Transaction already in block chain", Reception.TAKEN),
    (-26, "txn-already-known", Reception.TAKEN),
    (-25, "bad-txns-inputs-missingorspent", Reception.LATE),
    (-26, "txn-mempool-conflict", Reception.LATE),
    (-26, "insufficient fee, rejecting replacement 00ff; new feerate 0.00001 <= old feerate 0.00002", Reception.LOW),
    (-26, "replacement-failed, insufficient feerate: does not improve feerate diagram", Reception.LOW),
    (-26, "min relay fee not met, 50 < 141", Reception.LOW),
    (-26, "mempool min fee not met, 141 < 3000", Reception.LOW),
    (-26, "mempool full", Reception.LOW),
    (-26, "mandatory-script-verify-flag-failed (SECRETKEY123)", Reception.REFUSED),
    (-28, "Loading block index...", None),
    (-32601, "Method not found", None),
]


def test_what_core_says_to_a_broadcast(make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain) -> None:
    wallet.fund(3 * UNITS)
    version = wallet.first(make_sender(), wallet.order())
    said: dict[str, Any] = {}

    def answer(body: Any, answers: Any) -> Any:
        return [said | {"id": each["id"]} if body[0]["method"] == "sendrawtransaction" else each for each in answers]

    # What it costs was the signer's to judge, so Core's own limit must be off. A proxy's answer is all that is seen.
    with altered(regtest, answer) as node:
        for code, words, expected in WORDS:
            said.clear()
            said["error"] = {"code": code, "message": words}
            if expected is None:
                with pytest.raises(TransientError):
                    make_sender(node.url).broadcast(version)
                continue
            told = make_sender(node.url).broadcast(version)
            assert told.reception is expected and told.why and "SECRETKEY123" not in told.why
        said.clear()
        said["result"] = "00" * 32
        with pytest.raises(TransientError, match="took"):
            make_sender(node.url).broadcast(version)
        assert [call["params"] for body in node.bodies for call in body if call["method"] == "sendrawtransaction"] == [
            [version.raw, 0]
        ] * (len(WORDS) + 1)
    with pytest.raises(PermanentError, match="broken"):
        make_sender().broadcast(replace(version, chain_tx="00" * 32))


def test_the_node_itself_finds_a_fee_too_low(sender: BitcoinSender, wallet: Wallet, regtest: RegtestChain) -> None:
    wallet.fund(3 * UNITS)
    order = wallet.order()
    terms = sender.terms(order, reserved=())
    units = sum(coin.units for coin in written(terms).plan.coins)
    cheap = replace(terms, fee_max=50, fields={**terms.fields, "change": [str(units - order.units - 50)]})
    version = wallet.sign(order, cheap)
    assert sender.broadcast(version).reception is Reception.LOW
    took(sender, wallet.sign(order, sender.raised(order, [version]), 2))


def test_orders_that_are_none_for_it(sender: BitcoinSender, wallet: Wallet) -> None:
    wallet.fund(3 * UNITS)
    order = wallet.order()
    p2pkh = b58.address_from_h160("p2pkh", b"A" * 20, "regtest")
    for changed, what in (
        (replace(order, asset=COIN.replace(":0", ":1")), "order"),
        (replace(order, chain="bip122:000000000019d6689c085ae165831e93"), "order"),
        (replace(order, wallet=p2pkh), "order"),
        (replace(order, tag="1"), "order"),
        (replace(order, units=0), "order"),
        (replace(order, to="bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"), "destination"),
        (replace(order, to=wallet.address), "destination"),
        (replace(order, to=p2pkh, units=545), "destination"),
        (replace(order, units=293), "destination"),
        (replace(order, units=3 * UNITS), "funds"),
    ):
        with pytest.raises(OrderRefusedError) as refused:
            sender.terms(changed, reserved=())
        assert refused.value.what == what
    for fits in (replace(order, to=p2pkh, units=546), replace(order, units=294)):
        assert sender.terms(fits, reserved=()).inputs
