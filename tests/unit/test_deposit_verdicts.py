"""What the facts of a chain mean, for facts that no chain gives on demand."""

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.base import NATIVE_INDEX, Block, ChainTx, Reach, Transfer, TxStatus
from chains.errors import DisagreementError
from config.assets import registry
from core.errors import InvariantError, TransientError
from domain.deposit import agreement, verdicts
from domain.deposit.states import DEPOSIT, IN_A_BLOCK, OPEN, SUSPENDING, DepositState, Reason
from domain.deposit.verdicts import (
    Sight,
    accepts,
    find,
    has_lapsed,
    has_progressed,
    is_crumb,
    is_deep,
    is_final,
    is_within,
    needed,
    next_event,
    wants_witness,
    weigh,
)
from tests.unit.deposit_facts import (
    CHAIN,
    CHAIN_TX,
    COIN,
    NOW,
    PAYER,
    TOKEN,
    US,
    block,
    block_hash,
    deposit,
    head,
    transfer,
    tx,
)

S = DepositState
D = 10**6
"""A dollar of the token."""
STRANGER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


def reason(*transfers: Transfer, claimed: frozenset[int] = frozenset(), **fields: Any) -> Reason | None:
    return find(deposit(**fields), tx(*transfers), block(), claimed=claimed).reason


def test_of_several_transfers_the_one_that_was_expected_is_taken() -> None:
    several = [
        transfer(index=index, asset=TOKEN, units=units) for index, units in ((4, 10 * D), (7, 30 * D), (9, 30 * D))
    ]
    found = find(deposit(asset=TOKEN, units_expected=30 * D), tx(*several), block(), claimed=frozenset())
    assert found.transfer is several[1]
    found = find(deposit(asset=TOKEN, units_expected=30 * D), tx(*several), block(), claimed=frozenset({7}))
    assert found.transfer is several[2]
    found = find(deposit(asset=TOKEN), tx(*several[::-1]), block(), claimed=frozenset())
    assert found.transfer is several[0]


def test_dust_beside_a_payment_is_not_taken_for_it() -> None:
    for dust in (1, 10**38):
        several = [transfer(units=dust), transfer(index=3), transfer(index=5, units=10**18 - 1)]
        assert find(deposit(), tx(*several), block(), claimed=frozenset()).transfer is several[1]
    near = [transfer(units=5 * 10**17), transfer(index=3, units=10**18 - 1)]
    asked = deposit(units_expected=10**18, tolerance_bps=1)
    assert find(asked, tx(*near), block(), claimed=frozenset()).transfer is near[1]


def test_only_what_nobody_else_has_counts() -> None:
    assert reason(transfer(), claimed=frozenset({NATIVE_INDEX})) is Reason.DUPLICATE
    assert reason(transfer(), transfer(index=3), claimed=frozenset({NATIVE_INDEX})) is None


def test_an_amount_that_no_account_can_hold_is_not_booked() -> None:
    assert reason(transfer(units=10**38)) is Reason.TOO_LARGE
    assert reason(transfer(units=10**38 - 1)) is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"recipient": STRANGER}, Reason.WRONG_RECIPIENT),
        ({"recipient": US.lower()}, Reason.WRONG_RECIPIENT),  # adapters spell canonically; anything else is not ours
        ({"asset": None, "contract": "0x" + "ee" * 20}, Reason.WRONG_TOKEN),
        ({"asset": TOKEN}, Reason.WRONG_TOKEN),
        ({"units": 0}, Reason.ZERO_VALUE),
        ({"units": 1}, Reason.BELOW_MINIMUM),
    ],
)
def test_what_is_no_payment_of_ours_says_why(fields: dict[str, Any], told: Reason) -> None:
    assert reason(transfer(**fields)) is told


def test_a_stranger_cannot_pay_where_the_payer_is_known() -> None:
    assert reason(transfer(sender=STRANGER), payer=PAYER) is Reason.WRONG_PAYER
    assert reason(transfer(), payer=PAYER) is None


