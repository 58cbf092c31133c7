"""Whole deposits on every kind of chain: the same promises, the same books, whatever is read underneath."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from chains import formats
from chains.base import ChainReader
from config.assets import registry as assets
from core import clock
from core.db import transaction
from core.errors import InvalidRequestError, TransientError
from domain.deposit import service
from domain.deposit.models import Deposit, DepositTransfer
from domain.deposit.scan_models import ChainCursor
from domain.deposit.service import NewDeposit, Route
from ledger import balances, invariants
from ledger.assets import sync_assets
from tests.conformance.lab import Lab, Payment

TENANT = "shop"
UNITS = 1_000_000
ROUNDS_MAX = 40
PAGE = 200


class Till:
    """Deposits asked for, money paid in, books read. `close` compares all of them."""

    def __init__(self, lab: Lab, reader: ChainReader) -> None:
        self.lab = lab
        self.reader = reader
        self.shared = lab.new_address()
        with transaction() as session:
            sync_assets(session)
            service.register_addresses(session, TENANT, lab.chain, [self.shared], shared=True)

    # Asking

    def by_hash(self, chain_tx: str, user: str = "1", **fields: Any) -> Deposit:
        return self.ask(user, chain_tx=chain_tx, address=self.shared, **fields)

    def by_address(self, user: str = "1", **fields: Any) -> Deposit:
        with transaction() as session:
            service.register_addresses(session, TENANT, self.lab.chain, [self.lab.new_address()])
        return self.ask(user, **fields)

    def ask(self, user: str, **fields: Any) -> Deposit:
        given = {"tenant": TENANT, "asset": self.lab.coin, "account": f"user:{user}:available"}
        with transaction() as session:
            return service.create(session, NewDeposit(**given | fields))

    # Working

    def work(self, reader: ChainReader | None = None) -> None:
        """One round of everything, as if all of it were due."""
        reader = reader or self.reader
        service.scan(reader)
        with transaction() as session:
            session.execute(update(Deposit).where(Deposit.next_poll_at.is_not(None)).values(next_poll_at=clock.now()))
        service.poll(reader)
        for deposit in self.all():
            if deposit.next_poll_at is None and deposit.final_at is None:  # it was set apart, and has a job of its own
                with suppress(TransientError):
                    service.look(reader, deposit.id)

    def settle(self, blocks: int | None = None) -> None:
        """Blocks enough for every verdict, and looks enough to come to it."""
        self.work()
        for _ in range(self.lab.final_after + 1 if blocks is None else blocks):
            self.lab.mine()
            self.work()

    def until(self, happened: Callable[[], bool]) -> None:
        """Blocks until it has happened: for what goes by the chain's clock."""
        for _ in range(ROUNDS_MAX):
            if happened():
                return
            time.sleep(0.2)
            self.lab.mine()
            self.work()
        raise AssertionError("it did not happen")

    # Reading

    def get(self, deposit: Deposit) -> Deposit:
        with transaction() as session:
            found = service.get(session, deposit.id)
        assert found is not None
        return found

    def said(self, deposit: Deposit) -> tuple[str, str | None]:
        found = self.get(deposit)
        return found.state, found.reason

    def all(self) -> list[Deposit]:
        """Newest first, however many there are."""
        found: list[Deposit] = []
        with transaction() as session:
            while page := service.page(session, tenant=TENANT, before=found[-1].id if found else None, limit=PAGE):
                found += page
        return found

    def events(self, deposit: Deposit) -> list[str]:
        with transaction() as session:
            return [line.event for line in service.history(session, deposit.id)]

    def balance(self, user: str, asset: str | None = None) -> int:
        with transaction() as session:
            return balances.balance(session, TENANT, f"user:{user}:available", asset or self.lab.coin)

    def living_transfers(self) -> int:
        living = select(func.count()).select_from(DepositTransfer).where(DepositTransfer.orphaned_at.is_(None))
        with transaction() as session:
            return session.scalar(living) or 0

    def close(self) -> None:
        deposits = self.all()
        with transaction() as session:
            assert invariants.verify(session) == []
        for asset in {self.lab.coin, self.lab.token}:
            booked = [d for d in deposits if d.asset == asset and d.state in ("credited", "suspended")]
            with transaction() as session:
                held = balances.balance(session, TENANT, f"custody:{self.lab.chain}", asset)
            assert held == sum(deposit.units_received or 0 for deposit in booked)


