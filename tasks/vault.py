"""What stands sealed in the database, and is sealed anew when a key changes."""

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core.vault import VaultOffError
from domain.beneficiary import service as beneficiaries
from domain.payout import service as payouts
from tasks.base import task, transaction

log = structlog.stdlib.get_logger(__name__)


class Kept(Protocol):
    """What a slice with sealed rows has to offer."""

    def count_by_key(self, session: Session) -> dict[str, int]: ...
    def reseal(self, session: Session, *, after: UUID | None = None, limit: int = 500) -> UUID | None: ...


KEPT: Mapping[str, Kept] = {"beneficiaries": beneficiaries, "payouts": payouts}
"""All that is sealed by the keys of the vault, by what people call it."""


@task("maintenance.reseal")
def reseal() -> None:
    """Seal what other keys have sealed by the first of VAULT_KEYS, in batches. Safe to interrupt."""
    try:
        reseal_all()
    except VaultOffError:
        log.info("vault.off")


def reseal_all() -> None:
    """Raises VaultOffError without a key."""
    for kept in KEPT.values():
        last: UUID | None = None
        while True:
            with transaction() as session:
                last = kept.reseal(session, after=last)
            if last is None:
                break
