"""What becomes of money that does not arrive as it was asked for, by asset and by request."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from chains.base import ChainTx, Head, TxStatus
from config.assets import registry
from core import clock
from core.db import transaction
from core.errors import InvalidRequestError, TransientError
from domain.deposit import follow, service
from domain.deposit.record import record
from domain.deposit.service import Deposit, Value
from domain.deposit.verdicts import Sight
from domain.rates import service as rates
from tests.integration.deposit.desk import ACCOUNT, ETHER, SOON, SUSPENSE, Desk
from tests.integration.deposit.policy import set_policy
from tests.support.evm import CHAIN, COIN

pytest_plugins = ["tests.support.evm_fixtures"]

USD = "iso4217:USD"
NEVER = "0x" + "cd" * 32


# --- by asset ----------------------------------------------------------------------------------------------------


def ask(desk: Desk, what: str, *, by_hash: bool, **fields: Any) -> Deposit:
    """A deposit of an ether, and a payment that is late, too small or too large for it."""
    units = {"underpaid": ETHER * 3 // 4, "overpaid": 2 * ETHER, "late": ETHER}[what]
    given = {"units_expected": ETHER} | ({"deadline_at": SOON} if what == "late" else {}) | fields
    if what == "late":
        desk.dev.rpc("evm_increaseTime", 5)
    if by_hash:
        return desk.by_hash(desk.dev.send(desk.shared, units), **given)
    deposit = desk.by_address(**given)
    desk.dev.send(deposit.address, units)
    return deposit


@pytest.mark.parametrize("by_hash", [True, False])
@pytest.mark.parametrize("what", ["underpaid", "overpaid", "late"])
def test_an_asset_may_credit_what_does_not_fit_and_the_reason_stays(desk: Desk, what: str, by_hash: bool) -> None:
    suspended = ask(desk, what, by_hash=by_hash)
    set_policy(COIN, **{what: "credit"})
    credited = ask(desk, what, by_hash=by_hash)
    desk.settle(credited)
    assert [desk.said(suspended), desk.said(credited)] == [("suspended", what), ("credited", what)]
    assert desk.balance(ACCOUNT) == desk.balance(SUSPENSE) == desk.get(credited).units_received
    assert desk.details(credited, "credit")[0]["reason"] == what


@pytest.mark.parametrize("what", ["underpaid", "overpaid", "late"])
def test_a_request_may_state_its_own_and_keeps_what_held_when_it_was_made(desk: Desk, what: str) -> None:
    set_policy(COIN, **{what: "credit"})
    credited, suspended = ask(desk, what, by_hash=True), ask(desk, what, by_hash=True, **{what: "suspend"})
    set_policy(COIN, **{what: "suspend"})
    desk.settle(credited)
    assert [desk.said(credited), desk.said(suspended)] == [("credited", what), ("suspended", what)]


def test_the_asset_says_how_much_may_be_off_where_the_request_does_not(desk: Desk) -> None:
    set_policy(COIN, tolerance_bps=100)
    paid = ETHER - ETHER // 100
    fits = desk.by_hash(desk.dev.send(desk.shared, paid), units_expected=ETHER)
    exact = desk.by_hash(desk.dev.send(desk.shared, paid), units_expected=ETHER, tolerance_bps=0)
    desk.settle(fits)
    assert [desk.said(fits), desk.said(exact)] == [("credited", None), ("suspended", "underpaid")]


def test_a_permanent_address_is_topped_up_whenever_something_arrives(desk: Desk) -> None:
    set_policy(COIN, unexpected="credit")
    first = desk.by_address()
    for _ in range(3):
        desk.dev.send(first.address, ETHER)
        desk.settle(first)
    assert [(row.state, row.reason) for row in desk.all()] == [("credited", None), *[("credited", "unexpected")] * 2]
    assert (desk.balance(ACCOUNT), desk.balance(SUSPENSE)) == (3 * ETHER, 0)


def test_a_token_that_is_not_on_the_list_is_never_credited_whatever_the_policies(desk: Desk) -> None:
    accepted = dict.fromkeys(("underpaid", "overpaid", "late", "unexpected"), "credit")
    for asset in (COIN, desk.token.asset):
        set_policy(asset, **accepted)
    fake = desk.dev.deploy("TestToken", "Tether USD", "USDT", 6, 10**18)
    by_address = desk.by_address(asset=desk.token.asset)
    desk.dev.send_token(fake, by_address.address, 5_000_000)
    by_hash = desk.by_hash(desk.dev.send_token(fake, desk.shared, 5_000_000), asset=desk.token.asset)
    desk.settle(by_hash)
    assert [desk.said(by_address), desk.said(by_hash)] == [("watching", None), ("rejected", "wrong_token")]
    assert desk.balance(ACCOUNT, desk.token.asset) == desk.balance(SUSPENSE, desk.token.asset) == 0
    assert len(desk.all()) == 2


def test_a_little_that_anybody_may_send_does_not_use_up_the_deposit_that_waits(desk: Desk) -> None:
    deposit = desk.by_address(units_expected=ETHER)
    desk.dev.send(deposit.address, ETHER // 2 - 1)
    desk.settle(deposit)
    crumb = desk.all()[-1]
    assert [desk.said(deposit), desk.said(crumb)] == [("watching", None), ("suspended", "unexpected")]
    desk.dev.send(deposit.address, ETHER)
    desk.settle(deposit)
    assert desk.said(deposit) == ("credited", None)
    assert (desk.balance(ACCOUNT), desk.balance(SUSPENSE)) == (ETHER, ETHER // 2 - 1)


def test_a_payment_that_is_merely_short_takes_its_deposit(desk: Desk) -> None:
    deposit = desk.by_address(units_expected=ETHER)
    desk.dev.send(deposit.address, ETHER // 2)
    desk.settle(deposit)
    assert desk.said(deposit) == ("suspended", "underpaid")
    assert len(desk.all()) == 1


# --- by value ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _rates() -> None:
    """As a worker does it."""
    service.use_rates(rates.rate_for)


def set_rate(price: str, at: datetime) -> None:
    numerator, denominator = rates.fraction(COIN, USD, price)
    with transaction() as session:
        # Not by `proposed`: the clock of the development chain may be ahead of ours.
        rates.add(
            session,
            rates.AssetRate(
                asset=COIN, currency=USD, numerator=numerator, denominator=denominator,
                observed_at=at, expires_at=at + timedelta(minutes=15), source="an exchange", actor="ann",
            ),
        )  # fmt: skip


def now_there(desk: Desk) -> datetime:
    """By the chain's clock."""
    return desk.reader.head().latest.time