def test_the_order_may_be_a_day_younger_than_its_payment() -> None:
    day = timedelta(hours=24)
    assert reason(transfer(), created_at=block().time + day) is None
    assert reason(transfer(), created_at=block().time + day + timedelta(seconds=1)) is Reason.OLDER_THAN_ORDER


def test_a_revert_moved_nothing() -> None:
    assert find(deposit(), tx(status=TxStatus.REVERTED), block(), claimed=frozenset()).reason is Reason.REVERTED


def test_late_is_by_the_time_of_the_block() -> None:
    on_time = deposit(deadline_at=block().time)
    late = deposit(deadline_at=block().time - timedelta(seconds=1))
    assert weigh(on_time, 10**18, block().time) is None
    assert weigh(late, 10**18, block().time) is Reason.LATE


def test_a_payment_that_a_reorg_undid_has_time_to_come_back() -> None:
    undone = deposit(deadline_at=NOW - timedelta(days=1), reorged_at=NOW)
    assert weigh(undone, 10**18, NOW + timedelta(minutes=59)) is None
    assert weigh(undone, 10**18, NOW + timedelta(minutes=61)) is Reason.LATE


@given(expected=st.integers(1, 10**38 - 1), bps=st.integers(0, 10_000), units=st.integers(1, 10**38 - 1))
def test_the_tolerance_is_exact_and_the_same_both_ways(expected: int, bps: int, units: int) -> None:
    asked = deposit(units_expected=expected, tolerance_bps=bps)
    slack = expected * bps // 10_000
    assert is_within(asked, units) == (expected - slack <= units <= expected + slack)
    told = weigh(asked, units, NOW)
    assert (told is None) == is_within(asked, units)
    if told is not None:
        assert told is (Reason.UNDERPAID if units < expected else Reason.OVERPAID)


# --- policies ----------------------------------------------------------------------------------------------------

LATE_BY_A_SECOND = {"deadline_at": NOW - timedelta(seconds=1)}


@pytest.mark.parametrize("accepted", [set(), {"late"}, {"underpaid"}, {"late", "underpaid"}])
def test_of_several_reasons_one_that_is_not_accepted_is_told_and_late_comes_first(accepted: set[str]) -> None:
    short = deposit(units_expected=1_000, accepts=sorted(accepted), **LATE_BY_A_SECOND)
    told = weigh(short, 900, NOW)
    assert told is (Reason.UNDERPAID if accepted == {"late"} else Reason.LATE)
    row = pending(reason=told, confirmations=1, accepts=sorted(accepted))
    kept = accepted != {"late", "underpaid"}
    assert next_event(row, Sight(head(), None, block())) == ("suspend" if kept else "credit")


@pytest.mark.parametrize("told", list(Reason))
def test_what_is_accepted_is_credited_and_what_was_no_payment_never_is(told: Reason) -> None:
    row = pending(reason=told, confirmations=1, accepts=[each.value for each in Reason])
    assert next_event(row, Sight(head(), None, block())) == ("credit" if told in SUSPENDING else "reject")


def test_nothing_can_be_late_or_short_that_nobody_waited_for() -> None:
    row = deposit(mode="unexpected", accepts=["unexpected"], **LATE_BY_A_SECOND)
    assert weigh(row, 1, NOW) is Reason.UNEXPECTED
    assert accepts(row, Reason.UNEXPECTED) and not accepts(row, Reason.LATE)


def test_what_is_far_from_a_payment_is_a_crumb_unless_any_amount_will_do() -> None:
    asked = deposit(units_expected=1_000)
    assert [is_crumb(asked, units) for units in (1, 499, 500, 999, 1_000, 5_000)] == [True, True, *[False] * 4]
    assert not is_crumb(deposit(), 1)
    assert not is_crumb(deposit(units_expected=1_000, accepts=["underpaid"]), 1)
    assert not is_crumb(deposit(units_expected=1_000, tolerance_bps=9_000), 100)
    assert is_crumb(deposit(units_expected=1_000, tolerance_bps=9_000), 99)
    by_value = deposit(value_currency="iso4217:USD", value_units=1_000)
    assert not is_crumb(by_value, 1)  # without a rate it can't be said
    assert is_crumb(by_value, 1, rate(1, 1))


