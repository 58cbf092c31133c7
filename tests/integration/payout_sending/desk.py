"""What a test of sending needs at hand: approved payouts, providers, time that can be moved on, and the books."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import clock, jobs
from core.breaks import Break
from core.db import transaction
from core.ids import new_id
from core.jobs import Job
from domain.payout import holding, looking, queries, recording, sealing, service, submitting
from domain.payout import providers as known
from domain.payout.history import move
from domain.payout.models import Payout, PayoutAttempt, PayoutEvent
from domain.payout.states import PayoutState
from ledger import balances, invariants, posting
from ledger.posting import Journal, Posting
from providers.payout.base import Destination, Kind, Remittance
from tests.integration.payout_sending.scripted import NGN, ScriptedProvider

SHOP, USER, OWED = "shop", "user:42:available", "user:42:owed"
TRANSIT, SUSPENSE, FEES, COSTS = "transit:payouts", "suspense:payouts", "house:fees", "house:payout_fees"
UNITS, FEE = 10_000, 150
RICH = 100_000
DESTINATION = Destination(kind=Kind.BANK_NG, number="0690000031", bank_code="044", holder="Ada Private")


@dataclass
class Clock:
    """Time as the domain sees it."""

    passed: timedelta = timedelta(0)
    real: Any = clock.now

    def now(self) -> datetime:
        found: datetime = self.real()
        return found + self.passed


@dataclass
class Desk:
    providers: dict[str, ScriptedProvider]
    clock: Clock
    tenant: str = SHOP
    journals: int = 0
    payouts: list[UUID] = field(default_factory=list)

    @classmethod
    def of(cls, patch: pytest.MonkeyPatch, *providers: ScriptedProvider, tenant: str = SHOP) -> "Desk":
        made = cls({each.name: each for each in providers or (ScriptedProvider(),)}, Clock(), tenant)
        patch.setattr(clock, "now", made.clock.now)
        made.refresh()
        made.give(RICH)
        return made

    @property
    def provider(self) -> ScriptedProvider:
        return next(iter(self.providers.values()))

    def refresh(self) -> None:
        known.refresh(self.providers)

    def give(self, units: int, *, asset: str = NGN, account: str = USER) -> None:
        """The owner gets money; below zero, spends it."""
        self.journals += 1
        source, destination = ("custody:bank:NGN", account) if units > 0 else (account, "custody:bank:NGN")
        with transaction() as session:
            posting.post(
                session,
                Journal(
                    tenant=self.tenant,
                    reference=f"test:{self.journals}",
                    category="test",
                    postings=[Posting(source=source, destination=destination, asset=asset, units=abs(units))],
                ),
            )

    # --- payouts -----------------------------------------------------------------------------------------------------

    def approved(
        self, units: int = UNITS, fee: int = FEE, destination: Destination = DESTINATION, **changes: Any
    ) -> UUID:
        """Held and approved, as creating and approving leave one: with the job that sends it, if `job` says so."""
        job = changes.pop("job", False)
        now = clock.now()
        payout_id = new_id()
        sealed = sealing.seal(payout_id, destination)
        fields: dict[str, Any] = {
            "id": payout_id,
            "tenant": self.tenant,
            "account": USER,
            "asset": NGN,
            "units": units,
            "fee_units": fee,
            "payout_asset": NGN,
            "payout_units": units,
            "beneficiary_id": new_id(),
            "destination_kind": str(destination.kind),
            "destination_sealed": sealed.content,
            "destination_sealed_by": sealed.by,
            "destination_fingerprint": "f" * 64,
            "destination_masked": "044 ******0031",
            "narration": "Withdrawal 4711",
            "purpose": "payout",
            "affiliate": False,
            "by_hand": False,
            "maker": "key:test",
            "created_at": now,
            "updated_at": now,
            "content_hash": b"h" * 32,
        }
        with transaction() as session:
            payout = Payout(**fields | changes)
            session.add(payout)
            session.flush()
            holding.place(session, payout)
            for event in ("hold", "screen", "approve"):
                move(session, payout, event, now=now, actor="test")
            if job:
                jobs.submit(session, looking.job(payout, submitting.SUBMIT))
        self.payouts.append(payout_id)
        return payout_id

    def sent(self, **changes: Any) -> UUID:
        """One that was sent, whatever came of it."""
        payout_id = self.approved(**changes)
        self.submit(payout_id)
        return payout_id

    def submit(self, payout_id: UUID) -> None:
        submitting.submit(payout_id, self.providers)

    def thaw(self, payout_id: UUID) -> None:
        """As people and the screening leave it."""
        with transaction() as session:
            payout = queries.lock(session, payout_id)
            assert payout is not None
            for event in ("thaw", "screen", "approve"):
                move(session, payout, event, now=clock.now(), actor="test")

    def look(self, payout_id: UUID, attempt_id: UUID | None = None) -> None:
        looking.look(payout_id, self.providers, attempt_id=attempt_id)

    def later(self, **passed: float) -> None:
        self.clock.passed += timedelta(**passed)

    def record(self, payout_id: UUID, told: Remittance, *, at: datetime | None = None, number: int = 1) -> None:
        with transaction() as session:
            recording.record(
                session, self.attempts(payout_id)[number - 1].id, told, asked_at=at or clock.now(), source="find"
            )

    def poll(self, *, rounds: int = 1) -> None:
        """The poll, and the jobs that it asks for."""
        for _ in range(rounds):
            with transaction() as session:
                looking.dispatch(session)
            self.work()

    def work(self) -> None:
        """All payout jobs that are queued, until there are none."""
        while True:
            with transaction() as session:
                found = session.scalars(
                    select(Job).where(Job.status == "queued", Job.task.in_(["payout.submit", "payout.look"]))
                ).all()
                todo = [(job.task, job.args) for job in found]
                for job in found:
                    job.status = "succeeded"
            if not todo:
                return
            for task, args in todo:
                if task == "payout.submit":
                    self.submit(UUID(args["payout_id"]))
                else:
                    self.look(UUID(args["payout_id"]), UUID(args["attempt_id"]) if "attempt_id" in args else None)

    # --- what there is -----------------------------------------------------------------------------------------------

    def get(self, payout_id: UUID) -> Payout:
        with transaction() as session:
            found = service.get(session, payout_id)
            assert found is not None
            session.expunge(found)
        return found

    def state(self, payout_id: UUID) -> PayoutState:
        return self.get(payout_id).current

    def attempts(self, payout_id: UUID) -> Sequence[PayoutAttempt]:
        with transaction() as session:
            found = session.scalars(
                select(PayoutAttempt).where(PayoutAttempt.payout_id == payout_id).order_by(PayoutAttempt.number)
            ).all()
            session.expunge_all()
        return found

    def reference(self, payout_id: UUID, number: int = 1) -> str:
        return self.attempts(payout_id)[number - 1].reference

    def told(self, payout_id: UUID, number: int = 1) -> Remittance:
        attempt = self.attempts(payout_id)[number - 1]
        return self.providers[attempt.provider].made[attempt.reference]

    def events(self, payout_id: UUID) -> list[str]:
        with transaction() as session:
            return list(
                session.scalars(
                    select(PayoutEvent.event).where(PayoutEvent.payout_id == payout_id).order_by(PayoutEvent.id)
                )
            )

    def balance(self, code: str, asset: str = NGN) -> int:
        with transaction() as session:
            return balances.balance(session, self.tenant, code, asset)

    def breaks(self) -> list[str]:
        with transaction() as session:
            return sorted(session.scalars(select(Break.kind)))

    def accepted(self) -> int:
        """Payouts that were made anywhere."""
        return sum(sum(each.accepted.values()) for each in self.providers.values())

    def check_books(self) -> None:
        with transaction() as session:
            assert invariants.verify(session) == []
            open_ = session.execute(text("SELECT count(*) FROM ledger_holds WHERE state = 'pending'")).scalar_one()
            held = session.execute(
                text(
                    "SELECT count(*) FROM payouts WHERE begun_journal_id IS NULL AND hold_id IS NOT NULL"
                    " AND state IN ('approved', 'frozen', 'held', 'awaiting_approval')"
                )
            ).scalar_one()
        assert open_ == held
