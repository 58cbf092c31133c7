"""What a test of asking for payouts needs at hand."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from api.payout_ports import PORTS
from core import db
from core.db import transaction
from core.errors import TallyrailError
from core.ids import new_id
from core.jobs import Job
from domain.beneficiary import service as book
from domain.beneficiary.service import NewBeneficiary
from domain.payout import ruling, service, settings
from domain.payout.models import Payout, PayoutBatch, PayoutEvent, PayoutUsage
from domain.payout.service import NewPayout, Ports
from ledger import balances, holds, posting
from ledger.holds import HoldState
from ledger.posting import Journal, Posting
from providers.payout.base import Destination, Kind

SHOP, USER, USD, NGN, BNB = "shop", "user:42:available", "iso4217:USD", "iso4217:NGN", "eip155:56"
KEY = "key:app"
ACCT = Destination(kind=Kind.STRIPE, number="acct_1AbCdEfGhIjKlMn")
NUBAN = Destination(kind=Kind.BANK_NG, number="0123456785", bank_code="058", holder="Ada Obi")


class Desk:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.ports: Ports = PORTS

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self._patch.setenv(name, value)
        settings.payout.cache_clear()

    def bring(self, **ports: Any) -> None:
        self.ports = replace(self.ports, **ports)

    def fund(self, units: int, account: str = USER, asset: str = USD) -> None:
        move = Posting(source="custody:bank:USD", destination=account, asset=asset, units=units)
        with transaction() as session:
            posting.post(session, Journal(tenant=SHOP, reference=f"test:{new_id()}", category="test", postings=(move,)))

    def destination(self, given: Destination = ACCT, account: str = USER, chain: str | None = None) -> UUID:
        """Its entry in the account's book."""
        new = NewBeneficiary(tenant=SHOP, account=account, destination=given, chain=chain, actor=KEY)
        with transaction() as session:
            return book.get_or_add(session, new)[0].id

    def trust(self, beneficiary: UUID, account: str = USER) -> None:
        """So that nothing is new about either: what it asks for goes by itself."""
        with transaction() as session:
            found = book.get(session, beneficiary)
            assert found is not None
            for scope, key in (("account", account), ("destination", found.fingerprint)):
                self.put(scope, key, "allow")

    def put(self, scope: Any, key: str, name: Any) -> None:
        with transaction() as session:
            ruling.put(session, tenant=None, name=name, scope=scope, key=key, actor="person:ada", reason="known to us")

    def new(self, units: int = 1_000, **given: Any) -> NewPayout:
        fields: dict[str, Any] = {"tenant": SHOP, "account": USER, "asset": USD, "units": units, "maker": KEY}
        return NewPayout(**(fields | given))

    def ask(self, units: int = 1_000, **given: Any) -> Payout:
        with transaction() as session:
            made = service.create(session, self.new(units, **given), self.ports)
            session.expunge_all()
        return made

    def proceed(self, payout: Payout) -> Payout:
        with transaction() as session:
            service.proceed(session, payout.id, self.ports)
        return self.read(payout)

    def read(self, payout: Payout) -> Payout:
        with transaction() as session:
            found = service.get(session, payout.id)
            assert found is not None
            session.expunge(found)
        return found

    # --- what is there -----------------------------------------------------------------------------------------------

    def held(self, account: str = USER, asset: str = USD) -> int:
        with transaction() as session:
            return sum(each.held for each in balances.account(session, SHOP, account) if each.asset == asset)

    def pending_holds(self) -> int:
        with transaction() as session:
            return len(holds.holds(session, SHOP, state=HoldState.PENDING).rows)

    def used(self) -> dict[str, tuple[int, int]]:
        """By scope: cents and how many, of all days."""
        with transaction() as session:
            rows = session.execute(
                select(PayoutUsage.scope, func.sum(PayoutUsage.value_cents), func.sum(PayoutUsage.count)).group_by(
                    PayoutUsage.scope
                )
            )
            return {row[0]: (int(row[1]), int(row[2])) for row in rows if row[2]}

    def jobs(self, task: str) -> Sequence[Job]:
        with transaction() as session:
            return session.scalars(select(Job).where(Job.task == task).order_by(Job.id)).all()

    def events(self, payout: Payout) -> list[str]:
        with transaction() as session:
            return [each.event for each in service.history(session, payout.id)]

    def nothing_is_left(self) -> None:
        """Of what was refused: no row, no hold, no count, no batch."""
        with transaction() as session:
            for table in (Payout, PayoutEvent, PayoutBatch):
                assert session.scalar(select(func.count()).select_from(table)) == 0
        assert (self.pending_holds(), self.held(), self.used()) == (0, 0, {})

    def check_books(self) -> None:
        """What is held is what unsent payouts need, in each account."""
        with transaction() as session:
            unsent = ("held", "awaiting_approval", "approved", "frozen")
            rows = session.execute(
                select(Payout.account, Payout.asset, func.sum(Payout.units + Payout.fee_units))
                .where(Payout.state.in_(unsent))
                .group_by(Payout.account, Payout.asset)
            )
            wanted = {(row[0], row[1]): int(row[2]) for row in rows}
            found = {
                (each.code, each.asset): each.held
                for each in balances.accounts(session, SHOP, "user:").rows
                if each.held
            }
        assert found == wanted


def at_once(count: int, step: Callable[[int], Any], *, threads: int = 16) -> list[Any]:
    """What each of so many calls gave or was refused with; as many as there are threads begin together."""
    barrier = Barrier(threads)

    def one(number: int) -> Any:
        if number < threads:
            barrier.wait(10)
        try:
            return step(number)
        except TallyrailError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(one, range(count)))
    db.dispose()
    return results
