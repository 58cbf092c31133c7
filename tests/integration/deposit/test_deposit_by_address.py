"""Money that arrives on an owner's address: the scanner finds it once, and it always gets into the books."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from chains.evm.reader import EvmReader
from config.assets import registry
from core import clock, jobs
from core.db import transaction
from core.errors import InvariantError, TransientError
from domain.deposit import queries, reading, record, scan, service
from domain.deposit.attribute import attribute
from domain.deposit.scan_models import ChainCursor
from ledger import accounts
from tests.integration.deposit.desk import ACCOUNT, CUSTODY, ETHER, SOON, SUSPENSE, TENANT, Desk
from tests.support.evm import CHAIN, COIN

pytest_plugins = ["tests.support.evm_fixtures"]


def cursor() -> ChainCursor:
    with transaction() as session:
        found = queries.cursor(session, CHAIN)
    assert found is not None
    return found


def test_a_payment_to_an_allotted_address_is_found_and_credited(desk: Desk) -> None:
    deposit = desk.by_address(units_expected=ETHER)
    assert desk.look(deposit).state == "watching"
    chain_tx = desk.dev.send(deposit.address, ETHER)  # before the chain was ever scanned
    found = desk.scan(deposit)
    assert (found.state, found.chain_tx, found.units_received) == ("pending", chain_tx, ETHER)
    assert desk.settle(deposit).state == "credited"
    assert desk.balance(ACCOUNT) == ETHER
    assert cursor().next_block == desk.dev.height + 1


def test_what_a_chain_may_still_undo_is_unsettled_until_it_is_final(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.scan()
    desk.dev.send(deposit.address, ETHER)

    def unsettled(account: str = deposit.account, asset: str = COIN) -> int:
        with transaction() as session:
            return service.unsettled(session, TENANT, account, asset)

    assert unsettled() == 0
    credited = desk.settle(deposit, blocks=1)
    assert (credited.state, credited.final_at) == ("credited", None)
    assert (unsettled(), unsettled(account="user:other:available"), unsettled(asset="iso4217:USD")) == (ETHER, 0, 0)
    assert desk.settle(deposit, blocks=5).final_at is not None
    assert unsettled() == 0


def test_the_first_payment_is_found_though_the_clock_of_who_allotted_was_ahead(desk: Desk) -> None:
    with time_machine.travel(clock.now() + timedelta(hours=1)):
        deposit = desk.by_address()
    desk.dev.send(deposit.address, ETHER)
    assert desk.settle(deposit).state == "credited"


def test_tokens_and_coins_are_told_apart_on_one_address(desk: Desk) -> None:
    token = desk.by_address(asset=desk.token.asset)
    coin = desk.by_address(address=token.address)
    desk.dev.send_token(desk.token.address, token.address, 7)
    desk.dev.send(token.address, 5_000)
    desk.settle(token)
    assert [desk.get(each).units_received for each in (token, coin)] == [7, 5_000]
    assert desk.said(token) == desk.said(coin) == ("credited", None)


def test_a_scan_finds_a_transfer_once_however_often_it_runs(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.dev.send(deposit.address, ETHER)
    for _ in range(3):
        desk.scan()
    with transaction() as session:  # as an operator may do
        service.restart_scan(session, CHAIN, next_block=desk.dev.height - 1, actor="ann", reason="to be sure")
    desk.settle(deposit)
    assert [each.state for each in desk.all()] == ["credited"]
    assert desk.living_transfers() == 1


def test_scans_at_once_find_a_transfer_once(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.scan()
    for number in range(5):
        desk.dev.send(deposit.address, 1_000 + number)
    readers = [EvmReader(registry().chains[CHAIN], registry().of_chain(CHAIN)) for _ in range(4)]
    threads = [threading.Thread(target=service.scan, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert desk.living_transfers() == len(desk.all()) == 5
    desk.settle(deposit)
    assert desk.balance(CUSTODY) == 5_010


@pytest.mark.parametrize("step", ["attribute", "store"])
def test_a_scan_killed_on_its_way_finds_a_transfer_once(desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    deposit = desk.by_address()
    desk.scan()
    desk.dev.send(deposit.address, ETHER)
    before = cursor().next_block
    real = getattr(scan, step)

    def killed(*given: object, **named: object) -> None:
        real(*given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(scan, step, killed)
    with pytest.raises(KeyboardInterrupt):
        desk.scan()
    monkeypatch.undo()
    assert cursor().next_block == before and desk.living_transfers() == 0
    desk.settle(deposit)
    assert desk.said(deposit) == ("credited", None)
    assert len(desk.all()) == desk.living_transfers() == 1


def test_a_long_range_is_scanned_in_parts(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.scan()
    desk.dev.mine(60)
    desk.dev.send(deposit.address, ETHER)
    desk.dev.mine(60)
    assert desk.scan(deposit).state == "pending"
    assert cursor().next_block == desk.dev.height + 1


def test_an_address_allotted_later_is_scanned_from_then_on(desk: Desk) -> None:
    desk.by_address()
    desk.scan()
    later = desk.by_address(account="user:7:available")
    desk.dev.send(later.address, ETHER)
    assert desk.scan(later).state == "pending"


def test_the_deposit_that_expects_just_this_much_gets_it(desk: Desk) -> None:
    any_amount = desk.by_address()
    exact = desk.by_address(address=any_amount.address, units_expected=700)
    near = desk.by_address(address=any_amount.address, units_expected=10_000, tolerance_bps=100)
    for units in (700, 10_050, 6_000):
        desk.dev.send(any_amount.address, units)
    desk.settle(exact)
    assert [desk.get(each).units_received for each in (any_amount, exact, near)] == [10_050, 700, 6_000]
    assert desk.said(near) == ("suspended", "underpaid")


def test_money_that_nobody_waits_for_is_suspended_as_unexpected(desk: Desk) -> None:
    deposit = desk.by_address(units_expected=1_000)
    desk.dev.send(deposit.address, 1_000)
    desk.dev.send(deposit.address, 2_000)
    desk.settle(deposit)
    first, second = desk.all()
    assert (first.id, first.state) == (deposit.id, "credited")
    assert (second.state, second.reason, second.mode) == ("suspended", "unexpected", "unexpected")
    assert (second.account, second.tenant, second.address) == (ACCOUNT, deposit.tenant, deposit.address)
    assert desk.balance(SUSPENSE) == 2_000
    with transaction() as session:
        service.release(session, second.id, actor="ann", reason="a second payment")
    assert desk.balance(ACCOUNT) == 3_000


def test_an_address_expires_only_when_the_scan_has_gone_past_its_deadline(desk: Desk) -> None:
    deposit = desk.by_address(deadline_at=SOON)
    desk.dev.rpc("evm_increaseTime", 5)
    desk.dev.mine()
    assert desk.poll(deposit).state == "watching"  # nothing has been scanned yet
    desk.scan()
    assert desk.poll(deposit).state == "expired"
    desk.dev.send(deposit.address, ETHER)
    desk.settle(deposit)
    assert desk.said(deposit) == ("suspended", "late")
    assert len(desk.all()) == 1


def test_dust_and_zero_values_leave_no_trace(desk: Desk) -> None:
    deposit = desk.by_address()
    token = desk.by_address(address=deposit.address, asset=desk.token.asset)
    desk.dev.send(deposit.address, 99)
    desk.dev.send(deposit.address, 0)
    desk.dev.send_token(desk.token.address, deposit.address, 0)
    desk.settle(deposit)
    assert len(desk.all()) == 2
    assert desk.events(deposit) == desk.events(token) == ["created"]


def test_a_look_alike_token_is_noted_once_and_never_booked(desk: Desk) -> None:
    deposit = desk.by_address(asset=desk.token.asset)
    fake = desk.dev.deploy("TestToken", "Tether USD", "USDT", 6, 10**18)
    for _ in range(3):
        desk.dev.send_token(fake, deposit.address, 5_000_000)
        desk.scan()
    assert desk.said(deposit) == ("watching", None)
    assert desk.events(deposit) == ["created", "wrong_token"]
    assert desk.details(deposit, "wrong_token")[0]["contract"] == fake.lower()
    assert len(desk.all()) == 1


def test_a_reverted_payment_is_not_found(desk: Desk, emitter: str) -> None:
    deposit = desk.by_address(asset=desk.token.asset)
    poor = desk.dev.new_account(units=ETHER)
    desk.dev.send_token(desk.token.address, deposit.address, 5, sender=poor)
    assert desk.settle(deposit).state == "watching"


def test_a_payment_of_somebody_else_is_not_taken_where_the_payer_is_known(desk: Desk) -> None:
    deposit = desk.by_address(payer=desk.dev.accounts[1])
    desk.dev.send(deposit.address, ETHER)
    desk.settle(deposit)
    assert [(each.state, each.reason) for each in desk.all()] == [("watching", None), ("suspended", "unexpected")]


# --- reorgs under the scan ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("poll_first", [False, True])
def test_a_reorg_undoes_what_was_found_and_finds_it_again(desk: Desk, poll_first: bool) -> None:
    deposit = desk.by_address()
    desk.scan()
    chain_tx = desk.dev.send(deposit.address, ETHER)
    desk.dev.mine()
    desk.scan()
    assert desk.poll(deposit).state == "credited"
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    if poll_first:
        assert desk.poll(deposit).state == "watching"
    desk.scan()
    desk.poll()
    found = desk.get(deposit)
    assert (found.state, found.incarnation, found.chain_tx) == ("pending", 1, chain_tx)
    assert desk.balance(CUSTODY) == 0
    assert desk.settle(deposit).state == "credited"
    assert desk.balance(ACCOUNT) == ETHER
    assert len(desk.all()) == desk.living_transfers() == 1


def test_a_payment_that_a_reorg_took_and_never_brought_back_expires(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.scan()
    desk.dev.send(deposit.address, ETHER)
    desk.dev.mine()
    desk.scan()
    desk.poll()
    desk.dev.reorg(2)
    desk.scan()
    assert desk.get(deposit).state == "watching"
    assert desk.balance(ACCOUNT) == desk.balance(CUSTODY) == 0
    assert desk.dev.send(deposit.address, 500)  # another may arrive meanwhile
    assert desk.settle(deposit).units_received == 500


def test_an_unexpected_payment_that_a_reorg_moved_is_booked_once(desk: Desk) -> None:
    deposit = desk.by_address(units_expected=5_000)
    desk.dev.send(deposit.address, 5_000)
    desk.settle(deposit)
    chain_tx = desk.dev.send(deposit.address, ETHER)
    desk.dev.mine()
    desk.scan()
    desk.poll()
    assert desk.balance(SUSPENSE) == ETHER
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.scan()
    desk.poll()
    desk.settle(deposit)
    assert [(each.state, each.reason) for each in desk.all()] == [("credited", None), ("suspended", "unexpected")]
    assert desk.balance(SUSPENSE) == ETHER


def test_a_reorg_of_what_was_thought_final_is_undone_all_the_same(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.scan()
    desk.dev.send(deposit.address, ETHER)
    assert desk.settle(deposit, blocks=5).final_at is not None
    desk.dev.reorg(7)
    desk.scan()
    undone = desk.get(deposit)
    assert (undone.state, undone.final_at) == ("watching", None)
    assert desk.balance(CUSTODY) == 0


def test_what_a_reorg_cant_undo_is_set_apart_and_the_chain_is_scanned_on(desk: Desk) -> None:
    blocked, other = (desk.by_address(account=f"user:{user}:available") for user in ("blocked", "other"))
    for deposit in (blocked, other):
        desk.dev.send(deposit.address, ETHER)
        assert desk.settle(deposit, blocks=1).state == "credited"
    assert desk.get(blocked).final_at is not None
    desk.spend(ETHER, account=blocked.account)
    with transaction() as session:
        accounts.freeze(session, tenant=TENANT, code="user:blocked:owed", asset=COIN, reason="a court", actor="ann")
    desk.dev.reorg(5)
    desk.dev.mine()
    desk.scan()
    assert (desk.get(blocked).state, desk.get(other).state) == ("credited", "watching")
    with transaction() as session:
        apart = jobs.page(session, subject=blocked.subject, task="tx_monitor.look")
    assert len(apart) == 2  # the other is the one that it began with
    assert desk.get(blocked).final_at is None
    desk.dev.send(other.address, 700)
    assert desk.settle(other).units_received == 700
    with transaction() as session:
        accounts.unfreeze(
            session, tenant=TENANT, code="user:blocked:owed", asset=COIN, reason="it is over", actor="ann"
        )
    desk.dev.mine(6)
    assert desk.look(blocked).state == "watching"
    assert (desk.balance("user:blocked:owed"), desk.balance(CUSTODY)) == (ETHER, 700)


def test_a_reorg_killed_on_its_way_is_finished_by_the_next_scan(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    deposits = [desk.by_address(account=f"user:{user}:available") for user in range(3)]
    desk.scan()
    chain_txs = [desk.dev.send(deposit.address, ETHER) for deposit in deposits]
    desk.scan()
    desk.dev.mine()
    desk.scan()
    desk.poll()
    assert desk.balance(CUSTODY) == 3 * ETHER
    desk.dev.reorg(4, keep=[(chain_tx, 1) for chain_tx in chain_txs])
    real, calls = record.undo, []

    def killed(*given: Any, **named: Any) -> None:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*given, **named)

    monkeypatch.setattr(record, "undo", killed)
    with pytest.raises(KeyboardInterrupt):
        desk.scan()
    monkeypatch.undo()
    desk.scan()
    desk.settle(deposits[0])
    assert {each.state for each in desk.all()} == {"credited"}
    assert {each.incarnation for each in desk.all()} == {1}
    assert desk.balance(CUSTODY) == 3 * ETHER


def test_a_reorg_deeper_than_what_is_stored_stops_the_scan_until_a_person_has_looked(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.dev.send(desk.dev.new_account(), 1)  # an empty block would be made again as it was
    desk.dev.mine(16)
    desk.scan()
    before = cursor().next_block
    desk.dev.reorg(17)
    desk.dev.mine()
    with pytest.raises(InvariantError, match="scan is stopped"):
        desk.scan()
    desk.scan()  # and pages once only
    stopped = cursor()
    assert (stopped.status, stopped.next_block) == ("stopped", before)
    with transaction() as session:
        assert [found.chain for found in service.failing_chains(session, longer_than=timedelta(hours=1))] == [CHAIN]
        service.restart_scan(session, CHAIN, next_block=desk.dev.height - 5, actor="ann", reason="it was the node")
    desk.dev.send(deposit.address, ETHER)
    assert desk.settle(deposit).state == "credited"


def test_a_flood_is_kept_block_by_block_and_goes_on_where_it_stopped(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    deposit = desk.by_address()
    desk.scan()
    began = cursor().next_block
    assert began is not None
    for _ in range(4):
        desk.dev.send(deposit.address, 1_000)
    monkeypatch.setattr(reading, "KEPT_AT_ONCE", 2)
    kept: list[int] = []

    def fails_the_second_time(session: Any, chain: str, transfers: Any, *, now: Any) -> None:
        if kept:
            raise TransientError("the database is slow today")
        kept.append(len(transfers))
        attribute(session, chain, transfers, now=now)

    monkeypatch.setattr(scan, "attribute", fails_the_second_time)
    desk.scan()
    assert (kept, cursor().next_block) == ([2], began + 2)
    monkeypatch.undo()
    desk.settle(deposit)
    assert sorted(each.state for each in desk.all()) == ["credited", "suspended", "suspended", "suspended"]
    assert desk.balance(CUSTODY) == 4_000


def test_more_payments_than_a_statement_has_parameters_can_be_looked_up(desk: Desk) -> None:
    deposit = desk.by_address()
    chain_tx = desk.dev.send(deposit.address, ETHER)
    desk.scan()
    many = [(chain_tx, index) for index in range(-1, 70_000)]
    with transaction() as session:
        assert queries.claimed(session, CHAIN, many) == {(chain_tx, -1)}
        assert len(queries.lock_waiting(session, CHAIN, [str(index) for index in range(70_000)])) == 0
        assert queries.owners(session, CHAIN, [deposit.address] * 70_000).keys() == {deposit.address}


def test_what_is_worth_nothing_waits_for_no_deposit(desk: Desk) -> None:
    deposit = desk.by_address()
    desk.scan()
    desk.dev.send(deposit.address, 0)
    desk.dev.send(deposit.address, 99)  # below units_min
    before = cursor().next_block
    with transaction() as session:
        queries.lock(session, deposit.id)  # somebody works on it
        desk.scan()
    assert before is not None and cursor().next_block == before + 2


def test_a_scan_that_begins_again_expires_nothing_that_it_has_not_read(desk: Desk) -> None:
    deposit = desk.by_address(deadline_at=SOON)
    desk.dev.rpc("evm_increaseTime", 5)
    desk.dev.mine(3)
    desk.scan()
    with transaction() as session:
        cursor = queries.cursor(session, CHAIN)
        assert cursor is not None and cursor.next_block is not None
        # Not from the chain's beginning: it is as long as all tests before this one have made it.
        next_block = max(cursor.next_block - 10, 0)
        service.restart_scan(session, CHAIN, next_block=next_block, actor="ann", reason="it was the node")
    assert desk.poll(deposit).state == "watching"
    desk.scan()
    assert desk.poll(deposit).state == "expired"