def rate(numerator: int, denominator: int) -> Any:
    return SimpleNamespace(numerator=numerator, denominator=denominator, observed_at=NOW, source="an exchange")


def by_value(**fields: Any) -> Any:
    return deposit(**{"value_currency": "iso4217:USD", "value_units": 1_999, "tolerance_bps": 500} | fields)


def test_a_payment_is_weighed_by_what_it_was_worth() -> None:
    two_thousand = rate(200_000, 10**18)  # cents for a wei
    for units, told in (
        (9_495_250 * 10**9, None),  # 1899.05 cents of 1,999: five percent less, to the wei
        (9_495_250 * 10**9 - 1, Reason.UNDERPAID),
        (9_995 * 10**12, None),
        (10_494_750 * 10**9, None),
        (10_494_750 * 10**9 + 1, Reason.OVERPAID),
    ):
        assert weigh(by_value(), units, NOW, two_thousand) is told
    assert weigh(by_value(**LATE_BY_A_SECOND), 9_995 * 10**12, NOW, two_thousand) is Reason.LATE


@given(
    value=st.integers(1, 10**38 - 1),
    units=st.integers(1, 10**38 - 1),
    numerator=st.integers(1, 10**76),
    denominator=st.integers(1, 10**76),
    bps=st.integers(0, 10_000),
)
def test_the_tolerance_of_a_value_is_exact(value: int, units: int, numerator: int, denominator: int, bps: int) -> None:
    asked = by_value(value_units=value, tolerance_bps=bps)
    worth = Fraction(units * numerator, denominator)
    inside = abs(worth - value) <= Fraction(value * bps, 10_000)
    assert is_within(asked, units, rate(numerator, denominator)) == inside
    told = weigh(asked, units, NOW, rate(numerator, denominator))
    assert told is (None if inside else Reason.UNDERPAID if worth < value else Reason.OVERPAID)


def test_of_several_transfers_the_one_of_the_right_value_is_taken() -> None:
    several = [transfer(index=index, units=units) for index, units in ((1, 10**18), (2, 9_995 * 10**12))]
    found = find(by_value(), tx(*several), block(), claimed=frozenset(), rate=rate(200_000, 10**18))
    assert (found.transfer, found.reason) == (several[1], None)


def test_without_a_rate_nothing_is_booked_by_value() -> None:
    unpriced = pending(value_currency="iso4217:USD", value_units=1_999, confirmations=1)
    deep = Sight(head(), None, block())
    assert weigh(unpriced, 10**18, NOW) is None and not is_within(unpriced, 10**18)
    assert next_event(unpriced, deep) is None
    unpriced.priced_at = NOW
    assert next_event(unpriced, deep) == "credit"


# --- agreement ---------------------------------------------------------------------------------------------------

QUORUM = 10**18


