"""A payout to an address on a real EVM node, signed by the real signer: begun, signed, broadcast, confirmed, paid."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from core.errors import TransientError
from domain.onchain.states import TransferState
from domain.payout.states import PayoutState
from local.devchain import GWEI, DevChain
from tasks import onchain
from tests.integration.onchain.lab import RICH
from tests.integration.onchain.real import DEPTH, RealLab, real_lab
from tests.integration.payout_sending.desk import FEE, USER
from tests.support.evm import CHAIN, COIN, Token, proxy, reply
from tests.support.signer import RunningSigner

pytest_plugins = ["tests.support.evm_fixtures"]
T, S = TransferState, PayoutState
UNITS = 5_000


@pytest.fixture
def lab(
    books: pytest.MonkeyPatch, tmp_path: Path, dev_chain: DevChain, token: Token, signer: RunningSigner
) -> Iterator[RealLab]:
    with real_lab(books, tmp_path, dev_chain, token, signer) as made:
        yield made


def check(lab: RealLab, payouts: Sequence[tuple[UUID, str, str]], *breaks: str) -> None:
    """(payout, asset, recipient) that were paid UNITS each: the chain, the books and the gas agree."""
    cost, moved = 0, {COIN: 0}
    for payout, asset, recipient in payouts:
        token = None if asset == COIN else asset.partition("erc20:")[2]
        assert lab.node.balance(recipient, token=token) == UNITS
        assert lab.desk.state(payout) is S.PAID
        moved[asset] = moved.get(asset, 0) + UNITS
        cost += sum(lab.cost(each) for each in lab.transfers(payout))
    moved[COIN] += cost
    assert cost > 0
    for asset, units in moved.items():
        assert -lab.desk.balance(f"custody:{CHAIN}", asset) == units
        paid = len([each for _, each, _ in payouts if each == asset])
        assert lab.desk.balance(USER, asset) == RICH - paid * (UNITS + FEE)
        assert lab.desk.balance("transit:payouts", asset) == 0
    assert lab.desk.balance("house:payout_fees", COIN) == cost
    assert lab.desk.breaks() == list(breaks)


def test_coin_and_a_token_are_paid(lab: RealLab, token: Token) -> None:
    paid = []
    for asset in (COIN, token.asset):
        recipient = lab.node.new_account()
        paid.append((lab.payout(UNITS, asset=asset, to=recipient), asset, recipient))
    lab.send()
    assert {lab.transfer(payout).current for payout, _, _ in paid} == {T.SENT}
    for payout, _, _ in paid:
        lab.rounds(payout, S.PAID, blocks=DEPTH // 2)
    check(lab, paid)


def test_a_stuck_fee_is_outbid(lab: RealLab) -> None:
    recipient = lab.node.new_account()
    with lab.node.no_mining():
        payout = lab.payout(UNITS, to=recipient)
        lab.send()
        price = 3 * int(lab.versions(payout)[0].terms["fields"]["max_fee_per_gas"])
        lab.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(price))
        lab.mine()
        assert lab.transfer(payout).current is T.SENT and lab.node.balance(recipient) == 0
        lab.round(minutes=4)
        versions = lab.versions(payout)
        assert [version.number for version in versions] == [1, 2]
        assert versions[0].decoded.inputs == versions[1].decoded.inputs
        lab.mine()
        lab.rounds(payout, S.PAID, blocks=DEPTH // 2)
        assert lab.transfer(payout).version == 2
    lab.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    lab.node.mine()
    check(lab, [(payout, COIN, recipient)])


def test_a_replaced_block_pays_once(lab: RealLab) -> None:
    recipient = lab.node.new_account()
    nonce = lab.node.nonce(lab.wallet)
    payout = lab.payout(UNITS, to=recipient)
    lab.send()
    lab.round()
    assert lab.transfer(payout).current is T.MINED
    with lab.node.no_mining():
        lab.node.reorg(2)
        assert lab.node.balance(recipient) == 0
        lab.round()
        assert lab.events(payout)[-1] in ("vanish", "send")
        assert lab.transfer(payout).current is T.SENT
        lab.round()
        lab.mine()
        lab.rounds(payout, S.PAID, blocks=DEPTH // 2)
    assert lab.node.nonce(lab.wallet) == nonce + 1
    check(lab, [(payout, COIN, recipient)])


def test_one_that_somebody_replaced_is_proven_dead_and_paid_anew(lab: RealLab) -> None:
    recipient = lab.node.new_account()
    with lab.node.no_mining():
        payout = lab.payout(UNITS, to=recipient)
        lab.send()
        lab.node.replace(lab.versions(payout)[0].chain_tx or "")
        lab.mine(2)
        lab.round()
        assert lab.transfer(payout).current is T.SENT, "what isn't final may be undone"
        lab.mine(DEPTH)
        lab.round()
        assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.DEAD, S.APPROVED)
        lab.desk.later(minutes=10)
        lab.desk.poll()
        lab.rounds(payout, S.PAID, blocks=DEPTH // 2)
    assert [each.current for each in lab.transfers(payout)] == [T.DEAD, T.CONFIRMED]
    check(lab, [(payout, COIN, recipient)], "onchain.outrun")


def test_a_node_that_is_lost_delays_it(
    books: pytest.MonkeyPatch, tmp_path: Path, dev_chain: DevChain, token: Token, signer: RunningSigner
) -> None:
    lost = [False]

    def change(_: object, answers: object) -> object:
        return reply({"error": "away"}, status=500) if lost[0] else answers

    with proxy(dev_chain.url, change) as node, real_lab(books, tmp_path, dev_chain, token, signer, node.url) as lab:
        recipient = lab.node.new_account()
        payout = lab.payout(UNITS, to=recipient)
        lost[0] = True
        lab.send()
        lab.round()
        with pytest.raises(TransientError):
            onchain.parts(CHAIN).sender.balance(lab.wallet, COIN)
        assert lab.transfer(payout).current is T.PLANNED
        lost[0] = False
        lab.round(minutes=10)
        assert lab.transfer(payout).current is T.SENT
        lost[0] = True
        lab.round()
        lost[0] = False
        lab.desk.later(minutes=10)
        lab.rounds(payout, S.PAID, blocks=DEPTH // 2)
        check(lab, [(payout, COIN, recipient)])
