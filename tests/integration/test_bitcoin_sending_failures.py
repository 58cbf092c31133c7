"""What a sender makes of nodes that are lost, lag, lie or refuse, and of orders that are none."""

from dataclasses import replace
from typing import Any

import pytest
from btclib import b58

from chains.bitcoin.payment import written
from chains.bitcoin.sender import BitcoinSender
from chains.sending import OrderRefusedError, Reception
from core.errors import PermanentError, TransientError
from local.bitcoin_chain import RegtestChain
from tests.support.bitcoin import COIN, Change, altered
from tests.support.bitcoin_sending import DEPTH, UNITS, MakeSender, Wallet, elsewhere, in_the_way, took
from tests.support.evm import changing

pytest_plugins = ["tests.support.bitcoin_fixtures"]


# --- nodes that are lost, lag or lie ---------------------------------------------------------------------------------


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
        assert not make_sender(sound.url).dead([version]) and "listsinceblock" not in sound.methods, "while it waits"
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