@pytest.fixture
def quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one ether on, two endpoints must agree."""
    known = registry()
    asset = known.assets[COIN].model_copy(update={"quorum_units": QUORUM})
    changed = known.model_copy(update={"assets": known.assets | {COIN: asset}})
    for module in (agreement, verdicts):
        monkeypatch.setattr(module, "registry", lambda: changed)


def by_two(*transfers: Transfer) -> ChainTx:
    """As two endpoints tell it that have both come to its block."""
    return replace(tx(*transfers), reach=Reach(100, None))


def large(**fields: Any) -> Any:
    return pending(**{"index": -1, "sender": PAYER, "confirmations": 1} | fields)


@pytest.mark.usefixtures("quorum")
def test_a_large_deposit_is_booked_only_when_two_have_told_it() -> None:
    alone, told = Sight(head(), None, block()), Sight(head(), None, block(), witness=by_two(transfer()))
    small = large(units_received=QUORUM - 1)
    assert (next_event(small, alone), wants_witness(small, alone)) == ("credit", False)
    for reason in (None, Reason.LATE):
        row = large(reason=reason)
        assert (next_event(row, alone), wants_witness(row, alone)) == (None, True)
        assert next_event(row, told) is None  # that they agreed is written first
        row.agreed_at = NOW
        assert next_event(row, alone) == ("suspend" if reason else "credit")
        assert not wants_witness(row, alone)
    assert next_event(large(reason=Reason.DUPLICATE, units_received=None), alone) == "reject"
    shallow = large(confirmations=2)
    assert not wants_witness(shallow, alone)
    assert not wants_witness(large(), Sight(head(), None, block(fork=1)))
    assert not wants_witness(large(state="credited"), alone)


@pytest.mark.usefixtures("quorum")
@pytest.mark.parametrize(
    ("told", "said"),
    [
        (by_two(transfer()), agreement.Testimony.ALIKE),
        (by_two(transfer(index=3), transfer()), agreement.Testimony.ALIKE),
        (tx(status=TxStatus.MISSING), agreement.Testimony.ABSENT),
        (tx(status=TxStatus.MEMPOOL), agreement.Testimony.ABSENT),
        (tx(status=TxStatus.REVERTED), agreement.Testimony.OTHERWISE),
        (tx(), agreement.Testimony.OTHERWISE),
        (tx(transfer(units=10**18 - 1)), agreement.Testimony.OTHERWISE),
        (tx(transfer(index=0)), agreement.Testimony.OTHERWISE),
        (tx(transfer(asset=TOKEN)), agreement.Testimony.OTHERWISE),
        (tx(transfer(asset=None)), agreement.Testimony.OTHERWISE),
        (tx(transfer(sender=STRANGER)), agreement.Testimony.OTHERWISE),
        (tx(transfer(recipient=STRANGER)), agreement.Testimony.OTHERWISE),
        (tx(transfer(), at=block(fork=1)), agreement.Testimony.OTHERWISE),
        (tx(transfer(), at=block(99)), agreement.Testimony.OTHERWISE),
    ],
)
def test_everything_that_money_rests_on_is_compared(told: ChainTx, said: agreement.Testimony) -> None:
    row = large()
    assert agreement.testimony(row, told, needed=1) is said
    event = next_event(row, Sight(head(), None, block(), witness=told))
    assert event == ("overruled" if said is agreement.Testimony.OTHERWISE else None)


@pytest.mark.parametrize(
    ("reach", "needed", "deep"),
    [
        (None, 1, False),  # one alone told it
        (Reach(100, None), 1, True),
        (Reach(99, 99), 1, False),
        (Reach(100, 100), 2, False),
        (Reach(104, None), 5, True),
        (Reach(103, 103), 5, False),
        (Reach(500, None), None, False),
        (Reach(500, 99), None, False),
        (Reach(500, 100), None, True),
    ],
)
def test_the_depth_is_what_both_vouch_for(reach: Reach | None, needed: int | None, *, deep: bool) -> None:
    told = replace(tx(transfer()), reach=reach)
    said = agreement.Testimony.ALIKE if deep else agreement.Testimony.SHALLOW
    assert agreement.testimony(large(), told, needed=needed) is said
    otherwise = replace(tx(transfer(units=1)), reach=reach)  # how deep it is matters only if it is the same
    assert agreement.testimony(large(), otherwise, needed=needed) is agreement.Testimony.OTHERWISE


@pytest.mark.usefixtures("quorum")
def test_a_depth_of_one_alone_books_nothing_and_overrules_nothing() -> None:
    shallow = replace(tx(transfer()), reach=Reach(99, None))
    assert next_event(large(), Sight(head(), None, block(), witness=shallow)) is None


@pytest.mark.usefixtures("quorum")
def test_only_two_that_agree_overrule_one() -> None:
    for trouble in (TransientError("no second"), DisagreementError("a and b disagree")):
        assert next_event(large(), Sight(head(), None, block(), witness=trouble)) is None
    otherwise = tx(transfer(units=1))
    assert next_event(large(agreed_at=NOW), Sight(head(), None, block(), witness=otherwise)) == "credit"
    assert next_event(large(state="credited"), Sight(head(), None, block(), witness=otherwise)) is None


@pytest.mark.usefixtures("quorum")
def test_where_one_was_found_lying_two_must_tell_any_amount() -> None:
    small = large(units_received=1, disputed_at=NOW)
    assert wants_witness(small, Sight(head(), None, block()))


# --- events ------------------------------------------------------------------------------------------------------


def pending(**fields: Any) -> Any:
    given_fields = {
        "state": "pending",
        "block_number": 100,
        "block_hash": block_hash(100),
        "block_time": block().time,
        "units_received": 10**18,
    }
    return deposit(**given_fields | fields)


def test_two_readings_that_disagree_prove_nothing() -> None:
    inside = tx(transfer())
    assert next_event(deposit(), Sight(head(), inside, block())) == "seen"
    assert next_event(deposit(), Sight(head(), inside, block(fork=1))) is None
    assert next_event(deposit(), Sight(head(), inside, None)) is None


def test_a_node_without_the_block_proves_nothing() -> None:
    for state in IN_A_BLOCK:
        assert next_event(pending(state=state), Sight(head(90), None, None)) is None


def test_only_another_block_at_its_height_is_a_reorg() -> None:
    for state in IN_A_BLOCK:
        assert next_event(pending(state=state), Sight(head(), None, block(fork=1))) == "reorged"
        assert next_event(pending(state=state), Sight(head(), None, block(101, fork=1))) is None


def test_a_chain_that_says_finalized_waits_where_the_node_says_nothing() -> None:
    assert needed(pending()) is None
    for finalized, event in ((None, None), (99, None), (100, "credit")):
        assert next_event(pending(), Sight(head(10_000, finalized=finalized), None, block())) == event


@pytest.mark.parametrize("told", list(Reason))
def test_every_reason_leads_somewhere_when_it_is_deep_enough(told: Reason) -> None:
    event = next_event(pending(reason=told, confirmations=1), Sight(head(), None, block()))
    assert event == ("suspend" if told in SUSPENDING else "reject")


def test_its_own_block_is_the_first_confirmation() -> None:
    for number, deep in ((100, False), (101, False), (102, True)):
        assert is_deep(pending(confirmations=3), Sight(head(number), None, block())) is deep


def test_expiry_waits_for_the_chain_and_for_a_reading() -> None:
    missing = ChainTx(CHAIN_TX, TxStatus.MISSING)
    after = NOW + timedelta(days=2)
    assert next_event(deposit(), Sight(head(), missing, None, read_until=after)) == "expire"
    assert next_event(deposit(), Sight(head(), missing, None, read_until=deposit().deadline_at)) is None
    assert next_event(deposit(), Sight(head(), missing, None)) is None
    assert next_event(deposit(), Sight(head(), None, None, read_until=after)) is None
    by_address = deposit(mode="address", chain_tx=None)
    assert next_event(by_address, Sight(read_until=after)) == "expire"


@pytest.mark.parametrize("remembered", [False, True])
def test_a_transaction_that_no_block_can_take_in_any_more_expires_at_once(
    remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = head().latest.time - timedelta(seconds=1)
    waiting = tx(status=TxStatus.MISSING if remembered else TxStatus.MEMPOOL)
    asked = deposit(tx_valid_until=until) if remembered else deposit()
    told = waiting if remembered else replace(waiting, valid_until=until)
    sight = Sight(head(), told, None, read_until=NOW)
    assert next_event(asked, sight) is None  # a chain whose blocks may be replaced
    known = registry()
    final = known.chains[CHAIN].model_copy(update={"reorg_depth": 0})
    monkeypatch.setattr(
        verdicts, "registry", lambda: known.model_copy(update={"chains": known.chains | {CHAIN: final}})
    )
    assert next_event(asked, sight) == "expire" and has_lapsed(asked, sight)
    assert next_event(asked, replace(sight, head=head(99))) is None
    assert not has_lapsed(deposit(mode="address", tx_valid_until=until), sight)
    inside = Sight(head(), replace(tx(transfer()), valid_until=until), block(), read_until=NOW)
    assert next_event(asked, inside) == "seen"


def test_confirmations_are_written_in_steps_that_matter() -> None:
    for needed_blocks, written, seen, news in (
        (2, 1, 1, False),
        (2, 1, 2, True),
        (50, 10, 14, False),
        (50, 10, 15, True),
    ):
        row = pending(confirmations=needed_blocks, confirmations_seen=written)
        assert has_progressed(row, Sight(head(100 + seen - 1), None, block())) is news
    assert not has_progressed(pending(confirmations=50), Sight(None, None, None))
    assert has_progressed(pending(confirmations=50), Sight(head(), None, block()))  # the first, as the scan tells none


def test_a_replacement_ends_a_hash_and_never_an_address() -> None:
    missing = ChainTx(CHAIN_TX, TxStatus.MISSING)
    assert next_event(deposit(), Sight(head(), missing, None, outrun=True)) == "replace"
    assert next_event(deposit(mode="address"), Sight(head(), missing, None, outrun=True)) is None


def test_final_is_what_no_reorg_reaches() -> None:
    depth = 96
    credited = pending(state="credited")
    assert not is_final(credited, Sight(head(100 + depth - 1), None, block()), now=NOW)
    assert is_final(credited, Sight(head(100 + depth), None, block()), now=NOW)
    assert is_final(credited, Sight(head(101, finalized=100), None, block()), now=NOW)
    assert not is_final(credited, Sight(head(101, finalized=100), None, block(fork=1)), now=NOW)
    assert not is_final(pending(), Sight(head(1_000, finalized=999), None, block()), now=NOW)
    expired = deposit(state="expired")
    assert not is_final(expired, Sight(), now=expired.deadline_at + timedelta(days=6))
    assert is_final(expired, Sight(), now=expired.deadline_at + timedelta(days=8))


facts = st.builds(
    Sight,
    head=st.one_of(
        st.none(), st.builds(head, st.integers(95, 220), st.just(0), finalized=st.none() | st.integers(90, 95))
    ),
    chain_tx=st.one_of(
        st.none(),
        st.sampled_from([TxStatus.MISSING, TxStatus.MEMPOOL]).map(lambda status: tx(status=status)),
        st.builds(
            lambda fork, status: tx(transfer(), status=status, at=block(100, fork)),
            st.integers(0, 2),
            st.sampled_from([TxStatus.SUCCEEDED, TxStatus.REVERTED]),
        ),
    ),
    block=st.none() | st.builds(block, st.integers(99, 101), st.integers(0, 2)),
    outrun=st.booleans(),
    read_until=st.none() | st.just(NOW) | st.just(NOW + timedelta(days=3)),
)


@given(
    state=st.sampled_from(list(DepositState)),
    told=st.none() | st.sampled_from(list(Reason)),
    mode=st.sampled_from(["tx", "address", "unexpected"]),
    sight=facts,
)
def test_no_sight_leads_off_the_table(state: DepositState, told: Reason | None, mode: str, sight: Sight) -> None:
    row = pending(state=state, reason=told, mode=mode)
    event = next_event(row, sight)
    if event is None:
        return
    after = DEPOSIT.then(state, event)
    if after in (S.CREDITED, S.SUSPENDED):  # money moves only on a canonical block that is deep enough
        assert sight.block is not None
        assert sight.block.hash == row.block_hash
        assert is_deep(row, sight)
        assert (after is S.CREDITED) == (told is None)
    if state in OPEN and after is S.PENDING:
        assert isinstance(sight.block, Block)


def test_every_state_is_open_or_rests_on_a_block() -> None:
    assert set(DepositState) == OPEN | IN_A_BLOCK
    assert not OPEN & IN_A_BLOCK
    with pytest.raises(InvariantError):
        DEPOSIT.then(S.EXPIRED, "credit")
