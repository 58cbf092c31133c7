"""What a reorg undoes, and how the books follow.

The node makes the same block again from the same transactions, so each reorg here moves one to another height.
"""

from collections.abc import Callable

import pytest
from sqlalchemy import delete, update

from core.db import transaction
from domain.deposit import service
from domain.deposit.scan_models import ChainBlock
from ledger import accounts, balances
from tests.integration.deposit.desk import ACCOUNT, CUSTODY, ETHER, OWED, SUSPENSE, TENANT, Desk
from tests.support.evm import COIN

pytest_plugins = ["tests.support.evm_fixtures"]


def test_a_reorg_voids_what_was_pending(desk: Desk) -> None:
    desk.dev.mine()
    chain_tx = desk.dev.send(desk.shared, ETHER)
    deposit = desk.by_hash(chain_tx)
    assert desk.look(deposit).state == "pending"
    desk.dev.reorg(2, keep=[(chain_tx, 0)])
    assert desk.poll(deposit).state == "watching"
    assert desk.poll(deposit).state == "credited"
    assert desk.events(deposit) == ["created", "seen", "reorged", "seen", "credit"]
    assert desk.balance(ACCOUNT) == ETHER


def test_a_reorg_after_the_credit_reverses_it_and_the_new_block_credits_it_again(desk: Desk, emitter: str) -> None:
    token = desk.token
    chain_tx = desk.dev.send_token(token.address, desk.shared, 5_000_000)
    deposit = desk.by_hash(chain_tx, asset=token.asset)
    noise = desk.dev.transact(
        emitter, "forge(address,address,uint256)", desk.payer, desk.shared, 1, sender=desk.dev.accounts[1]
    )
    assert desk.poll(deposit).state == "credited"
    first = desk.get(deposit)
    desk.dev.reorg(2, keep=[(noise, 1), (chain_tx, 1)])
    undone = desk.poll(deposit)
    assert (undone.state, undone.incarnation, undone.units_received) == ("watching", 1, None)
    assert desk.balance(ACCOUNT, token.asset) == desk.balance(CUSTODY, token.asset) == 0
    with transaction() as session:
        reversal = balances.journals_about(session, TENANT, deposit.subject).rows
    assert first.journal_id in [journal.reverses for journal in reversal]
    desk.dev.mine()
    again = desk.poll(deposit)
    assert again.state == "credited"
    assert (again.block_number, again.index) != (first.block_number, first.index)
    assert again.index == 1  # the log's place in its block is another now
    assert desk.balance(ACCOUNT, token.asset) == 5_000_000
    assert desk.events(deposit) == ["created", "seen", "credit", "reorged", "seen", "credit"]


def test_a_reorg_of_a_suspended_deposit_empties_suspense(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, 500), units_expected=1_000)
    desk.dev.mine()
    assert desk.poll(deposit).state == "suspended"
    desk.dev.reorg(2)
    assert desk.poll(deposit).state == "watching"
    assert desk.balance(SUSPENSE) == desk.balance(CUSTODY) == 0


def test_a_reorg_after_a_release_takes_the_money_from_its_owner(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, 500), units_expected=1_000)
    desk.dev.mine()
    desk.poll()
    with transaction() as session:
        service.release(session, deposit.id, actor="ann", reason="enough")
    desk.spend(200)
    desk.dev.reorg(2)
    assert desk.poll(deposit).state == "watching"
    assert (desk.balance(ACCOUNT), desk.balance(OWED)) == (0, 200)
    assert desk.balance(SUSPENSE) == desk.balance(CUSTODY) == 0


@pytest.mark.parametrize(
    ("block", "spent", "left", "owed"),
    [(accounts.freeze, 0, 0, 0), (accounts.freeze, 200, 300, 500), (accounts.close, 500, 0, 500)],
)
def test_a_reorg_reverses_the_credit_of_a_blocked_account_or_books_all_of_it_as_a_debt(
    desk: Desk, block: Callable[..., object], spent: int, left: int, owed: int
) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, 500))
    desk.dev.mine()
    assert desk.poll(deposit).state == "credited"
    if spent:
        desk.spend(spent)
    with transaction() as session:
        block(session, tenant=TENANT, code=ACCOUNT, asset=COIN, reason="a court", actor="ann")
    desk.dev.reorg(2)
    assert desk.poll(deposit).state == "watching"
    assert [desk.balance(code) for code in (ACCOUNT, OWED, CUSTODY)] == [left, owed, 0]