@pytest.fixture
def till(database_url: str, lab: Lab, reader: ChainReader) -> Iterator[Till]:
    made = Till(lab, reader)
    yield made
    made.close()


def can(lab: Lab, what: str) -> None:
    if what not in lab.can:
        pytest.skip(f"{lab.chain} has no such thing: {what}")


def is_final_only(lab: Lab) -> bool:
    return assets().chains[lab.chain].reorg_depth == 0


# --- one payment, from sight to credit -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coin", "token"])
def test_a_payment_by_hash_is_seen_confirmed_and_credited_once(till: Till, lab: Lab, kind: str) -> None:
    asset = lab.coin if kind == "coin" else lab.token
    chain_tx = lab.pay(Payment(till.shared, UNITS, asset))
    deposit = till.by_hash(chain_tx, asset=asset, units_expected=UNITS)
    till.work()
    assert till.said(deposit) == ("watching", None), "in no block yet: proves nothing"
    lab.mine()
    till.work()
    if lab.final_after > 1:
        assert till.said(deposit) == ("watching" if is_final_only(lab) else "pending", None)
        assert till.balance("1", asset) == 0
    till.settle()
    assert till.said(deposit) == ("credited", None)
    till.settle()
    assert till.balance("1", asset) == UNITS and till.living_transfers() == 1


@pytest.mark.parametrize("kind", ["coin", "token"])
def test_a_payment_by_address_is_found_by_the_scan_and_credited_once(till: Till, lab: Lab, kind: str) -> None:
    asset = lab.coin if kind == "coin" else lab.token
    deposit = till.by_address(asset=asset, units_expected=UNITS)
    till.work()
    chain_tx = lab.pay(Payment(deposit.address, UNITS, asset))
    till.settle()
    found = till.get(deposit)
    assert (found.state, found.chain_tx, found.units_received) == ("credited", chain_tx, UNITS)
    assert till.balance("1", asset) == UNITS


def test_the_same_transfer_is_found_alike_by_hash_and_by_scan(till: Till, lab: Lab, reader: ChainReader) -> None:
    deposit = till.by_address()
    till.work()
    lab.pay(Payment(deposit.address, UNITS))
    till.settle()
    found = till.get(deposit)
    told = [t for t in reader.chain_txs([found.chain_tx or ""])[found.chain_tx or ""].transfers if t.units == UNITS]
    assert (found.index, found.sender, found.block_hash) in {(t.index, t.sender, t.block_hash) for t in told}


def test_several_transfers_in_one_transaction_are_several_deposits(till: Till, lab: Lab) -> None:
    can(lab, "many")
    asset = lab.token
    one, other = till.by_address("1", asset=asset), till.by_address("2", asset=asset)
    till.work()
    lab.pay(
        Payment(one.address, UNITS, asset),
        Payment(other.address, 2 * UNITS, asset),
        Payment(other.address, 3 * UNITS, asset),
    )
    till.settle()
    assert till.said(one) == till.said(other) == ("credited", None)
    assert till.balance("1", asset) == UNITS
    extra = [deposit for deposit in till.all() if deposit.mode == "unexpected"]
    assert [deposit.account for deposit in extra] == ["user:2:available"] and till.living_transfers() == 3
    assert {till.get(other).units_received, extra[0].units_received} == {2 * UNITS, 3 * UNITS}


def test_several_transfers_to_a_shared_address_pay_several_orders(till: Till, lab: Lab) -> None:
    can(lab, "many")
    asset = lab.token
    chain_tx = lab.pay(Payment(till.shared, UNITS, asset), Payment(till.shared, UNITS, asset))
    deposits = [till.by_hash(chain_tx, user, asset=asset, units_expected=UNITS) for user in ("1", "2", "3")]
    till.settle()
    assert sorted(till.said(deposit) for deposit in deposits) == [
        ("credited", None),
        ("credited", None),
        ("rejected", "duplicate"),
    ]


# --- what is refused -----------------------------------------------------------------------------------------------