TWENTY = Value(USD, 1_999)
"""Dollars, or nearly: at 2,000 an ether, 0.009995 ether."""


@pytest.mark.parametrize(
    ("paid", "said"),
    [
        (9_495_250 * 10**9, ("credited", None)),
        (9_495_250 * 10**9 - 1, ("suspended", "underpaid")),
        (10_494_750 * 10**9, ("credited", None)),
        (10_494_750 * 10**9 + 1, ("suspended", "overpaid")),
    ],
)
@pytest.mark.parametrize("by_hash", [True, False])
def test_a_payment_is_accepted_by_what_it_is_worth(
    desk: Desk, paid: int, said: tuple[str, str | None], by_hash: bool
) -> None:
    seen = now_there(desk)
    set_rate("1000", seen - timedelta(minutes=5))
    set_rate("2000", seen)
    set_rate("4000", seen + timedelta(hours=1))
    fields: dict[str, Any] = {"value": TWENTY, "tolerance_bps": 500}
    if by_hash:
        deposit = desk.by_hash(desk.dev.send(desk.shared, paid), **fields)
    else:
        deposit = desk.by_address(**fields)
        desk.dev.send(deposit.address, paid)
    desk.settle(deposit)
    assert desk.said(deposit) == said
    [told] = desk.details(deposit, "priced")
    assert (told["numerator"], told["denominator"], told["source"]) == ("1", str(5 * 10**12), "an exchange")
    assert told["value"] == str(paid * 200_000 // ETHER)
    assert datetime.fromisoformat(told["observed_at"]) == seen


@pytest.mark.parametrize("stale", [True, False])
def test_without_a_rate_of_that_time_it_waits_and_goes_on_when_one_arrives(desk: Desk, stale: bool) -> None:
    if stale:
        set_rate("2000", now_there(desk) - timedelta(minutes=16))
    deposit = desk.by_address(value=TWENTY)
    desk.dev.send(deposit.address, 9_995 * 10**12)
    for _ in range(3):
        desk.settle(deposit)
    waiting = desk.get(deposit)
    assert (waiting.state, waiting.waits_for) == ("pending", "rate")
    assert desk.events(deposit) == ["created", "seen", "unpriced"]
    assert waiting.block_time is not None
    with transaction() as session:
        [held_up] = service.count_waiting(session)
        assert (held_up.chain, held_up.what, held_up.count) == (CHAIN, "rate", 1)
        assert [row.id for row in service.page(session, waiting=True)] == [deposit.id]
    set_rate("2000", waiting.block_time - timedelta(minutes=1))
    desk.poll()
    assert desk.said(deposit) == ("credited", None)
    assert desk.get(deposit).waits_for is None
    assert desk.events(deposit)[2:] == ["unpriced", "priced", "credit"]


def test_a_value_is_weighed_anew_after_a_reorg(desk: Desk) -> None:
    chain_tx = desk.dev.send(desk.shared, 9_995 * 10**12)
    set_rate("2000", now_there(desk) - timedelta(minutes=1))
    deposit = desk.by_hash(chain_tx, value=TWENTY)
    desk.dev.mine()
    assert desk.poll(deposit).state == "credited"
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    undone = desk.poll(deposit)
    assert (undone.state, undone.priced_at) == ("watching", None)
    desk.settle(deposit)
    assert desk.events(deposit) == ["created", "seen", "priced", "credit", "reorged", "seen", "priced", "credit"]


def test_a_little_by_its_value_does_not_use_up_the_deposit_that_waits(desk: Desk) -> None:
    set_rate("2000", now_there(desk))
    deposit = desk.by_address(value=TWENTY)
    desk.dev.send(deposit.address, 10**12)
    desk.settle(deposit)
    assert desk.said(deposit) == ("watching", None)
    assert desk.said(desk.all()[-1]) == ("suspended", "unexpected")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"value": Value(USD, 0)}, "value"),
        ({"value": Value("iso4217:XXX", 5)}, "value"),
        ({"value": Value(COIN, 5)}, "value"),
        ({"value": TWENTY, "units_expected": ETHER}, "value"),
        ({"tolerance_bps": 10_001}, "tolerance_bps"),
        ({"late": "forget"}, "late"),
    ],
)
def test_terms_that_cannot_be_are_refused(desk: Desk, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        desk.by_hash(NEVER, **fields)
    assert refused.value.field == field
    assert desk.all() == []


# --- what is written ---------------------------------------------------------------------------------------------


def test_a_look_that_brings_no_news_records_nothing_and_still_counts_the_blocks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[Deposit] = []

    def counted(session: Any, deposit: Deposit, *given: Any, **named: Any) -> None:
        recorded.append(deposit)
        record(session, deposit, *given, **named)

    monkeypatch.setattr(follow, "record", counted)
    quiet = desk.by_hash(NEVER)
    slow = desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=50)
    desk.poll()
    assert desk.get(slow).confirmations_seen == 1
    recorded.clear()
    due = desk.get(quiet).next_poll_at
    for _ in range(4):
        desk.dev.mine()
        desk.poll()
    assert recorded == []
    assert desk.get(slow).confirmations_seen == 5  # in the one statement that puts all of them off
    assert due is not None and (desk.get(quiet).next_poll_at or due) > due
    desk.dev.mine(45)
    assert desk.poll(slow).state == "credited"
    assert [row.id for row in recorded] == [slow.id]


