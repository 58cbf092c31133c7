"""A payout to an address, step by step: what is stored before what is asked, and what each answer comes to."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from core.db import transaction
from core.errors import ConflictError, PermanentError
from domain.onchain import cancelling, following, planning, queries, signing
from domain.onchain.states import TransferState
from domain.payout.states import PayoutState
from providers.payout.base import Destination, Kind, PayoutRequest, Refusal, Standing
from tests.integration.onchain.lab import Lab, address
from tests.integration.onchain.scripted import REORG_DEPTH, TOKEN
from tests.integration.payout_sending.desk import USER
from tests.support.evm import CHAIN, COIN

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
    # Not final: what it used up is still its own, and nothing of the fee is booked.
    assert lab.held() and lab.desk.balance("house:payout_fees", COIN) == 0
    lab.rounds(payout, S.PAID)
    assert lab.held() == {}
    lab.check([payout])
    assert lab.events(payout) == ["sign", "send", "mine", "confirm", "final"]
    assert lab.desk.breaks() == []


# --- the provider ----------------------------------------------------------------------------------------------------


def test_one_reference_is_one_transfer(lab: Lab) -> None:
    payout = lab.payout()
    reference, found = lab.references(payout)[0], lab.transfer(payout)
    to = Destination(kind=Kind.CHAIN, number=found.recipient)
    request = PayoutRequest(reference=reference, currency=COIN, units=1_000, destination=to, narration="")
    again = lab.provider.send(request)
    assert again.standing is Standing.ACCEPTED and again.remittance is not None
    assert again.remittance.provider_ref == str(found.id)
    for other in (
        replace(request, units=1_001),
        replace(request, currency=TOKEN),
        replace(request, destination=replace(to, number=address())),
        replace(request, destination=replace(to, number="nonsense")),
    ):
        assert lab.provider.send(other).standing is Standing.UNKNOWN
    assert len(lab.transfers(payout)) == 1
    assert lab.provider.find(reference, provider_ref=None, sent_at=found.created_at) == again.remittance
    with pytest.raises(PermanentError):
        lab.provider.find(reference, provider_ref=str(uuid4()), sent_at=found.created_at)


def test_what_is_no_payment_here_is_refused_and_leaves_no_row(lab: Lab) -> None:
    to = Destination(kind=Kind.CHAIN, number=address())
    asked = PayoutRequest(reference=str(uuid4()), currency=COIN, units=5, destination=to, narration="")
    for request, refusal in (
        (replace(asked, destination=replace(to, number="0x12")), Refusal.DESTINATION),
        (replace(asked, destination=replace(to, number=lab.chain.wallet)), Refusal.DESTINATION),
        (replace(asked, currency="iso4217:NGN"), Refusal.REQUEST),
        (asked, Refusal.REQUEST),  # no attempt of ours has this reference
    ):
        sent = lab.provider.send(request)
        assert (sent.standing, sent.refusal) == (Standing.REJECTED, refusal)
        assert lab.provider.find(request.reference, provider_ref=None, sent_at=lab.desk.clock.now()) is None


def test_the_balance_is_what_open_transfers_leave(lab: Lab) -> None:
    lab.chain.units |= {COIN: 10**9, TOKEN: 5_000}
    assert lab.provider.balance(TOKEN) == 5_000
    payout = lab.payout(2_000, asset=TOKEN)
    assert lab.provider.balance(TOKEN) == 3_000
    lab.send()
    fee = lab.versions(payout)[0].fee_max
    assert lab.provider.balance(COIN) == 10**9 - 2 * fee
    lab.chain.units[COIN] = 2 * fee - 1  # too little for this one and another
    assert (lab.provider.balance(COIN), lab.provider.balance(TOKEN)) == (0, 0)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_the_chain_or_the_policy_refuses_was_never_signed(lab: Lab) -> None:
    closed = address()
    lab.chain.closed.add(closed)
    lab.signer.refuses = "day_max"
    for to, wanted, refusal in ((closed, S.FAILED, Refusal.DESTINATION), (address(), S.FROZEN, Refusal.REQUEST)):
        payout = lab.payout(to=to)
        before = lab.desk.balance(USER, COIN)
        lab.send()
        assert lab.transfer(payout).current is T.REFUSED
        assert (lab.transfer(payout).failure, lab.desk.state(payout)) == (refusal, wanted)
        if wanted is S.FAILED:
            assert lab.desk.balance(USER, COIN) == before + 1_150
        assert lab.held() == {} and lab.chain.raws == {}
    lab.signer.refuses = None
    later = lab.payout()
    lab.send()
    assert [version.decoded.inputs for version in lab.versions(later)] == [(f"{lab.chain.wallet}/0",)], "no gap"


def test_a_refusal_beside_an_open_question_does_not_count(lab: Lab) -> None:
    """The first question may have been answered with a signature, and it was."""
    payout = lab.payout()
    with transaction() as session:
        transfer_id = lab.transfer(payout).id
    assert planning.plan(transfer_id, lab.chain)
    with transaction() as session:
        slow = signing.begin(session, transfer_id)
    assert slow is not None
    lab.signer.refuses = "day_max"
    assert not signing.sign(transfer_id, lab.signer)
    assert lab.transfer(payout).current is T.PLANNED and lab.held()
    asked = lab.signer.asked
    assert not signing.sign(transfer_id, lab.signer) and lab.signer.asked == asked, "the next is asked alone"
    lab.signer.refuses = None
    with transaction() as session:
        assert signing.answered(session, slow, lab.signer.sign(slow.order, slow.number, slow.terms))
    assert lab.transfer(payout).current is T.SIGNED


def test_a_refusal_counts_once_no_question_can_be_answered_any_more(lab: Lab) -> None:
    payout = lab.payout()
    transfer_id = lab.transfer(payout).id
    assert planning.plan(transfer_id, lab.chain)
    with transaction() as session:
        signing.begin(session, transfer_id)
    lab.signer.refuses = "day_max"
    assert not signing.sign(transfer_id, lab.signer)
    lab.desk.later(seconds=121)
    assert not signing.sign(transfer_id, lab.signer)
    assert lab.transfer(payout).current is T.REFUSED and lab.held() == {}


def test_a_lost_answer_of_the_signer_is_asked_for_again(lab: Lab) -> None:
    lab.signer.loses = 1
    payout = lab.payout()
    lab.send()
    assert lab.transfer(payout).current is T.PLANNED
    other = lab.payout()
    lab.send()  # it can't take anything before the first is signed
    assert (len(lab.versions(payout)), len(lab.versions(other))) == (1, 0)
    lab.desk.later(seconds=31)
    lab.rounds(payout, S.PAID)
    lab.rounds(other, S.PAID)
    assert len(lab.signer.signed) == 2
    lab.check([payout, other])


def test_terms_of_before_something_was_taken_are_not_taken(lab: Lab) -> None:
    """Two transfers that are planned at once get two nonces, whoever is first."""
    first, second = lab.payout(), lab.payout()
    ids = [lab.transfer(each).id for each in (first, second)]

    def meanwhile(method: str) -> None:
        if method == "terms":
            lab.chain.before = None
            following.push(ids[1], lab.parts)

    lab.chain.before = meanwhile
    following.push(ids[0], lab.parts)
    inputs = [lab.versions(each)[0].decoded.inputs for each in (second, first)]
    assert inputs == [(f"{lab.chain.wallet}/0",), (f"{lab.chain.wallet}/1",)]


# --- fees, reorgs, others --------------------------------------------------------------------------------------------


def test_what_waits_for_too_long_is_outbid_and_one_of_both_is_mined(lab: Lab) -> None:
    payout = lab.payout()
    lab.send()
    lab.chain.base = 15  # nodes still take what offers 10, and mine it later than what offers more
    lab.round(minutes=4)
    versions = lab.versions(payout)
    assert [version.number for version in versions] == [1, 2]
    assert versions[0].decoded.inputs == versions[1].decoded.inputs
    lab.rounds(payout, S.PAID)
    assert lab.transfer(payout).version == 2
    lab.check([payout])


def test_a_policy_that_refuses_a_higher_fee_leaves_what_there_is(lab: Lab) -> None:
    payout = lab.payout()
    lab.send()
    lab.chain.base, lab.signer.refuses = 30, "fee_max"
    lab.round(minutes=4)
    assert lab.events(payout)[-1] == "not_outbid"
    for _ in range(6):
        lab.chain.mine(REORG_DEPTH)
        lab.chain.lose()  # no node knows it, for hours
        lab.round(minutes=30)
    assert lab.transfer(payout).current is T.SENT, "that nobody has it proves nothing"
    assert len(lab.held()) == 1
    lab.chain.base, lab.signer.refuses = 10, None
    lab.rounds(payout, S.PAID)
    lab.check([payout])


@pytest.mark.parametrize("keeps", [True, False])
def test_a_confirmed_one_whose_block_vanishes_is_sent_again_and_stays_paid(lab: Lab, keeps: bool) -> None:
    payout = lab.payout()
    lab.send()
    for _ in range(2):
        lab.chain.mine()
        lab.round()
    assert lab.desk.state(payout) is S.PAID
    lab.chain.reorg(3, keeps=keeps)
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.SENT, S.PAID)
    assert lab.desk.breaks() == ["onchain.undone"]
    lab.rounds(payout, S.PAID)
    assert len(lab.signer.signed) == 1, "the same bytes"
    lab.check([payout])


def test_a_key_that_somebody_else_uses_is_told_and_the_payout_goes_on(lab: Lab) -> None:
    payout = lab.payout()
    lab.send()
    lab.chain.foreign()
    lab.round()
    assert lab.transfer(payout).current is T.SENT, "not before it is final"
    lab.chain.mine(REORG_DEPTH)
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.DEAD, S.APPROVED)
    assert lab.desk.breaks() == ["onchain.outrun"]
    lab.desk.later(minutes=10)
    lab.desk.poll()
    lab.rounds(payout, S.PAID)
    assert len(lab.transfers(payout)) == 2
    lab.check([payout])


def test_dead_is_not_believed_against_what_is_read_after_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    payout = lab.payout()
    lab.send()
    lab.chain.mine()
    with transaction() as session:
        row = queries.lock(session, lab.transfer(payout).id)
        assert row is not None
        row.looks = 99

    def dead(_: object) -> bool:
        lab.chain.calls.append("dead")
        return True

    monkeypatch.setattr(lab.chain, "dead", dead)
    lab.chain.calls.clear()
    lab.round()
    assert lab.transfer(payout).current is T.MINED
    assert lab.chain.calls.index("dead") < lab.chain.calls.index("head") < lab.chain.calls.index("chain_txs")


def test_dead_is_not_believed_of_a_version_that_was_signed_meanwhile(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    payout = lab.payout()
    lab.send()
    lab.chain.lose()
    lab.chain.base = 30
    transfer_id = lab.transfer(payout).id
    with transaction() as session:
        row = queries.lock(session, transfer_id)
        assert row is not None
        row.looks = 99

    def dead(_: object) -> bool:
        lab.desk.later(minutes=4)
        assert planning.outbid(transfer_id, lab.chain)
        assert signing.sign(transfer_id, lab.signer)
        return True

    monkeypatch.setattr(lab.chain, "dead", dead)
    lab.round()
    assert lab.transfer(payout).current is T.SENT and len(lab.versions(payout)) == 2


def test_what_fails_in_its_block_costs_gas_and_is_tried_anew_once_final(lab: Lab) -> None:
    to = address()
    lab.chain.reverts.add(to)
    payout = lab.payout(to=to)
    lab.send()
    lab.chain.mine(2)
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.MINED, S.SUBMITTED), "it may be undone yet"
    lab.chain.mine(REORG_DEPTH)
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.REVERTED, S.APPROVED), "it is tried anew"
    lab.check([payout])
    assert lab.desk.balance("house:payout_fees", COIN) > 0


def test_what_says_that_it_succeeded_and_moved_nothing_is_for_a_person(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    payout = lab.payout(asset=TOKEN)
    lab.send()
    shown = lab.chain._chain_tx
    monkeypatch.setattr(lab.chain, "_chain_tx", lambda tx: replace(shown(tx), transfers=()))
    lab.chain.mine(2 * REORG_DEPTH)
    lab.round()
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.MINED, S.SUBMITTED)
    assert lab.desk.breaks() == ["onchain.nothing_moved"]


def test_a_failure_is_believed_of_two_hosts_where_there_are_two(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    to = address()
    lab.chain.reverts.add(to)
    monkeypatch.setattr("domain.onchain.verdicts.hosts", lambda _: 2)
    payout = lab.payout(to=to)
    lab.send()
    lab.chain.mine(2 * REORG_DEPTH)
    lab.round()  # the second doesn't answer
    assert lab.transfer(payout).current is T.MINED
    told = lab.chain.chain_txs
    reach = lab.chain.reach
    monkeypatch.setattr(
        lab.chain, "agreed", lambda ids: {tx: replace(seen, reach=reach(-1)) for tx, seen in told(ids).items()}
    )
    lab.round()
    assert lab.transfer(payout).current is T.MINED, "the second is behind"
    monkeypatch.setattr(
        lab.chain, "agreed", lambda ids: {tx: replace(seen, reach=reach(0)) for tx, seen in told(ids).items()}
    )
    lab.round()
    assert lab.transfer(payout).current is T.REVERTED


# --- people ----------------------------------------------------------------------------------------------------------


def test_cancelled_before_it_is_signed_it_ends_at_once(lab: Lab) -> None:
    payout = lab.payout()
    with transaction() as session:
        cancelling.cancel(session, lab.transfer(payout).id, actor="person:ann", reason="asked for twice")
    lab.send()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.CANCELLED, S.APPROVED)
    assert (lab.signer.asked, lab.events(payout)) == (0, ["cancel_asked", "cancel"])


def test_cancelled_later_one_of_both_versions_is_mined(lab: Lab) -> None:
    payout = lab.payout()
    lab.send()
    transfer_id = lab.transfer(payout).id
    for _ in range(2):  # asked twice is asked once
        with transaction() as session:
            cancelling.cancel(session, transfer_id, actor="person:ann", reason="asked for twice")
    lab.send()
    assert [version.cancels for version in lab.versions(payout)] == [False, True]
    lab.chain.mine(2)
    lab.round()
    assert (lab.transfer(payout).current, lab.desk.state(payout)) == (T.MINED, S.SUBMITTED)
    lab.chain.mine(REORG_DEPTH)
    lab.round()
    assert (lab.transfers(payout)[0].current, lab.desk.state(payout)) == (T.CANCELLED, S.APPROVED)
    assert lab.chain.paid(lab.references(payout)) == []
    other = lab.payout()
    lab.send()
    lab.chain.mine()
    lab.round()
    with transaction() as session, pytest.raises(ConflictError):
        cancelling.cancel(session, lab.transfer(other).id, actor="person:ann", reason="too late")


def test_one_that_cannot_go_on_keeps_no_other_from_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = lab.payout(), lab.payout()
    lab.send()
    shown, raw = lab.chain.chain_txs, lab.versions(bad)[0].chain_tx

    def chain_txs(ids: list[str]) -> object:
        if raw in ids:
            raise ValueError("nonsense")
        return shown(ids)

    monkeypatch.setattr(lab.chain, "chain_txs", chain_txs)
    lab.chain.mine(2)
    lab.round()
    assert (lab.desk.state(bad), lab.desk.state(good)) == (S.SUBMITTED, S.PAID)
    assert lab.desk.breaks() == ["onchain.failing"]


def test_many_workers_at_once_do_each_thing_once(lab: Lab) -> None:
    payouts = [lab.payout() for _ in range(4)]
    ids = [lab.transfer(payout).id for payout in payouts]

    def send(turn: int) -> None:
        for transfer_id in ids[turn:] + ids[:turn]:
            following.send(transfer_id, lab.parts)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, range(3)))
        for _ in range(4):
            lab.desk.later(seconds=31)
            list(pool.map(lambda _: following.follow(CHAIN, lab.parts), range(3)))
            lab.chain.mine(REORG_DEPTH)
    lab.desk.work()
    for payout in payouts:
        assert lab.events(payout) == ["sign", "send", "mine", "confirm", "final"]
    assert sorted(int(each.rpartition("/")[2]) for each in lab.signer.owners) == list(range(4))
    lab.check(payouts)
    assert lab.desk.breaks() == []