def test_the_same_payment_claimed_twice_is_credited_once(till: Till, lab: Lab) -> None:
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    first = till.by_hash(chain_tx, "1")
    till.settle()
    thief = till.by_hash(chain_tx, "2")
    till.settle()
    assert till.said(first) == ("credited", None) and till.said(thief) == ("rejected", "duplicate")
    assert till.balance("2") == 0


def test_the_same_hash_in_another_spelling_is_the_same_payment(till: Till, lab: Lab) -> None:
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    first = till.by_hash(chain_tx, "1")
    spelled = chain_tx.upper().replace("0X", "0x") if lab.chain.split(":")[0] != "solana" else chain_tx
    again = till.by_hash(spelled, "2")
    assert again.chain_tx == first.chain_tx == chain_tx
    till.settle()
    assert sorted([till.said(first), till.said(again)]) == [("credited", None), ("rejected", "duplicate")]


def test_a_payment_to_somebody_else_is_refused(till: Till, lab: Lab) -> None:
    deposit = till.by_hash(lab.pay(Payment(lab.new_address(), UNITS)))
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_recipient")


def test_a_payment_older_than_the_order_is_refused(till: Till, lab: Lab) -> None:
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)))
    with transaction() as session:  # as if it had been asked for two days after the payment
        session.execute(update(Deposit).values(created_at=clock.now() + timedelta(days=2)))
    till.settle()
    assert till.said(deposit) == ("rejected", "older_than_order")


def test_another_payers_transaction_is_refused(till: Till, lab: Lab) -> None:
    if not formats.tells_payer(lab.chain):
        pytest.skip(f"{lab.chain} does not say who paid")
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)), payer=lab.new_address())
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_payer")


def test_a_transaction_that_was_never_sent_is_never_credited(till: Till, lab: Lab) -> None:
    deposit = till.by_hash(lab.missing)
    till.settle()
    assert till.said(deposit) == ("watching", None) and till.balance("1") == 0


def test_a_failed_transaction_is_refused_whatever_its_fields_say(till: Till, lab: Lab) -> None:
    can(lab, "fail")
    waiting = till.by_address("2")
    till.work()
    by_hash = till.by_hash(lab.fail(till.shared, UNITS), units_expected=UNITS)
    lab.fail(waiting.address, UNITS)
    till.settle()
    assert till.said(by_hash) == ("rejected", "reverted")
    assert till.said(waiting) == ("watching", None) and till.balance("2") == 0


def test_a_token_of_the_same_name_is_not_the_token(till: Till, lab: Lab) -> None:
    can(lab, "strange")
    waiting = till.by_address("2", asset=lab.token, units_expected=UNITS)
    till.work()
    deposit = till.by_hash(lab.pay_strange(till.shared, UNITS), asset=lab.token, units_expected=UNITS)
    lab.pay_strange(waiting.address, UNITS)
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_token")
    assert till.said(waiting) == ("watching", None)
    assert till.balance("1", lab.token) == till.balance("2", lab.token) == 0


def test_the_coin_does_not_pay_for_a_token(till: Till, lab: Lab) -> None:
    if lab.token == lab.coin:
        pytest.skip("the chain has no tokens")
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)), asset=lab.token, units_expected=UNITS)
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_token")


def test_nothing_is_no_payment(till: Till, lab: Lab) -> None:
    can(lab, "zero")
    waiting = till.by_address("2", asset=lab.token)
    till.work()
    deposit = till.by_hash(lab.pay(Payment(till.shared, 0, lab.token)), asset=lab.token)
    lab.pay(Payment(waiting.address, 0, lab.token))
    till.settle()
    assert till.said(deposit) == ("rejected", "zero_value")
    assert till.said(waiting) == ("watching", None)


def test_dust_is_not_taken_for_the_payment_that_is_waited_for(till: Till, lab: Lab) -> None:
    asset = assets().assets[lab.coin]
    assets().assets[lab.coin] = asset.model_copy(update={"units_min": UNITS})
    try:
        waiting = till.by_address("2", units_expected=2 * UNITS)
        till.work()
        deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS - 1)))
        lab.pay(Payment(waiting.address, UNITS - 1))
        till.settle()
        assert till.said(deposit) == ("rejected", "below_minimum")
        assert till.said(waiting) == ("watching", None)
        lab.pay(Payment(waiting.address, 2 * UNITS))
        till.settle()
        assert till.said(waiting) == ("credited", None)
    finally:
        assets().assets[lab.coin] = asset