def test_a_first_look_leaves_a_node_that_is_away_to_the_poll(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))

    def away() -> Head:
        raise TransientError("connection refused")

    monkeypatch.setattr(desk.reader, "head", away)
    assert desk.look(deposit).state == "watching"
    follow.set_apart(deposit.id)
    with pytest.raises(TransientError):  # no poll looks at it any more: the job must not end well
        desk.look(deposit)


def test_suspended_deposits_are_counted_also_when_they_are_final(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, 500), units_expected=600)
    live = desk.by_hash(desk.dev.send(desk.shared, 500), units_expected=600, confirmations=1_000)
    desk.settle(deposit, blocks=20)
    desk.poll()
    assert desk.get(deposit).final_at is not None
    with transaction() as session:
        assert service.count_by_state(session) == {"suspended": 1, "pending": 1}
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = session.execute(
            text("EXPLAIN SELECT count(*) FROM deposits WHERE state = 'suspended' AND final_at IS NOT NULL")
        )
        assert "ix_deposits_suspended" in "\n".join(row[0] for row in plan)
    assert desk.said(live) == ("pending", "underpaid")


@pytest.mark.parametrize("remembered", [True, False])
def test_a_transaction_past_its_own_end_expires_before_the_deadline(desk: Desk, remembered: bool) -> None:
    set_policy(CHAIN, reorg_depth=0)
    desk.dev.mine(10)
    deposit = desk.by_hash(NEVER)
    head = desk.reader.head()
    until = head.latest.time - timedelta(seconds=1)

    def recorded(tx: ChainTx, head: Head) -> Deposit:
        with transaction() as session:
            record(session, desk.get(deposit), Sight(head, tx, None, read_until=head.latest.time), now=clock.now())
        return desk.get(deposit)

    if remembered:
        before = Head(desk.reader.blocks([head.latest.number - 5])[head.latest.number - 5], None)
        until = before.latest.time
        seen = recorded(ChainTx(NEVER, TxStatus.MEMPOOL, valid_until=until), before)
        assert (seen.state, seen.tx_valid_until) == ("watching", until)
        desk.dev.rpc("evm_increaseTime", 5)  # the node makes many blocks in one second
        desk.dev.mine(5)
        found = recorded(ChainTx(NEVER, TxStatus.MISSING), desk.reader.head())
    else:
        found = recorded(ChainTx(NEVER, TxStatus.MEMPOOL, valid_until=until), head)
    assert (found.state, found.reason) == ("expired", "tx_expired")
    assert found.deadline_at > head.latest.time
    assert registry().chains[CHAIN].reorg_depth == 0
