"""What payouts on chains are made of in a worker: readers, senders and the signer behind the domain's contracts."""

import os
from collections.abc import Mapping
from functools import cache
from uuid import UUID

from sqlalchemy.orm import Session

from chains import registry
from chains.signer_client import SignerClient
from core.errors import PermanentError
from domain.onchain import service as onchain
from domain.onchain.service import Parts, Ports
from domain.onchain.settings import wallets
from domain.payout import sending_queries
from domain.payout import service as payouts
from providers.payout import registry as elsewhere
from providers.payout.base import PayoutProvider


def providers() -> Mapping[str, PayoutProvider]:
    """All that payouts can be sent by here: those with credentials, and each chain that we have a wallet on."""
    return {**elsewhere.providers(), **onchain.providers(registry.sender)}


def parts(chain: str) -> Parts:
    """Raises PermanentError if this process can't reach the chain or the signer."""
    return Parts(sender=registry.sender(chain), reader=registry.get(chain), signer=signer())


@cache
def signer() -> SignerClient:
    found = wallets()
    if found.signer_url is None or found.signer_token is None:
        raise PermanentError("SIGNER_URL and SIGNER_TOKEN are not set here")
    return SignerClient(found.signer_url, found.signer_token.get_secret_value())


def _owner(session: Session, reference: str, /) -> str | None:
    """References are those of attempts."""
    try:
        payout_id = sending_queries.payout_of(session, UUID(reference))
    except ValueError:
        return None
    payout = None if payout_id is None else payouts.get(session, payout_id)
    return None if payout is None else payout.tenant


def _tell(session: Session, *, provider: str, reference: str) -> None:
    payouts.hear(session, provider=provider, reference=reference, provider_ref=None)


onchain.use(Ports(owner=_owner, tell=_tell))

# Open connections can't be shared with a forked worker process.
os.register_at_fork(after_in_child=signer.cache_clear)
