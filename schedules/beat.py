"""The whole timetable, and the beat that keeps it.

When a period has begun, beat writes one row for it and, in the same transaction, its job; the row's key makes a second
beat's attempt a no-op. So beat holds no state of its own: any number may run, one may be killed at any point, and
after a pause the missed periods are still known.
"""

from datetime import datetime, timedelta
from typing import Any

import structlog
from celery.beat import Scheduler
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config.assets import registry
from config.queues import QUEUES
from core import db
from domain.claim import service as packets
from domain.deposit import service as deposits
from domain.fiat_payment import service as fiat_payments
from domain.health import service as health
from domain.onchain import service as onchain
from domain.payout import service as payouts
from domain.rates.settings import rates
from domain.timetable import service
from domain.timetable.service import EPOCH, Schedule
from providers.prices.settings import prices

log = structlog.stdlib.get_logger(__name__)


def timetable() -> list[Schedule]:
    """Every schedule there is."""
    heartbeats = [
        Schedule(f"heartbeat:{queue}", f"{queue}.heartbeat", every=timedelta(seconds=10), first=True)
        for queue in QUEUES
    ]
    chains = [
        Schedule(
            f"{verb}:{chain.id}",
            f"tx_monitor.{verb}",
            every=deposits.period(chain),
            args={"chain": chain.id},
            on_demand=True,
        )
        for chain in registry().chains.values()
        if chain.nodes
        for verb in ("poll", "scan")
    ]
    onchain.chains()  # what is wrong with WALLETS stops the start
    # Also where we have no wallet any more: what was sent from it is followed to its end.
    sent = [
        Schedule(
            f"follow:{chain.id}", "tx_monitor.follow", every=onchain.EVERY, args={"chain": chain.id}, on_demand=True
        )
        for chain in registry().chains.values()
        if chain.nodes
    ]
    asked = [Schedule("refresh_rates", "maintenance.refresh_rates", every=rates().every)] if prices().sources else []
    return [
        *heartbeats,
        *chains,
        *sent,
        *asked,
        Schedule("remove_old_rates", "maintenance.remove_old_rates", every=timedelta(hours=1)),
        Schedule("remove_finished_jobs", "maintenance.remove_finished_jobs", every=timedelta(hours=1)),
        Schedule("remove_old_periods", "maintenance.remove_old_periods", every=timedelta(hours=1)),
        Schedule(
            "remove_old_audits", "maintenance.remove_old_audits", every=timedelta(days=1), offset=timedelta(hours=2)
        ),
        Schedule(
            "remove_old_receipts",
            "fiat_webhook.remove_old_receipts",
            every=timedelta(days=1),
            offset=timedelta(hours=4),
        ),
        Schedule("close_packets", "claim_sync.close_due", every=timedelta(seconds=1), on_demand=True),
        Schedule("compare_packets", "claim_sync.compare", every=timedelta(minutes=1)),
        Schedule("compare_bets", "claim_sync.compare_bets", every=timedelta(minutes=1), offset=timedelta(seconds=20)),
        Schedule("unload_idle", "claim_sync.unload_idle", every=timedelta(minutes=1), offset=timedelta(seconds=40)),
        Schedule("refresh_gateways", "fiat_webhook.refresh_gateways", every=timedelta(minutes=1)),
        Schedule("poll_fiat_payments", "fiat_webhook.poll", every=timedelta(seconds=5), on_demand=True),
        Schedule("settle_gateways", "fiat_webhook.settle_gateways", every=timedelta(days=1), offset=timedelta(hours=4)),
        Schedule("expire_approvals", "payout.expire_approvals", every=timedelta(minutes=1)),
        Schedule("poll_payouts", "payout.poll", every=timedelta(seconds=1), on_demand=True),
        Schedule("refresh_payout_providers", "payout.refresh_providers", every=timedelta(minutes=1)),
        Schedule("refresh_banks", "payout.refresh_banks", every=timedelta(days=1), offset=timedelta(hours=1)),
        Schedule("read_statements", "payout.read_statements", every=timedelta(days=1), offset=timedelta(hours=6)),
        Schedule("reseal", "maintenance.reseal", every=timedelta(days=1), offset=timedelta(hours=5)),
        Schedule("expire_holds", "maintenance.expire_holds", every=timedelta(seconds=10)),
        # Each seal asks for the audit of what it sealed.
        Schedule("seal_ledger", "maintenance.seal_ledger", every=timedelta(minutes=1)),
        Schedule(
            "audit_ledger",
            "maintenance.audit_ledger",
            every=timedelta(days=1),
            offset=timedelta(hours=3),
            args={"kind": "full"},
        ),
    ]


def wanted(session: Session, now: datetime) -> set[str]:
    """The schedules on demand that are wanted now."""
    found = deposits.wanted(session, now=now)
    chains = {
        f"{verb}:{chain}"
        for chain, wishes in found.items()
        for verb, wish in zip(("poll", "scan"), wishes, strict=True)
        if wish
    }
    sent = {f"follow:{chain}" for chain in onchain.due(session, now)}
    others = {
        "close_packets": packets.wanted,
        "poll_fiat_payments": fiat_payments.wanted,
        "poll_payouts": payouts.wanted,
    }
    return chains | sent | {name for name, is_wanted in others.items() if is_wanted(session, now)}


class PeriodScheduler(Scheduler):
    """Celery's beat with our timetable: `celery -A workers.main beat --scheduler schedules.beat:PeriodScheduler`."""

    TICK = 0.5
    """Seconds between looks at the clock."""

    def setup_schedule(self) -> None:
        self.timetable = timetable()
        self.next_heartbeat = EPOCH

    def tick(self, *_: Any, **__: Any) -> float:
        """Ask for what has become due. A database that is away is waited for: the periods will still be due."""
        try:
            with db.transaction() as session:
                now = session.execute(text("SELECT now()")).scalar_one()
                if now >= self.next_heartbeat:
                    health.beat(session, "beat")
                    self.next_heartbeat = now + timedelta(seconds=5)
                service.ask(session, self.timetable, now, wanted=wanted(session, now))
        except SQLAlchemyError as error:
            log.warning("beat.waiting", error=str(error).splitlines()[0])
        return self.TICK
