"""Where owners are paid: an address derived from a key, or one of the pool. What is one owner's is nobody else's."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import clock, db
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.ids import new_id
from domain.deposit import addresses, queries, service, wallets
from domain.deposit.addresses import Owner
from domain.deposit.attribute import attribute
from domain.deposit.models import Deposit, DepositAddress, DepositWallet
from domain.deposit.service import DepositState
from tests.integration.deposit.networks import (
    ACCOUNT,
    BITCOIN,
    MAIN,
    OTHER,
    TENANT,
    Counting,
    account_key,
    at_once,
    child,
    networks,
    new,
    public_key,
    register,
    transfer,
    user,
)

__all__ = ["networks"]

pytestmark = pytest.mark.usefixtures("networks")


def open_wallet(chain: str = MAIN, seed: int = 1, tenant: str = TENANT) -> DepositWallet:
    with db.transaction() as session:
        return wallets.add(session, tenant, chain, public_key(seed), actor="ada")


def allot(*accounts: str, chain: str = MAIN, tenant: str = TENANT) -> dict[str, str]:
    with db.transaction() as session:
        given = addresses.allot(session, [Owner(tenant, chain, each) for each in accounts])
    return {owner.account: address for owner, address in given.items()}


def next_index(wallet: DepositWallet) -> int:
    with db.transaction() as session:
        return session.get_one(DepositWallet, wallet.id).next_index


# --- wallets -------------------------------------------------------------------------------------------------------


def test_each_owner_gets_a_child_of_the_key_and_keeps_it(session: Session) -> None:
    wallet = open_wallet()
    assert allot(user(1), user(2), user(1)) == {user(1): child(0), user(2): child(1)}
    assert allot(user(2), user(3)) == {user(2): child(1), user(3): child(2)}
    row = session.get_one(DepositAddress, (MAIN, child(2)))
    assert (row.owner_account, row.wallet_id, row.wallet_index, row.tenant) == (user(3), wallet.id, 2, TENANT)
    assert row.allotted_at == row.watched_at is not None
    assert next_index(wallet) == 3
    assert set(queries.scanned_addresses(session, MAIN)) == {child(0), child(1), child(2)}


def test_the_pool_is_used_up_before_the_wallet() -> None:
    open_wallet()
    free = child(0, seed=9)
    register(free)
    assert allot(user(1), user(2)) == {user(1): free, user(2): child(0)}


def test_no_index_is_given_twice_and_none_is_left_out_however_many_ask_at_once(session: Session) -> None:
    wallet = open_wallet()
    groups = [[user(8 * worker + number) for number in range(8)] for worker in range(6)]
    given = at_once([partial(allot, *group) for group in groups])
    everyone = {account: address for each in given for account, address in each.items()}
    assert len(everyone) == 48
    assert set(everyone.values()) == {child(index) for index in range(48)}
    assert next_index(wallet) == 48


def test_one_owner_who_asks_twice_at_once_has_one_address(session: Session) -> None:
    register(*(child(index, seed=9) for index in range(3)))
    first = addresses.allot(session, [Owner(TENANT, MAIN, user(1))])
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(allot, user(1))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)  # it waits for the first
        session.commit()
        assert list(second.result(timeout=10).values()) == list(first.values())


def test_what_is_rolled_back_is_given_to_the_next(session: Session) -> None:
    wallet = open_wallet()
    [lost] = addresses.allot(session, [Owner(TENANT, MAIN, user(1))]).values()
    session.rollback()
    assert allot(user(2)) == {user(2): lost}
    assert next_index(wallet) == 1


def test_a_child_that_is_registered_already_is_passed_over() -> None:
    wallet = open_wallet()
    register(child(0), tenant="other")
    with db.transaction() as session:
        service.register_addresses(session, TENANT, MAIN, [child(index) for index in (2, 3, 4, 5, 6)], shared=True)
    assert allot(user(1), user(2)) == {user(1): child(1), user(2): child(7)}
    assert next_index(wallet) == 8


def test_a_whole_file_of_children_is_passed_over_in_few_statements() -> None:
    open_wallet()
    register(*(child(index) for index in range(300)), tenant="other")
    with Counting() as statements:
        assert allot(user(1)) == {user(1): child(300)}
    assert len(statements) < 40


def test_a_closed_wallet_gives_nothing_and_goes_on_where_it_stopped(session: Session) -> None:
    wallet = open_wallet()
    allot(user(1))
    assert wallets.close(session, wallet.id, actor="bob").closed_by == "bob"
    wallets.close(session, wallet.id, actor="eve")
    session.commit()
    assert session.get_one(DepositWallet, wallet.id).closed_by == "bob"
    assert allot(user(1), user(2)) == {user(1): child(0)}
    other = open_wallet(seed=2)
    assert allot(user(2)) == {user(2): child(0, seed=2)}
    with pytest.raises(ConflictError, match=str(other.id)):
        open_wallet()
    wallets.close(session, other.id, actor="bob")
    session.commit()
    assert open_wallet().id == wallet.id
    assert allot(user(3)) == {user(3): child(1)}
    with pytest.raises(NotFoundError):
        wallets.close(session, new_id(), actor="bob")


def test_adding_a_wallet_again_changes_nothing() -> None:
    first = open_wallet()
    allot(user(1))
    assert open_wallet().id == first.id
    assert next_index(first) == 1


@pytest.mark.parametrize(
    "key",
    [
        account_key(1).get_xpriv_from_path("m/44'/195'/0'"),
        f" {account_key(1).get_xpriv()}\n",
        public_key()[:-1] + "x",
        public_key().lower(),
        account_key(1).get_xpub_from_path("m"),
        "xprv",
        "",
        "\0",
    ],
)
def test_only_a_public_key_is_kept_and_no_other_is_repeated(session: Session, key: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        wallets.add(session, TENANT, MAIN, key, actor="ada")
    assert refused.value.field == "key"
    assert not key.strip() or key.strip() not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    assert wallets.listed(session) == []


def test_no_wallet_where_addresses_are_not_derived(session: Session) -> None:
    for chain in ("tron:0x99", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "x"):
        with pytest.raises(InvalidRequestError) as refused:
            wallets.add(session, TENANT, chain, public_key(), actor="ada")
        assert refused.value.field == "chain"


def test_the_statements_do_not_grow_with_the_owners_and_a_thousand_are_quick(session: Session) -> None:
    open_wallet()
    counts = []
    for first, size in ((0, 1), (1, 1_000)):
        news = [new(account=user(number)) for number in range(first, first + size)]
        began = time.perf_counter()
        with Counting() as statements:
            made = service.create_many(session, news)
            session.commit()
        took = time.perf_counter() - began
        assert all(isinstance(each, Deposit) for each in made)
        counts.append(len(statements))
    assert counts[0] == counts[1]
    assert took < 10  # a tenth of it on a quiet machine
    assert len(queries.scanned_addresses(session, MAIN)) == 1_001


# --- one address on several chains ---------------------------------------------------------------------------------


def test_a_child_is_one_owners_on_all_chains_of_its_key() -> None:
    open_wallet()
    assert allot(user(1), user(2)) == {user(1): child(0), user(2): child(1)}
    open_wallet(OTHER)
    # 3 is new: it gets no child that is somebody's on the first chain. 2 has one, and gets it here too.
    assert allot(user(3), user(2), chain=OTHER) == {user(3): child(2), user(2): child(1)}
    assert allot(user(3), user(4)) == {user(3): child(2), user(4): child(3)}
    assert allot(user(1), chain=OTHER) == {user(1): child(0)}


def test_wallets_of_one_key_on_two_chains_never_give_a_child_to_two_owners_at_once(session: Session) -> None:
    open_wallet()
    open_wallet(OTHER)
    works = [partial(allot, user(number), chain=chain) for number in range(12) for chain in (MAIN, OTHER)]
    at_once(works)
    rows = session.execute(select(DepositAddress.address, DepositAddress.owner_account)).all()
    assert len(rows) == 24
    owners: dict[str, set[str | None]] = {}
    for address, owner in rows:
        owners.setdefault(address, set()).add(owner)
    assert all(len(those) == 1 for those in owners.values())
    assert len(owners) == 12


def test_a_key_is_one_tenants(session: Session) -> None:
    open_wallet()
    with pytest.raises(ConflictError, match="another tenant"):
        open_wallet(OTHER, tenant="other")


def test_an_address_of_two_pools_has_one_owner(session: Session) -> None:
    both = sorted([child(0), child(1)])
    register(*both)
    register(*both, chain=OTHER)
    assert allot(user(1)) == {user(1): both[0]}
    assert allot(user(2), user(1), chain=OTHER) == {user(2): both[1], user(1): both[0]}
    assert allot(user(3)) == {}
    with pytest.raises(ConflictError):
        service.create(session, new(account=user(3), address=both[1]))
    session.rollback()
    assert allot(user(2)) == {user(2): both[1]}


def test_an_address_of_two_pools_is_not_given_on_both_at_once(session: Session) -> None:
    register(child(0))
    register(child(0), chain=OTHER)
    first = addresses.allot(session, [Owner(TENANT, MAIN, user(1))])
    assert list(first.values()) == [child(0)]
    assert allot(user(2), chain=OTHER) == {}  # the first is not committed, and may be rolled back
    session.rollback()
    assert allot(user(2), chain=OTHER) == {user(2): child(0)}
    assert allot(user(1)) == {}


@pytest.mark.parametrize("what", ["key", "address"])
def test_two_tenants_do_not_get_one_key_or_address_on_two_chains_at_once(what: str) -> None:
    gate = Barrier(2)

    def add(tenant: str, chain: str) -> bool:
        try:
            with db.transaction() as own:
                if what == "key":
                    wallets.add(own, tenant, chain, public_key(), actor="ann")
                else:
                    service.register_addresses(own, tenant, chain, [child(3)])
                with suppress(BrokenBarrierError):
                    gate.wait(0.5)  # until both have looked, if both can
        except ConflictError:
            return False
        return True

    assert sorted(at_once([partial(add, "shop", MAIN), partial(add, "casino", OTHER)])) == [False, True]


def test_a_key_in_another_spelling_is_the_same_key(session: Session) -> None:
    account, branch = (account_key(1).get_xpub_from_path(f"m/84'/0'/0'{rest}") for rest in ("", "/0"))
    wallets.add(session, TENANT, BITCOIN, account, actor="ada")
    for tenant in (TENANT, "other"):
        with pytest.raises(ConflictError, match="the same addresses"):
            wallets.add(session, tenant, BITCOIN, branch, actor="ada")


def test_an_address_is_one_tenants_and_of_one_kind_on_all_chains(session: Session) -> None:
    register(child(0))
    with pytest.raises(ConflictError, match=f"on {MAIN}, as allotted of {TENANT}"):
        register(child(0), chain=OTHER, tenant="other")
    with pytest.raises(ConflictError, match=f"on {MAIN}, as allotted of {TENANT}"):
        register(child(0), chain=OTHER, shared=True)
    register(child(0), chain=OTHER)
    assert session.scalars(select(DepositAddress.chain).order_by(DepositAddress.chain)).all() == [MAIN, OTHER]


def test_the_right_address_on_the_wrong_chain_credits_nobody_else(session: Session) -> None:
    open_wallet()
    open_wallet(OTHER)
    waits = service.create(session, new(units_expected=5_000))
    session.commit()
    assert waits.address == child(0)
    assert queries.scanned_addresses(session, OTHER) == []  # there it is nobody's, and nobody looks
    allot(user(7), chain=OTHER)
    assert queries.scanned_addresses(session, OTHER) == [child(1)]  # and nobody else gets it
    assert allot(ACCOUNT, chain=OTHER) == {ACCOUNT: child(0)}
    attribute(session, OTHER, [transfer(child(0), chain=OTHER)], now=clock.now())
    session.commit()
    found, kept = service.page(session)
    assert (found.account, found.chain, found.mode, found.reason) == (ACCOUNT, OTHER, "unexpected", "unexpected")
    assert (kept.id, kept.state) == (waits.id, DepositState.WATCHING)


# --- asking ----------------------------------------------------------------------------------------------------------


def test_an_accounts_addresses_are_listed_whatever_way_it_got_them(session: Session) -> None:
    register(child(0, seed=3))
    register(child(0, seed=4), shared=True, tagged=True)
    pooled = service.own_address(session, TENANT, MAIN, ACCOUNT)
    tagged = service.own_address(session, TENANT, MAIN, ACCOUNT, service.Route.TAG)
    session.commit()
    assert service.own_address(session, TENANT, MAIN, ACCOUNT) == pooled
    assert service.own_address(session, TENANT, MAIN, ACCOUNT, service.Route.TAG) == tagged
    listed = service.addresses_of(session, TENANT, ACCOUNT)
    assert {(one.address, one.tag) for one in listed} == {(pooled.address, None), (tagged.address, tagged.tag)}
    assert service.addresses_of(session, TENANT, ACCOUNT, chain=OTHER) == []
    assert service.addresses_of(session, "other", ACCOUNT) == []


@pytest.mark.parametrize(
    ("field", "chain", "account"),
    [("chain", "tron:0x99", ACCOUNT), ("chain", "eip155:1", ACCOUNT), ("account", MAIN, "house:fees")],
)
def test_no_address_where_nothing_could_be_credited(session: Session, field: str, chain: str, account: str) -> None:
    open_wallet()
    with pytest.raises(InvalidRequestError) as refused:
        service.own_address(session, TENANT, chain, account)
    assert refused.value.field == field
    with pytest.raises(ConflictError):
        service.own_address(session, TENANT, BITCOIN, ACCOUNT)


def test_a_payer_is_refused_where_the_chain_does_not_tell_who_paid(session: Session) -> None:
    asked = new(asset=f"{BITCOIN}/slip44:0", payer="1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")
    with pytest.raises(InvalidRequestError) as refused:
        service.create(session, asked)
    assert refused.value.field == "payer"


MANY = """
    INSERT INTO deposits (id, tenant, chain, asset, account, mode, address, tolerance_bps, deadline_at, metadata, state,
                          created_at, updated_at)
    SELECT gen_random_uuid(), 't' || n % 9, 'c', 'a', 'x', 'address', 'y', 0, now(), '{}', 'watching', now(), now()
    FROM generate_series(1, 3000) AS n
