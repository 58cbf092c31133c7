"""What a reorg does to an account whose money is spent or under way, on the real ledger."""

from uuid import UUID

import pytest

from core.db import transaction
from domain.deposit import service
from domain.deposit.service import Deposit
from ledger import accounts, balances, freezes, holds
from ledger.errors import AccountFrozenError
from ledger.holds import NewHold
from tests.integration.deposit.desk import ACCOUNT, CUSTODY, ETHER, OWED, SUSPENSE, TENANT, Desk
from tests.support.evm import COIN

pytest_plugins = ["tests.support.evm_fixtures"]


def credited(desk: Desk, units: int = ETHER) -> tuple[Deposit, str]:
    chain_tx = desk.dev.send(desk.shared, units)
    deposit = desk.by_hash(chain_tx)
    desk.dev.mine()
    assert desk.poll(deposit).state == "credited"
    return deposit, chain_tx


def state() -> str:
    with transaction() as session:
        return next(found.state for found in balances.account(session, TENANT, ACCOUNT) if found.asset == COIN)


def changes() -> list[tuple[str, str]]:
    """Oldest first."""
    with transaction() as session:
        return [(row.change, row.actor) for row in accounts.changes(session, TENANT, ACCOUNT).rows][::-1]


def held_by() -> list[str]:
    """The longest first."""
    with transaction() as session:
        return [freeze.holder for freeze in freezes.of_account(session, TENANT, ACCOUNT) if freeze.asset == COIN]


def control(change: str) -> None:
    with transaction() as session:
        getattr(accounts, change)(session, tenant=TENANT, code=ACCOUNT, asset=COIN, reason="I looked", actor="ann")


def payout(units: int) -> UUID:
    """Money bound for one, as a payout does it."""
    with transaction() as session:
        return holds.place(
            session,
            NewHold(
                tenant=TENANT, reference=f"payout:{units}", source=ACCOUNT, destination=CUSTODY, asset=COIN,
                units=units, expires_at=None,
            ),
        ).id  # fmt: skip


def capture(hold_id: UUID) -> None:
    with transaction() as session:
        holds.capture(session, tenant=TENANT, hold_id=hold_id, reference=f"paid:{hold_id}")


def test_a_debt_freezes_the_account_and_its_payment_lifts_that(desk: Desk) -> None:
    deposit, chain_tx = credited(desk)
    desk.spend(700)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    undone = desk.poll(deposit)
    assert (undone.state, undone.units_short) == ("watching", 700)
    assert (state(), held_by(), changes()) == ("frozen", [deposit.subject], [("freeze", "tx_monitor")])
    [told] = desk.details(deposit, "frozen")
    assert told == {"account": ACCOUNT, "owed": "700", "held": "0", "was_frozen": False}
    with transaction() as session:
        [change] = accounts.changes(session, TENANT, ACCOUNT).rows
        assert deposit.subject in change.reason
        assert [row.id for row in service.page(session, owed=True)] == [deposit.id]
        assert service.page(session, tenant="another", owed=True) == []
    desk.settle(deposit)
    assert (desk.said(deposit), state()) == (("credited", None), "open")
    assert changes() == [("freeze", "tx_monitor"), ("lift", "tx_monitor")]
    assert desk.events(deposit) == ["created", "seen", "credit", "reorged", "frozen", "seen", "credit", "unfrozen"]
    assert (desk.balance(ACCOUNT), desk.balance(OWED)) == (ETHER - 700, 0)
    with transaction() as session:
        assert service.page(session, owed=True) == []


def test_what_is_all_given_back_freezes_nothing(desk: Desk) -> None:
    deposit, chain_tx = credited(desk)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.poll()
    assert (state(), desk.balance(OWED)) == ("open", 0)
    desk.settle(deposit)
    assert (changes(), desk.events(deposit).count("frozen")) == ([], 0)


@pytest.mark.parametrize(("held", "owed"), [(300, 300), (300, 0)])
def test_payouts_under_way_are_not_captured_until_the_money_is_back(desk: Desk, held: int, owed: int) -> None:
    if not owed:  # other money is there that the hold binds: nothing is owed, and still the payout waits
        credited(desk, held)
    deposit, chain_tx = credited(desk)
    hold_id = payout(held)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    undone = desk.poll(deposit)
    assert (undone.units_short, state()) == (owed, "frozen")
    assert desk.details(deposit, "frozen")[0]["held"] == str(held)
    with pytest.raises(AccountFrozenError):
        capture(hold_id)
    desk.settle(deposit)
    assert state() == "open"
    with transaction() as session:
        holds.void(session, tenant=TENANT, hold_id=hold_id)  # the desk's books know no payouts
    assert desk.balance(OWED) == 0


def test_what_arrives_on_a_frozen_account_is_booked(desk: Desk) -> None:
    deposit, _ = credited(desk)
    desk.spend(700)
    desk.dev.reorg(2)
    desk.poll()
    other, _ = credited(desk, 500)
    assert (desk.said(other), state(), desk.balance(ACCOUNT)) == (("credited", None), "frozen", 500)
    assert held_by() == [deposit.subject] and desk.balance(OWED) == 700  # one deposit's money pays no other's debt


