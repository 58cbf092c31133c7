"""Payments on a real regtest node: paid once, whatever is raised, cancelled, undone or spent by others."""

import pytest
from btclib import b32, b58
from btclib.tx.tx import Tx

from chains.base import TxStatus
from chains.bitcoin.payment import Coin, Plan, written
from chains.bitcoin.payment import terms_of as terms_from
from chains.bitcoin.sender import BitcoinSender
from chains.sending import OrderRefusedError, Reception
from local.bitcoin_chain import RegtestChain
from tests.support.bitcoin import COIN, MakeReader
from tests.support.bitcoin_sending import DEPTH, UNITS, MakeSender, Wallet, asking, fee, in_the_way, took

pytest_plugins = ["tests.support.bitcoin_fixtures"]


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


def test_a_lone_output_becomes_many_by_paying(make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain) -> None:
    """Crumbs, which cost more than they bring, are neither counted nor used."""
    wallet.fund(40 * UNITS, *[600] * 45)
    with asking(regtest, 0.0001) as (node,):
        sender = make_sender(node.url)
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
    make_sender: MakeSender, wallet: Wallet, regtest: RegtestChain
) -> None:
    wallet.fund(UNITS + 2_300, UNITS // 10, UNITS // 20)
    order = wallet.order()
    with asking(regtest, 0.0002) as (node,):
        sender = make_sender(node.url)
        first = wallet.first(sender, order)
        took(sender, first)
        assert sender.raised(order, [first]) is None
        terms = sender.raised(order, [first], reserved=wallet.reserved)
        assert terms is not None and terms.inputs[:1] == first.terms.inputs and len(terms.inputs) == 2
        other = sender.raised(order, [first], reserved={*wallet.reserved, terms.inputs[1]})
        assert other is not None and len(other.inputs) == 2 and other.inputs[1] != terms.inputs[1]
        regtest.drop(first.chain_tx)  # its own input is free again, by what the node says
        assert sender.raised(order, [first], reserved=()) == terms
        took(sender, first)
        second = wallet.sign(order, terms, 2)
        took(sender, second)
        before, after = (Tx.parse(bytes.fromhex(each.raw)).vsize for each in (first, second))
        assert fee(second) * before >= (fee(first) + before) * after, "it is larger, and still has the better rate"
        third = wallet.sign(order, sender.raised(order, [first, second], reserved=wallet.reserved), 3)
        assert set(third.terms.inputs) >= set(second.terms.inputs)
        took(sender, third)
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
    # Vbytes at a satoshi each, which is the least, whatever is estimated; and the dust limit of P2WPKH.
    alone, with_change, least = 110, 141, 294
    with asking(regtest, 0.000003) as (node,):
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