def test_too_little_too_much_and_nobody_asked_wait_for_a_person(till: Till, lab: Lab) -> None:
    little = till.by_address("1", units_expected=UNITS)
    much = till.by_address("2", units_expected=UNITS, tolerance_bps=100)
    till.work()
    lab.pay(Payment(little.address, UNITS - 1))
    lab.pay(Payment(much.address, UNITS + UNITS // 50))
    till.settle()
    assert till.said(little) == ("suspended", "underpaid") and till.said(much) == ("suspended", "overpaid")
    lab.pay(Payment(little.address, UNITS))
    till.settle()
    assert ("suspended", "unexpected") in {(d.state, d.reason) for d in till.all() if d.mode == "unexpected"}
    assert till.balance("1") == till.balance("2") == 0


# --- what does not come ---------------------------------------------------------------------------------------------


def test_a_payment_that_was_replaced_is_told_so_and_not_credited(till: Till, lab: Lab) -> None:
    can(lab, "replace")
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    deposit = till.by_hash(chain_tx)
    till.work()
    assert "mempool" in till.events(deposit)
    lab.replace(chain_tx)
    till.settle()
    assert till.said(deposit) == ("replaced", None) and till.balance("1") == 0


def test_a_dropped_payment_waits_until_its_deadline(till: Till, lab: Lab) -> None:
    can(lab, "drop")
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    deposit = till.by_hash(chain_tx)
    till.work()
    lab.drop(chain_tx)
    till.settle()
    if "expire" not in lab.can:  # a transaction that says until when it is valid need not be waited for
        assert till.said(deposit) == ("watching", None)
    with transaction() as session:
        session.execute(update(Deposit).values(deadline_at=clock.now()))
    till.until(lambda: till.said(deposit)[0] == "expired")
    assert till.balance("1") == 0


def test_a_deposit_that_nobody_pays_expires_by_the_chains_clock_and_late_money_is_kept(till: Till, lab: Lab) -> None:
    deposit = till.by_address(units_expected=UNITS, deadline_at=clock.now() + timedelta(seconds=1))
    till.until(lambda: till.said(deposit)[0] == "expired")
    lab.pay(Payment(deposit.address, UNITS))
    till.settle()
    assert till.said(deposit) == ("suspended", "late") and till.balance("1") == 0


# --- once, whatever happens -----------------------------------------------------------------------------------------


def test_scanning_again_finds_the_same_deposits_and_posts_nothing_twice(till: Till, lab: Lab) -> None:
    first = till.by_address("1")
    till.work()
    with transaction() as session:
        began = session.scalar(select(ChainCursor.next_block)) or 0
    for _ in range(3):
        lab.pay(Payment(first.address, UNITS))
        lab.mine()
    lab.pay(Payment(first.address, UNITS, lab.token))
    till.settle()
    before = sorted((d.chain_tx, d.index, d.state, d.journal_id) for d in till.all())
    assert len(before) == 4 and till.living_transfers() == 4
    with transaction() as session:
        service.restart_scan(session, lab.chain, next_block=began, actor="test", reason="again")
    till.settle()
    assert sorted((d.chain_tx, d.index, d.state, d.journal_id) for d in till.all()) == before
    assert till.living_transfers() == 4


def test_a_reorg_takes_back_what_was_credited_and_gives_it_again(till: Till, lab: Lab) -> None:
    can(lab, "reorg")
    lasting, gone = till.by_address("1"), till.by_address("2")
    till.work()
    kept = lab.pay(Payment(lasting.address, UNITS))
    lab.pay(Payment(gone.address, UNITS))
    till.settle(3)
    assert till.balance("1") == till.balance("2") == UNITS
    lab.undo(4, keep=[kept])
    till.settle()
    assert till.balance("1") == UNITS and till.said(lasting) == ("credited", None)
    assert till.balance("2") == 0 and till.said(gone) == ("watching", None)
    assert till.living_transfers() == 1


def test_a_pending_payment_that_a_reorg_takes_away_books_nothing(till: Till, lab: Lab) -> None:
    can(lab, "reorg")
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)))
    lab.mine()
    till.work()
    assert till.said(deposit) == ("pending", None)
    lab.undo(1)
    till.settle()
    assert till.said(deposit) == ("watching", None) and till.balance("1") == 0
    assert "reorged" in till.events(deposit)