def test_what_was_spent_before_the_reorg_becomes_a_debt_and_the_next_credit_pays_it(desk: Desk) -> None:
    chain_tx = desk.dev.send(desk.shared, ETHER)
    deposit = desk.by_hash(chain_tx)
    desk.dev.mine()
    desk.poll()
    desk.spend(700)
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    undone = desk.poll(deposit)
    assert (desk.balance(ACCOUNT), desk.balance(OWED), undone.units_short) == (0, 700, 700)
    assert desk.details(deposit, "reorged")[0]["owed"] == "700"
    assert desk.balance(CUSTODY) == 0
    desk.dev.mine()
    again = desk.poll(deposit)
    assert (again.state, again.units_short, again.units_recovered) == ("credited", 0, 700)
    assert (desk.balance(ACCOUNT), desk.balance(OWED)) == (ETHER - 700, 0)


def test_a_rejection_is_undone_like_a_credit(desk: Desk) -> None:
    poor = desk.dev.accounts[3]
    chain_tx = desk.dev.send_token(desk.token.address, desk.shared, 5, sender=poor)
    deposit = desk.by_hash(chain_tx, asset=desk.token.asset)
    funding = desk.dev.send_token(desk.token.address, poor, 5)
    assert desk.poll(deposit).state == "rejected"
    desk.dev.reorg(2, keep=[(funding, 0), (chain_tx, 1)])
    assert desk.poll(deposit).state == "watching"
    desk.dev.mine(2)
    assert desk.poll(deposit).state == "credited"  # with the funds there first it did not revert
    assert desk.events(deposit) == ["created", "seen", "reject", "reorged", "seen", "credit"]


def test_a_duplicate_inherits_the_transfer_that_the_first_lost(desk: Desk) -> None:
    chain_tx = desk.dev.send(desk.shared, ETHER)
    first = desk.by_hash(chain_tx)
    desk.look(first)
    second = desk.by_hash(chain_tx, account="user:7:available")
    desk.dev.mine()
    desk.poll()
    assert [desk.said(first), desk.said(second)] == [("credited", None), ("rejected", "duplicate")]
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    desk.poll()
    desk.dev.mine()
    desk.poll()
    assert sorted([desk.said(first), desk.said(second)]) == [("credited", None), ("rejected", "duplicate")]
    assert desk.balance(ACCOUNT) + desk.balance("user:7:available") == ETHER


@pytest.mark.parametrize("confirmations", [1, 2])
def test_a_reorg_deeper_than_the_confirmations_is_undone(desk: Desk, confirmations: int) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=confirmations)
    desk.dev.mine(confirmations - 1) if confirmations > 1 else None
    assert desk.poll(deposit).state == "credited"
    desk.dev.reorg(confirmations + 1)
    undone = desk.poll(deposit)
    assert (undone.state, undone.incarnation) == ("watching", 1)
    assert desk.balance(ACCOUNT) == desk.balance(CUSTODY) == 0


def test_final_deposits_are_no_longer_read(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    final = desk.settle(deposit, blocks=4)
    assert final.final_at is not None and final.next_poll_at is None
    assert service.poll(desk.reader) == 0


def test_a_reorg_behind_the_finalized_tag_is_noticed_whether_the_scan_has_read_the_block_or_not(desk: Desk) -> None:
    desk.by_address()
    desk.scan()  # the scan has begun, and knows nothing of what follows
    early, late = (desk.by_hash(desk.dev.send(desk.shared, ETHER)) for _ in range(2))
    desk.dev.mine(5)
    for _ in range(2):
        desk.poll()
    finalized = desk.reader.head().finalized
    for deposit in map(desk.get, (early, late)):
        assert finalized is not None and deposit.block_number is not None and deposit.block_number <= finalized
        assert (deposit.state, deposit.final_at) == ("credited", None)
    desk.dev.reorg(6)  # the later one's block and those above it
    desk.poll()
    assert [desk.get(each).state for each in (early, late)] == ["credited", "watching"]
    desk.scan()
    assert desk.poll(early).final_at is not None
    desk.dev.reorg(8)
    desk.scan()
    assert desk.get(early).state == "watching"
    assert desk.balance(ACCOUNT) == desk.balance(CUSTODY) == 0


def test_what_the_scan_read_differently_is_not_final(desk: Desk) -> None:
    desk.by_address()
    desk.scan()
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.dev.mine(5)
    desk.poll()
    desk.scan()
    with transaction() as session:
        block = desk.get(deposit).block_number
        session.execute(update(ChainBlock).where(ChainBlock.number == block).values(hash="0x" + "ee" * 32))
    assert desk.poll(deposit).final_at is None
    with transaction() as session:
        session.execute(delete(ChainBlock).where(ChainBlock.number == block))  # no longer kept
    assert desk.poll(deposit).final_at is not None
