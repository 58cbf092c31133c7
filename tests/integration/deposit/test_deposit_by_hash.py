"""A payment named by its hash: what is credited, what is not, and every fraud."""

from datetime import timedelta
from uuid import UUID

import pytest
import time_machine

from core import clock
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from domain.deposit import service
from local.devchain import DevChain
from tests.integration.deposit.desk import ACCOUNT, CUSTODY, ETHER, SOON, SUSPENSE, Desk
from tests.support.evm import COIN, Token

pytest_plugins = ["tests.support.evm_fixtures"]

NEVER = "0x" + "ab" * 32
NEVER_DEPOSIT = UUID(int=7)


def test_a_payment_is_credited_when_it_is_deep_enough_and_not_before(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER), units_expected=ETHER)
    seen = desk.look(deposit)
    assert (seen.state, seen.reason, seen.confirmations_seen) == ("pending", None, 1)  # its own block is the first
    assert desk.balance(ACCOUNT) == 0
    desk.dev.mine()
    credited = desk.poll(deposit)
    assert (credited.state, credited.units_received, credited.index, credited.sender) == (
        "credited", ETHER, -1, desk.payer,
    )  # fmt: skip
    assert desk.balance(ACCOUNT) == desk.balance(CUSTODY) == ETHER
    assert credited.final_at is None
    desk.dev.mine(2)
    final = desk.poll(deposit)
    assert final.final_at is not None and final.next_poll_at is None
    assert desk.events(deposit) == ["created", "seen", "credit"]


def test_a_token_is_credited_by_its_log(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send_token(desk.token.address, desk.shared, 5_000_000), asset=desk.token.asset)
    credited = desk.settle(deposit)
    assert (credited.state, credited.units_received, credited.index) == ("credited", 5_000_000, 0)
    assert desk.balance(ACCOUNT, desk.token.asset) == 5_000_000


