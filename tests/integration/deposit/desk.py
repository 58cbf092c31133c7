"""What the tests of deposits do: ask, pay, mine, look. Every test ends with a check of the books against the rows."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from chains import registry
from chains.base import ChainReader
from core import clock
from core.db import transaction
from domain.deposit import service
from domain.deposit.models import DepositTransfer
from domain.deposit.service import Deposit, NewDeposit
from ledger import balances, invariants
from ledger.posting import Journal, Posting, post
from local.devchain import DevChain
from tests.support.evm import CHAIN, COIN, Token

TENANT = "shop"
ACCOUNT = "user:42:available"
OWED = "user:42:owed"
CUSTODY = f"custody:{CHAIN}"
SUSPENSE = "suspense:deposits"
ETHER = 10**18
SOON = datetime.max.replace(tzinfo=UTC)
"""As a deadline: as good as now."""


class Desk:
    def __init__(self, dev: DevChain, token: Token, other_token: Token) -> None:
        self.dev = dev
        self.token = token
        self.other_token = other_token
        registry.reload()
        self.reader: ChainReader = registry.get(CHAIN)
        self.shared = dev.new_account()
        self.payer = dev.accounts[0]
        self.spent: Counter[str] = Counter()
        with transaction() as session:
            service.register_addresses(session, TENANT, CHAIN, [self.shared], shared=True)

    # Asking

    def by_hash(self, chain_tx: str, **fields: Any) -> Deposit:
        given = {"tenant": TENANT, "asset": COIN, "account": ACCOUNT, "chain_tx": chain_tx, "address": self.shared}
        return self._create(NewDeposit(**given | fields))

    def by_address(self, **fields: Any) -> Deposit:
        with transaction() as session:
            if "address" not in fields:
                service.register_addresses(session, TENANT, CHAIN, [self.dev.new_account()])
        return self._create(NewDeposit(**{"tenant": TENANT, "asset": COIN, "account": ACCOUNT} | fields))

    def _create(self, new: NewDeposit) -> Deposit:
        with transaction() as session:
            if new.deadline_at is SOON:
                new = replace(new, deadline_at=clock.now() + timedelta(milliseconds=1))
            return service.create(session, new)

    # Working

    def look(self, deposit: Deposit) -> Deposit:
        service.look(self.reader, deposit.id)
        return self.get(deposit)

    def poll(self, deposit: Deposit | None = None) -> Deposit:
        """Everything is due now."""
        with transaction() as session:
            session.execute(update(Deposit).where(Deposit.next_poll_at.is_not(None)).values(next_poll_at=clock.now()))
        service.poll(self.reader)
        return self.get(deposit) if deposit is not None else Deposit()

    def scan(self, deposit: Deposit | None = None) -> Deposit:
        service.scan(self.reader)
        return self.get(deposit) if deposit is not None else Deposit()

    def settle(self, deposit: Deposit, *, blocks: int = 3) -> Deposit:
        """Enough blocks for every verdict, and looks enough to come to it."""
        self.dev.mine(blocks)
        self.scan()
        return self.poll(deposit)

    # Reading

    def get(self, deposit: Deposit) -> Deposit:
        with transaction() as session:
            found = service.get(session, deposit.id)
        assert found is not None
        return found

    def all(self) -> list[Deposit]:
        """Oldest first."""
        with transaction() as session:
            return list(service.page(session))[::-1]

    def said(self, deposit: Deposit) -> tuple[str, str | None]:
        found = self.get(deposit)
        return found.state, found.reason

    def events(self, deposit: Deposit) -> list[str]:
        with transaction() as session:
            return [line.event for line in service.history(session, deposit.id)]

    def details(self, deposit: Deposit, event: str) -> list[dict[str, Any]]:
        with transaction() as session:
            return [line.detail for line in service.history(session, deposit.id) if line.event == event]

    def balance(self, code: str, asset: str = COIN) -> int:
        with transaction() as session:
            return balances.balance(session, TENANT, code, asset)

    def living_transfers(self) -> int:
        with transaction() as session:
            return (
                session.scalar(
                    select(func.count()).select_from(DepositTransfer).where(DepositTransfer.orphaned_at.is_(None))
                )
                or 0
            )

    def spend(self, units: int, asset: str = COIN, account: str = ACCOUNT) -> None:
        """The owner spends what is credited."""
        self.spent[asset] += units
        with transaction() as session:
            post(
                session,
                Journal(
                    tenant=TENANT,
                    reference=f"spend:{asset}:{self.spent[asset]}",
                    category="test.spend",
                    postings=[Posting(source=account, destination="house:fees", asset=asset, units=units)],
                ),
            )

    def check_books(self) -> None:
        """The books are what the rows say: custody holds every living booked deposit, suspense the suspended ones."""
        deposits = self.all()
        with transaction() as session:
            assert invariants.verify(session) == []
        for asset in (COIN, self.token.asset, self.other_token.asset):
            of = [deposit for deposit in deposits if deposit.asset == asset]
            credited = sum(deposit.units_received or 0 for deposit in of if deposit.state == "credited")
            suspended = sum(deposit.units_received or 0 for deposit in of if deposit.state == "suspended")
            accounts = {deposit.account for deposit in of}
            owned = sum(self.balance(code, asset) for code in accounts)
            owed = sum(self.balance(code.replace(":available", ":owed"), asset) for code in accounts)
            assert self.balance(CUSTODY, asset) == credited + suspended
            assert self.balance(SUSPENSE, asset) == suspended
            assert owned - owed + self.spent[asset] == credited
