"""Whole deposits: asked for, paid, worked on, and compared with the books. For the tests of any kind of chain."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import func, select, update

from chains.base import ChainReader
from config.assets import registry as assets
from core import clock
from core.db import transaction
from core.errors import TransientError
from domain.deposit import service
from domain.deposit.models import Deposit, DepositTransfer
from domain.deposit.service import NewDeposit
from ledger import balances, invariants
from ledger.assets import sync_assets
from tests.conformance.lab import Lab

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


def can(lab: Lab, what: str) -> None:
    if what not in lab.can:
        pytest.skip(f"{lab.chain} has no such thing: {what}")


def is_final_only(lab: Lab) -> bool:
    return assets().chains[lab.chain].reorg_depth == 0