def test_looking_again_and_again_credits_once(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.dev.mine()
    for _ in range(3):
        desk.look(deposit)
        desk.poll()
    assert desk.balance(ACCOUNT) == ETHER
    assert desk.events(deposit) == ["created", "seen", "credit"]


def test_a_waiting_transaction_proves_nothing(desk: Desk) -> None:
    with desk.dev.no_mining():
        deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
        assert desk.look(deposit).state == "watching"
        assert desk.poll(deposit).state == "watching"
        assert desk.events(deposit) == ["created", "mempool"]
        desk.dev.mine(2)
    assert desk.poll(deposit).state == "credited"


def test_the_finalized_tag_decides_where_the_chain_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from config import assets

    chain = assets.registry().chains[desk.reader.id]
    monkeypatch.setitem(assets.registry().chains, chain.id, chain.model_copy(update={"confirmations": "finalized"}))
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.dev.mine()
    assert desk.poll(deposit).state == "pending"  # the node calls a block final two blocks later
    desk.dev.mine()
    credited = desk.poll(deposit)
    assert credited.state == "credited" and credited.final_at is not None


def test_a_deposit_may_ask_for_more_confirmations_than_its_chain(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=4)
    desk.dev.mine(2)
    assert desk.poll(deposit).state == "pending"
    desk.dev.mine()
    assert desk.poll(deposit).state == "credited"


# --- frauds ------------------------------------------------------------------------------------------------------


def rejected(desk: Desk, deposit: service.Deposit) -> str | None:
    """The reason of a rejection, which waits for confirmations like a credit, and after which nothing is booked."""
    assert desk.look(deposit).state == "pending"
    after = desk.settle(deposit)
    assert after.state == "rejected"
    assert after.journal_id is None and desk.living_transfers() == 0
    return after.reason


def test_a_look_alike_token_is_refused(desk: Desk) -> None:
    fake = desk.dev.deploy("TestToken", "Tether USD", "USDT", 6, 10**18)
    chain_tx = desk.dev.send_token(fake, desk.shared, 5_000_000)
    assert rejected(desk, desk.by_hash(chain_tx, asset=desk.token.asset)) == "wrong_token"


def test_a_forged_event_of_a_contract_is_refused(desk: Desk, emitter: str) -> None:
    chain_tx = desk.dev.transact(emitter, "forge(address,address,uint256)", desk.payer, desk.shared, 5_000_000)
    assert rejected(desk, desk.by_hash(chain_tx, asset=desk.token.asset)) == "wrong_token"


def test_a_zero_value_transfer_is_refused(desk: Desk) -> None:
    assert rejected(desk, desk.by_hash(desk.dev.send(desk.shared, 0))) == "zero_value"
    chain_tx = desk.dev.send_token(desk.token.address, desk.shared, 0)
    assert rejected(desk, desk.by_hash(chain_tx, asset=desk.token.asset)) == "zero_value"


def test_a_poisoned_address_is_refused_though_it_looks_like_ours(desk: Desk) -> None:
    middle = "ab" if desk.shared[10:12].lower() != "ab" else "cd"
    alike = (desk.shared[:10] + middle + desk.shared[12:]).lower()
    assert alike[:8] == desk.shared[:8].lower() and alike[-8:] == desk.shared[-8:].lower()
    assert rejected(desk, desk.by_hash(desk.dev.send(alike, ETHER))) == "wrong_recipient"


def test_a_reverted_transaction_with_the_right_fields_is_refused(desk: Desk) -> None:
    poor = desk.dev.new_account(units=ETHER)
    chain_tx = desk.dev.send_token(desk.token.address, desk.shared, 5_000_000, sender=poor)
    assert rejected(desk, desk.by_hash(chain_tx, asset=desk.token.asset)) == "reverted"


def test_a_token_of_other_decimals_is_not_taken_for_the_one_asked_for(desk: Desk) -> None:
    chain_tx = desk.dev.send_token(desk.other_token.address, desk.shared, 5_000_000)
    assert rejected(desk, desk.by_hash(chain_tx, asset=desk.token.asset)) == "wrong_token"


def test_the_coin_is_not_taken_for_a_token(desk: Desk) -> None:
    assert rejected(desk, desk.by_hash(desk.dev.send(desk.shared, ETHER), asset=desk.token.asset)) == "wrong_token"


def test_the_right_address_on_the_wrong_chain_is_never_seen(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from local.anvil import Anvil

    elsewhere = Anvil(tmp_path_factory.mktemp("elsewhere"), chain_id=31338)
    elsewhere.start()
    try:
        with DevChain(elsewhere.url) as other:
            chain_tx = other.send(desk.shared, ETHER)
    finally:
        elsewhere.stop()
    deposit = desk.by_hash(chain_tx)
    desk.settle(deposit)
    assert desk.said(deposit) == ("watching", None)
    with pytest.raises(InvalidRequestError):
        desk.by_hash(chain_tx, chain="eip155:31338")


def test_a_transaction_older_than_the_order_is_refused(desk: Desk) -> None:
    chain_tx = desk.dev.send(desk.shared, ETHER)
    with time_machine.travel(clock.now() + timedelta(days=2)):
        deposit = desk.by_hash(chain_tx)
    assert rejected(desk, deposit) == "older_than_order"


def test_another_users_transaction_to_somebody_else_is_refused(desk: Desk) -> None:
    stranger = desk.dev.new_account(units=ETHER)
    chain_tx = desk.dev.send(desk.dev.new_account(), ETHER // 2, sender=stranger)
    assert rejected(desk, desk.by_hash(chain_tx)) == "wrong_recipient"


def test_another_users_payment_to_us_is_refused_where_the_payer_is_known(desk: Desk) -> None:
    stranger = desk.dev.new_account(units=ETHER)
    chain_tx = desk.dev.send(desk.shared, ETHER // 2, sender=stranger)
    thief = desk.by_hash(chain_tx, payer=desk.dev.new_account(), account="user:666:available")
    assert rejected(desk, thief) == "wrong_payer"
    assert desk.settle(desk.by_hash(chain_tx, payer=stranger.lower())).state == "credited"


def test_dust_is_recorded_and_not_credited(desk: Desk) -> None:
    assert rejected(desk, desk.by_hash(desk.dev.send(desk.shared, 99))) == "below_minimum"


@pytest.mark.parametrize("spell", [str, str.upper, lambda tx: tx[2:], lambda tx: tx[2:].upper()])
def test_the_same_hash_claimed_twice_however_spelled_is_credited_once(desk: Desk, spell: object) -> None:
    assert callable(spell)
    chain_tx = desk.dev.send(desk.shared, ETHER)
    first = desk.by_hash(chain_tx)
    second = desk.by_hash(spell(chain_tx).replace("0X", "0x"), account="user:7:available")
    desk.look(first)
    desk.settle(second)
    assert desk.said(first) == ("credited", None)
    assert desk.said(second) == ("rejected", "duplicate")
    assert (desk.balance(ACCOUNT), desk.balance("user:7:available")) == (ETHER, 0)


def test_a_transfer_credited_long_ago_cannot_be_claimed_again(desk: Desk) -> None:
    chain_tx = desk.dev.send(desk.shared, ETHER)
    assert desk.settle(desk.by_hash(chain_tx)).final_at is not None
    again = desk.by_hash(chain_tx, account="user:7:available")
    desk.settle(again)
    assert desk.said(again) == ("rejected", "duplicate")


def test_each_of_two_transfers_in_one_transaction_can_be_claimed_once(desk: Desk, emitter: str) -> None:
    token = desk.token
    desk.dev.send_token(token.address, emitter, 20)
    chain_tx = desk.dev.transact(
        emitter, "spread(address,address[],uint256)", token.address, [desk.shared, desk.shared], 10
    )
    deposits = [desk.by_hash(chain_tx, asset=token.asset) for _ in range(3)]
    desk.settle(deposits[0])
    assert sorted(desk.said(deposit) for deposit in deposits) == [
        ("credited", None), ("credited", None), ("rejected", "duplicate"),
    ]  # fmt: skip
    assert sorted(found.index for found in map(desk.get, deposits) if found.index is not None) == [0, 1]


# --- amounts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paid", "said"),
    [
        (9_950, ("credited", None)),
        (9_949, ("suspended", "underpaid")),
        (10_050, ("credited", None)),
        (10_051, ("suspended", "overpaid")),
    ],
)
def test_the_tolerance_is_kept_to_the_unit(desk: Desk, paid: int, said: tuple[str, str | None]) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, paid), units_expected=10_000, tolerance_bps=50)
    desk.settle(deposit)
    assert desk.said(deposit) == said
    credited = said[0] == "credited"
    assert desk.balance(ACCOUNT) == (paid if credited else 0)  # what arrived, not what was expected
    assert desk.balance(SUSPENSE) == (0 if credited else paid)


def test_without_a_tolerance_one_unit_too_few_is_suspended(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER - 1), units_expected=ETHER)
    assert desk.settle(deposit).reason == "underpaid"