def test_another_address_of_the_same_owner_is_not_taken_for_this_one(till: Till, lab: Lab) -> None:
    mine, theirs = till.by_address("1", units_expected=UNITS), till.by_address("2", units_expected=UNITS)
    assert mine.address != theirs.address
    till.work()
    lab.pay(Payment(theirs.address, UNITS))
    till.settle()
    assert till.said(mine) == ("watching", None) and till.said(theirs) == ("credited", None)


def test_asking_again_for_the_same_owner_gives_the_same_address(till: Till, lab: Lab) -> None:
    first = till.by_address("1")
    again = till.ask("1")
    assert again.address == first.address


# --- one address for many, told apart by tag -------------------------------------------------------------------------


def tagged(till: Till, lab: Lab, *users: str, **fields: Any) -> list[Deposit]:
    """A tagged address, and a deposit of each user on it."""
    can(lab, "tag")
    address = lab.new_address()
    with transaction() as session:
        service.register_addresses(session, TENANT, lab.chain, [address], shared=True, tagged=True)
    deposits = [till.ask(user, route=Route.TAG, **fields) for user in users]
    assert {deposit.address for deposit in deposits} == {address}
    assert len({deposit.tag for deposit in deposits}) == len(users)
    return deposits


@pytest.mark.parametrize("kind", ["coin", "token"])
def test_a_payment_is_its_tags_owners(till: Till, lab: Lab, kind: str) -> None:
    asset = lab.coin if kind == "coin" else lab.token
    one, other = tagged(till, lab, "1", "2", asset=asset, units_expected=UNITS)
    till.work()
    chain_tx = lab.pay(Payment(other.address, UNITS, asset, tag=other.tag))
    till.settle()
    assert till.said(one) == ("watching", None) and till.balance("1", asset) == 0
    assert till.said(other) == ("credited", None) and till.balance("2", asset) == UNITS
    assert till.get(other).chain_tx == chain_tx
    lab.pay(Payment(one.address, UNITS, asset, tag=one.tag))
    till.settle()
    assert till.said(one) == ("credited", None) and till.balance("1", asset) == UNITS
    assert till.living_transfers() == 2


def test_a_payment_without_a_tag_or_with_nobodys_is_nobodys(till: Till, lab: Lab) -> None:
    [waiting] = tagged(till, lab, "1")
    till.work()
    lab.pay(Payment(waiting.address, UNITS))
    lab.pay(Payment(waiting.address, UNITS, tag=formats.new_tag(lab.chain)))
    lab.pay(Payment(waiting.address, UNITS, tag="thanks"))
    till.settle()
    assert till.said(waiting) == ("watching", None)
    assert till.balance("1") == 0 and till.living_transfers() == 0


def test_a_payment_that_names_two_owners_is_nobodys(till: Till, lab: Lab) -> None:
    can(lab, "tags")
    one, other = tagged(till, lab, "1", "2")
    till.work()
    chain_tx = lab.pay(Payment(one.address, UNITS, tag=one.tag, also=(other.tag or "",)))
    till.settle()
    assert till.said(one) == till.said(other) == ("watching", None) and till.living_transfers() == 0
    claimed = till.ask("2", chain_tx=chain_tx, address=one.address)  # names him among others: his word is taken
    till.settle()
    assert till.said(claimed) == ("credited", None) and till.balance("2") == UNITS


def test_anothers_tagged_payment_can_not_be_claimed_by_its_hash(till: Till, lab: Lab) -> None:
    one, other = tagged(till, lab, "1", "2")
    till.work()
    chain_tx = lab.pay(Payment(one.address, UNITS, tag=one.tag))
    thief = till.ask("2", chain_tx=chain_tx, address=one.address)
    till.settle()
    assert till.said(thief) == ("rejected", "wrong_tag") and till.balance("2") == 0
    assert till.said(one) == ("credited", None) and till.said(other) == ("watching", None)


# --- what the eye mistakes -------------------------------------------------------------------------------------------


