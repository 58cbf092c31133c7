"""A payout to an address, step by step: what is stored before what is asked, and what each answer comes to."""

from domain.onchain.states import TransferState
from domain.payout.states import PayoutState
from tests.integration.onchain.lab import Lab

T, S = TransferState, PayoutState


def test_it_is_signed_sent_mined_confirmed_and_paid(lab: Lab) -> None:
    payout = lab.payout()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.PLANNED, S.SUBMITTED)
    lab.send()
    assert lab.transfer(payout).current is T.SENT
    assert lab.desk.state(payout) is S.SUBMITTED
    lab.chain.mine()
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.MINED, S.SUBMITTED)
    lab.chain.mine()
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.CONFIRMED, S.PAID)
    assert lab.transfer(payout).final_at is None and lab.held()
    lab.rounds(payout, S.PAID)
    assert lab.held() == {}
    lab.check([payout])
    assert lab.events(payout) == ["sign", "send", "mine", "confirm", "final"]
    assert lab.desk.breaks() == []