def test_a_suspended_deposit_is_released_once_by_a_person(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER - 1), units_expected=ETHER)
    desk.settle(deposit)
    with transaction() as session:
        service.release(session, deposit.id, actor="ann", reason="close enough")
    assert desk.said(deposit) == ("credited", "underpaid")
    assert (desk.balance(ACCOUNT), desk.balance(SUSPENSE)) == (ETHER - 1, 0)
    (detail,) = desk.details(deposit, "release")
    assert (detail["actor"], detail["note"]) == ("ann", "close enough")
    for wrong in (deposit.id, NEVER_DEPOSIT):
        with pytest.raises(ConflictError if wrong == deposit.id else NotFoundError), transaction() as session:
            service.release(session, wrong, actor="ann", reason="again")


# --- time --------------------------------------------------------------------------------------------------------


def test_what_never_comes_expires_by_the_clock_of_the_chain(desk: Desk) -> None:
    deadline = max(clock.now(), desk.reader.head().latest.time) + timedelta(seconds=20)
    deposit = desk.by_hash(NEVER, deadline_at=deadline)
    later = deadline + timedelta(minutes=1)
    with time_machine.travel(later):
        assert desk.poll(deposit).state == "watching"  # a chain that stands still expires nothing
    after(desk, seconds=60)
    with time_machine.travel(later):
        assert desk.poll(deposit).state == "expired"
    assert desk.living_transfers() == 0


def test_money_that_comes_too_late_is_suspended(desk: Desk) -> None:
    desk.dev.rpc("evm_increaseTime", 5)
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER), deadline_at=SOON)
    desk.settle(deposit)
    assert desk.said(deposit) == ("suspended", "late")
    assert (desk.balance(ACCOUNT), desk.balance(SUSPENSE)) == (0, ETHER)


