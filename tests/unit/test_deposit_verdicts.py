"""What the facts of a chain mean, for facts that no chain gives on demand."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.base import NATIVE_INDEX, Block, ChainTx, Transfer, TxStatus
from core.errors import InvariantError
from domain.deposit.states import DEPOSIT, IN_A_BLOCK, OPEN, SUSPENDING, DepositState, Reason
from domain.deposit.verdicts import Sight, find, is_deep, is_final, is_within, needed, next_event, weigh
from tests.unit.deposit_facts import CHAIN_TX, NOW, PAYER, TOKEN, US, block, block_hash, deposit, head, transfer, tx

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
