"""What a test of destinations needs at hand."""

from typing import Any
from uuid import UUID

from sqlalchemy import select

from core.db import transaction
from core.jobs import Job
from domain.beneficiary import service
from domain.beneficiary.service import Beneficiary, NewBeneficiary
from providers.payout.base import Destination, Kind
from tests.integration.beneficiary.scripted import ScriptedProvider

SHOP, USER = "shop", "user:42:available"
ADA = {"kind": Kind.BANK_NG, "bank_code": "058", "number": "0123456785", "holder": "Ada Obi"}
UPI = {"kind": Kind.UPI, "number": "ada.obi@okaxis", "holder": "Ada Obi"}
HDFC = {"kind": Kind.BANK_IN, "bank_code": "HDFC0001234", "number": "50100123456789", "holder": "Ada Obi"}
IBAN = {"kind": Kind.IBAN, "number": "DE89370400440532013000", "holder": "Ada Obi"}


def new(
    account: str = USER, tenant: str = SHOP, label: str = "", chain: str | None = None, **given: Any
) -> NewBeneficiary:
    return NewBeneficiary(
        tenant=tenant,
        account=account,
        destination=Destination(**(given if "kind" in given else ADA | given)),
        chain=chain,
        label=label,
        actor="key:1",
    )


def add(**given: Any) -> UUID:
    with transaction() as session:
        return service.get_or_add(session, new(**given))[0].id


def read(beneficiary: UUID) -> Beneficiary:
    with transaction() as session:
        found = service.get(session, beneficiary)
    assert found is not None
    return found


def events(beneficiary: UUID) -> list[tuple[str, str, str]]:
    with transaction() as session:
        return [(each.event, each.state_after, each.actor) for each in service.history(session, beneficiary)]


def verify(beneficiary: UUID, *providers: ScriptedProvider) -> Beneficiary:
    service.verify(beneficiary, {provider.name: provider for provider in providers})
    return read(beneficiary)


def enquiries() -> list[Job]:
    with transaction() as session:
        return list(session.scalars(select(Job).where(Job.task == service.VERIFY).order_by(Job.id)))