def test_an_expired_deposit_notices_its_payment(desk: Desk) -> None:
    payer = desk.dev.new_account(units=2 * ETHER)
    deposit, chain_tx = expired_before_it_was_mined(desk, payer)
    assert deposit.state == "expired"
    assert desk.settle(deposit).reason == "late"
    assert [event for event in desk.events(deposit) if event != "mempool"] == ["created", "expire", "late", "suspend"]
    assert deposit.chain_tx == chain_tx


def expired_before_it_was_mined(desk: Desk, payer: str) -> tuple[service.Deposit, str]:
    """It waits in the mempool, at a price that no block has room for, while the chain goes past its deadline."""
    with desk.dev.no_mining():
        chain_tx = desk.dev.send(desk.shared, ETHER, sender=payer, nonce=1)
        deposit = desk.by_hash(chain_tx, deadline_at=SOON)
        after(desk, seconds=30)
        expired = desk.poll(deposit)
        desk.dev.send(payer, 0, sender=payer, nonce=0)  # what it waited for
        desk.dev.mine()
    return expired, chain_tx


def after(desk: Desk, *, seconds: int) -> None:
    """A block whose clock is so much later."""
    desk.dev.rpc("evm_increaseTime", seconds)
    desk.dev.mine()


def test_a_deposit_that_was_never_paid_is_forgotten_in_the_end(desk: Desk) -> None:
    deposit = desk.by_hash(NEVER, deadline_at=SOON)
    after(desk, seconds=1)
    desk.poll()
    with time_machine.travel(clock.now() + timedelta(days=8)):
        forgotten = desk.poll(deposit)
    assert forgotten.state == "expired" and forgotten.final_at is not None and forgotten.next_poll_at is None


def test_a_replaced_transaction_is_told_when_the_other_is_deep_enough(desk: Desk) -> None:
    payer = desk.dev.new_account(units=2 * ETHER)
    with desk.dev.no_mining():
        deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER, sender=payer))
        assert desk.look(deposit).state == "watching"
        desk.dev.replace(deposit.chain_tx or "")
        desk.dev.mine()
        assert desk.poll(deposit).state == "watching"  # a reorg could still undo the replacement
        desk.dev.mine()
    assert desk.poll(deposit).state == "replaced"
    assert desk.balance(CUSTODY) == 0


def test_a_transaction_that_is_dropped_is_not_called_replaced(desk: Desk) -> None:
    payer = desk.dev.new_account(units=2 * ETHER)
    with desk.dev.no_mining():
        deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER, sender=payer))
        desk.look(deposit)
        desk.dev.drop(deposit.chain_tx or "")
        desk.dev.mine(4)
    assert desk.poll(deposit).state == "watching"


# --- reading -----------------------------------------------------------------------------------------------------


def test_many_deposits_are_read_together(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    chain_txs = [desk.dev.send(desk.shared, 1_000 + number) for number in range(12)]
    desk.dev.mine()
    deposits = [desk.by_hash(chain_tx) for chain_tx in chain_txs]
    calls = []
    for method in ("head", "blocks", "chain_txs", "spent", "scan"):

        def counted(*given: object, real: object = getattr(desk.reader, method), name: str = method) -> object:
            calls.append(name)
            assert callable(real)
            return real(*given)

        monkeypatch.setattr(desk.reader, method, counted)
    desk.poll()
    assert calls == ["head", "chain_txs", "head", "chain_txs", "blocks"], "once in vain, and once with the blocks"
    assert {desk.said(deposit) for deposit in deposits} == {("credited", None)}


def test_nothing_of_another_assets_tier_is_needed_for_a_small_amount(desk: Desk, other_token: Token) -> None:
    from config import assets

    tiers = (assets.Tier(up_to=1_000, blocks=1), assets.Tier(blocks=5))
    tiered = assets.registry().assets[COIN].model_copy(update={"confirmations": tiers})
    assets.registry().assets[COIN] = tiered
    small = desk.by_hash(desk.dev.send(desk.shared, 1_000))
    assert desk.poll(small).state == "credited"
    large = desk.by_hash(desk.dev.send(desk.shared, 1_001))
    desk.dev.mine(3)
    assert desk.poll(large).state == "pending"
    desk.dev.mine()
    assert desk.poll(large).state == "credited"
