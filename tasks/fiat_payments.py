"""Payments by card, bank and wallet: their orders, polls, refunds and settlements. Webhooks: tasks.fiat_webhook."""

from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.jobs import NewJob
from domain.fiat_payment import service
from domain.fiat_payment.settings import fiat_payment as settings
from domain.rates.service import usable
from providers.fiat import credentials
from providers.fiat.registry import gateways
from tasks.base import task

log = structlog.stdlib.get_logger(__name__)

service.use_rates(usable)
credentials.listen(service.credentials_refused)


@task("fiat_webhook.create_order")
def create_order(payment_id: UUID) -> None:
    """Ask a gateway for the payment's order. Safe to run any number of times: there is never a second one."""
    service.order(payment_id, gateways())


@task("fiat_webhook.poll")
def poll() -> None:
    """Ask for a look at every payment that is due, and credit those whose rate is usable again."""
    service.poll()


@task("fiat_webhook.look")
def look(payment_id: UUID) -> None:
    """Ask the provider about one payment now."""
    service.look(payment_id, gateways())


@task("fiat_webhook.refund")
def refund(refund_id: UUID) -> None:
    """Give money back to a payer. Safe to run any number of times: it is asked for once."""
    service.refund(refund_id, gateways())


@task("fiat_webhook.settle_gateways")
def settle_gateways(session: Session) -> None:
    """Ask for the lines of the last days of each gateway that tells them."""
    until = clock.now()
    since = until - settings().settled_within
    jobs.submit_many(
        session,
        [
            NewJob(
                "fiat_webhook.settle",
                {"provider": name, "since": since.isoformat(), "until": until.isoformat()},
                subject=f"gateway:{name}",
            )
            for name, gateway in sorted(gateways().items())
            if gateway.abilities.settlements
        ],
    )


@task("fiat_webhook.settle")
def settle(provider: str, since: datetime, until: datetime) -> None:
    """Match what a provider paid out in that time with the payments that it is for."""
    gateway = gateways().get(provider)
    if gateway is None:
        log.warning("fiat_payment.no_gateway", provider=provider)
        return
    service.settle(gateway, since, until)


@task("fiat_webhook.refresh_gateways")
def refresh_gateways(session: Session) -> None:
    """Write down what this deployment's gateways can do, for whoever must choose one."""
    service.refresh_gateways(session, gateways())