"""


@pytest.mark.parametrize(
    ("index", "statement"),
    [
        (
            "ix_deposit_addresses_watched",
            "SELECT address FROM deposit_addresses WHERE chain = 'c' AND watched_at IS NOT NULL ORDER BY address",
        ),
        ("ix_deposit_addresses_watched_at", "SELECT min(watched_at) FROM deposit_addresses WHERE chain = 'c'"),
        (
            "ix_deposit_addresses_owner",
            "SELECT FROM deposit_addresses WHERE tenant = 't' AND owner_account = 'a' AND chain = 'c'",
        ),
        (
            "ix_deposits_tenant_state",
            "SELECT * FROM deposits WHERE tenant = 't' AND state = 'suspended' ORDER BY id DESC LIMIT 5",
        ),
        ("ix_deposits_state", "SELECT * FROM deposits WHERE state = 'suspended' ORDER BY id DESC LIMIT 5"),
    ],
)
def test_no_reading_needs_the_whole_table(session: Session, index: str, statement: str) -> None:
    session.execute(text(MANY))
    session.execute(text("SET LOCAL enable_seqscan = off"))
    session.execute(text("SET LOCAL enable_sort = off"))
    plan = "\n".join(session.scalars(text(f"EXPLAIN {statement}")))
    assert f"using {index} " in plan or f"on {index} " in plan, plan


def test_a_large_pool_is_not_read_for_one_address(session: Session) -> None:
    for owned in ("NULL, NULL", "'user' || n, now()"):
        session.execute(
            text(
                "INSERT INTO deposit_addresses (chain, address, tenant, kind, owner_account, allotted_at)"
                f" SELECT :chain, md5(random()::text), :tenant, 'allotted', {owned} FROM generate_series(1, 5000) n"
            ),
            {"chain": MAIN, "tenant": TENANT},
        )
    session.execute(text("ANALYZE deposit_addresses"))
    given = {"tenant": TENANT, "chain": MAIN, "count": 5, "tried": []}
    [[plan]] = session.scalars(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {addresses._FREE}"), given).all()
    assert max(rows_read(plan["Plan"])) <= 2 * 5


def rows_read(node: dict[str, Any]) -> Iterator[float]:
    """Of each step of a plan."""
    yield (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    for child_node in node.get("Plans", ()):
        yield from rows_read(child_node)