def test_a_look_alike_address_is_another_address(till: Till, lab: Lab) -> None:
    """Address poisoning: a little comes from somewhere, so that an address like ours is copied from the history."""
    waiting = till.by_address("1", units_expected=UNITS)
    look_alike = lab.look_alike(waiting.address)
    assert look_alike != waiting.address and look_alike[:2] == waiting.address[:2]
    assert formats.parse_address(lab.chain, look_alike) == look_alike
    till.work()
    if "zero" in lab.can:
        lab.pay(Payment(waiting.address, 0, lab.token))
    lab.pay(Payment(waiting.address, UNITS // 100))
    copied = till.by_hash(lab.pay(Payment(look_alike, UNITS)), "2")
    till.settle()
    assert till.said(copied) == ("rejected", "wrong_recipient")
    assert till.said(waiting) == ("watching", None) and till.balance("1") == till.balance("2") == 0
    lab.pay(Payment(waiting.address, UNITS))
    till.settle()
    assert till.said(waiting) == ("credited", None) and till.balance("1") == UNITS


def test_a_token_of_the_same_name_and_other_decimals_is_not_the_token(till: Till, lab: Lab) -> None:
    """As much by what a wallet shows, and a trillion times as much by its units."""
    can(lab, "strange")
    waiting = till.by_address("2", asset=lab.token, units_expected=UNITS)
    till.work()
    chain_tx = lab.pay_strange(till.shared, UNITS * 10**12 if lab.token.startswith("eip155") else UNITS, decimals=18)
    deposit = till.by_hash(chain_tx, asset=lab.token, units_expected=UNITS)
    lab.pay_strange(waiting.address, UNITS, decimals=18)
    till.settle()
    assert till.said(deposit) == ("rejected", "wrong_token") and till.said(waiting) == ("watching", None)
    assert till.balance("1", lab.token) == till.balance("2", lab.token) == 0


def test_units_are_the_smallest_there_are_whatever_the_scale(till: Till, lab: Lab) -> None:
    """An order of 1 is no order of one whole coin: what is asked for, paid and booked is counted alike."""
    scale = assets().assets[lab.coin].scale
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)), units_expected=UNITS * 10 ** (scale - 6))
    till.settle()
    expected = ("credited", None) if scale == 6 else ("suspended", "underpaid")
    assert till.said(deposit) == expected and till.get(deposit).units_received == UNITS


def test_an_address_of_ours_is_nobodys_on_another_chain(till: Till, lab: Lab) -> None:
    """The right address on the wrong chain: nobody else may have it there, and an order names one chain."""
    namespace = lab.chain.split(":")[0]
    other = next(chain for chain in assets().chains if chain.startswith(namespace) and chain != lab.chain)
    given = till.by_address("1")
    with transaction() as session, pytest.raises(InvalidRequestError) as caught:
        service.register_addresses(session, "rival", other, [given.address])
    assert caught.value.field == "address"
    for wrong in ({"chain": other}, {"asset": next(a.id for a in assets().of_chain(other) if a.contract is None)}):
        with pytest.raises(InvalidRequestError) as caught:
            till.by_hash(lab.missing, "2", **wrong)
        assert caught.value.field in ("chain", "address")


def test_an_address_is_spelled_in_one_way_and_base58_is_never_lower_cased(lab: Lab) -> None:
    address = lab.new_address()
    found = set()
    for spelled in (address.lower(), address.upper(), address.swapcase()):
        with suppress(InvalidRequestError):
            found.add(formats.parse_address(lab.chain, spelled))
    is_base58 = lab.chain.split(":")[0] in ("solana", "tron")
    assert (address not in found) if is_base58 else found == {address}


def test_a_hash_with_or_without_0x_is_the_same_payment_or_none(till: Till, lab: Lab) -> None:
    chain_tx = lab.pay(Payment(till.shared, UNITS))
    first = till.by_hash(chain_tx, "1")
    toggled = chain_tx.removeprefix("0x") if chain_tx.startswith("0x") else "0x" + chain_tx
    if lab.chain.split(":")[0] in ("eip155", "aptos", "tron"):
        again = till.by_hash(toggled, "2")
        assert again.chain_tx == first.chain_tx
        till.settle()
        assert sorted([till.said(first), till.said(again)]) == [("credited", None), ("rejected", "duplicate")]
    else:
        with pytest.raises(InvalidRequestError):
            till.by_hash(toggled, "2")