def test_the_account_of_two_undone_deposits_is_frozen_until_both_are_back(desk: Desk) -> None:
    with desk.dev.no_mining():  # in one block, so that none is final before the reorg
        txs = [desk.dev.send(desk.shared, ETHER) for _ in range(2)]
        desk.dev.mine(2)
    first, second = (desk.by_hash(chain_tx) for chain_tx in txs)
    desk.poll()
    desk.spend(2 * ETHER)
    desk.dev.reorg(2, keep=[(txs[0], 1)])
    desk.poll()
    assert sorted(held_by()) == sorted([first.subject, second.subject])
    assert changes() == [("freeze", "tx_monitor")] * 2
    assert sorted(desk.details(row, "frozen")[0]["was_frozen"] for row in (first, second)) == [False, True]
    desk.settle(first)
    assert [desk.get(row).state for row in (first, second)] == ["credited", "watching"]
    assert (state(), held_by()) == ("frozen", [second.subject])
    assert desk.details(first, "freeze_lifted") == [
        {"account": ACCOUNT, "state": "frozen", "holders": [second.subject]}
    ]
    again = desk.dev.send(desk.shared, ETHER)
    with transaction() as session:
        row = session.get(Deposit, second.id)
        assert row is not None
        row.chain_tx = again  # as if its own had come back
    desk.settle(second)
    desk.poll()
    assert (desk.get(second).state, state()) == ("credited", "open")
    assert desk.balance(OWED) == 0


def test_what_a_person_froze_stays_frozen(desk: Desk) -> None:
    deposit, chain_tx = credited(desk)
    desk.spend(700)
    control("freeze")
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.poll(deposit)
    assert desk.details(deposit, "frozen")[0]["was_frozen"]
    assert held_by() == ["person:ann", deposit.subject]
    desk.settle(deposit)
    assert (desk.get(deposit).state, state(), held_by()) == ("credited", "frozen", ["person:ann"])


def test_what_a_person_freezes_over_ours_stays_frozen_when_the_debt_is_paid(desk: Desk) -> None:
    deposit, chain_tx = credited(desk)
    desk.spend(700)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.poll(deposit)
    control("freeze")
    desk.settle(deposit)
    assert (desk.get(deposit).state, state(), held_by()) == ("credited", "frozen", ["person:ann"])
    assert changes() == [("freeze", "tx_monitor"), ("freeze", "ann"), ("lift", "tx_monitor")]


def test_an_account_that_something_else_froze_meanwhile_stays_frozen_when_the_debt_is_paid(desk: Desk) -> None:
    deposit, chain_tx = credited(desk)
    desk.spend(700)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.poll(deposit)
    chargeback = {"tenant": TENANT, "code": ACCOUNT, "asset": COIN, "holder": "fiat_payment:1", "actor": "fiat_webhook"}
    with transaction() as session:
        freezes.place(session, reason="charged back", **chargeback)
    desk.settle(deposit)
    assert (desk.get(deposit).state, state(), held_by()) == ("credited", "frozen", ["fiat_payment:1"])
    with transaction() as session:
        freezes.lift(session, reason="won", **chargeback)
    assert state() == "open"


def test_what_a_person_unfroze_and_froze_again_is_theirs(desk: Desk) -> None:
    deposit, chain_tx = credited(desk)
    desk.spend(700)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.poll(deposit)
    control("unfreeze")
    control("freeze")
    desk.settle(deposit)
    assert (desk.get(deposit).state, held_by(), state()) == ("credited", ["person:ann"], "frozen")
    assert changes()[-1] == ("freeze", "ann")
    assert desk.events(deposit)[-1] == "credit"  # nothing of ours was left to lift


def test_a_release_that_pays_the_debt_lifts_the_freeze(desk: Desk) -> None:
    chain_tx = desk.dev.send(desk.shared, 500)
    deposit = desk.by_hash(chain_tx, units_expected=1_000)
    desk.dev.mine()
    desk.poll()
    with transaction() as session:
        service.release(session, deposit.id, actor="ann", reason="enough")
    desk.spend(200)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.poll()
    desk.settle(deposit)
    assert (desk.said(deposit), state()) == (("suspended", "underpaid"), "frozen")
    assert desk.balance(SUSPENSE) == 500
    with transaction() as session:
        service.release(session, deposit.id, actor="ann", reason="enough")
    assert (state(), desk.balance(OWED), desk.events(deposit)[-1]) == ("open", 0, "unfrozen")


def test_the_undoing_and_the_freezing_are_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    deposit, chain_tx = credited(desk)
    desk.spend(700)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(freezes, "place", killed)
    with pytest.raises(KeyboardInterrupt):
        desk.poll()
    assert (desk.get(deposit).state, state(), desk.balance(OWED)) == ("credited", "open", 0)
    monkeypatch.undo()
    desk.poll()
    assert (desk.get(deposit).state, state(), desk.balance(OWED)) == ("watching", "frozen", 700)
