"""Our addresses: a tenant's pool, and whose each one is.

An allotted address has one owner for ever, because money can arrive on it for ever. Its key is kept elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chains.formats import parse_address
from config.assets import registry
from core.errors import ConflictError, InvalidRequestError
from domain.deposit import queries
from domain.deposit.models import DepositAddress

SHARED = "shared"
ALLOTTED = "allotted"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose money arrives on an allotted address."""

    tenant: str
    chain: str
    account: str


def register_addresses(
    session: Session, tenant: str, chain: str, addresses: Iterable[str], *, shared: bool = False
) -> int:
    """Add addresses to the tenant's pool, or as shared ones; returns how many are new. Safe to repeat.

    Raises InvalidRequestError for a malformed address or an unknown chain, ConflictError if one is registered
    otherwise; then none of them is added.
    """
    if chain not in registry().chains:
        raise InvalidRequestError(f"no chains file describes the chain {chain!r}", field="chain")
    kind = SHARED if shared else ALLOTTED
    canonical = sorted({parse_address(chain, address) for address in addresses})
    if not canonical:
        return 0
    known = {row.address: row for row in queries.addresses(session, [(chain, address) for address in canonical])}
    for row in known.values():
        if (row.tenant, row.kind) != (tenant, kind):
            raise ConflictError(f"{row.address} is already registered, as {row.kind} of {row.tenant}", field="address")
    rows = [
        {"chain": chain, "address": address, "tenant": tenant, "kind": kind}
        for address in canonical
        if address not in known
    ]
    if rows:
        # A race over one address fails on its key; the other registration stands.
        session.execute(insert(DepositAddress).values(rows))
    return len(rows)


_OWNED = text(
    """
    SELECT DISTINCT ON (wanted.tenant, wanted.chain, wanted.account)
           wanted.tenant, wanted.chain, wanted.account, address
    FROM unnest(cast(:tenants AS text[]), cast(:chains AS text[]), cast(:accounts AS text[]))
      AS wanted (tenant, chain, account)
    JOIN deposit_addresses AS owned ON owned.tenant = wanted.tenant AND owned.chain = wanted.chain
                                   AND owned.owner_account = wanted.account
    ORDER BY wanted.tenant, wanted.chain, wanted.account, allotted_at, address
    """
)
_FREE = text(
    """
    SELECT address FROM deposit_addresses
    WHERE tenant = :tenant AND chain = :chain AND kind = 'allotted' AND owner_account IS NULL
    ORDER BY address LIMIT :count FOR UPDATE SKIP LOCKED
    """
)
# By PostgreSQL's clock: the first scan of a chain begins with this time, and one machine's clock may be an hour ahead.
_ALLOT = text(
    """
    UPDATE deposit_addresses AS taken SET owner_account = wanted.account, allotted_at = now()
    FROM unnest(cast(:chains AS text[]), cast(:addresses AS text[]), cast(:accounts AS text[]))
      AS wanted (chain, address, account)
    WHERE taken.chain = wanted.chain AND taken.address = wanted.address
      AND taken.kind = 'allotted' AND taken.owner_account IS NULL
    RETURNING taken.chain, taken.address
    """
)


def allot(session: Session, owners: Sequence[Owner]) -> dict[Owner, str]:
    """The address of each owner: the one they have, or a free one of the pool. An owner is missing if none is left."""
    if not owners:
        return {}
    rows = session.execute(
        _OWNED,
        {
            "tenants": [owner.tenant for owner in owners],
            "chains": [owner.chain for owner in owners],
            "accounts": [owner.account for owner in owners],
        },
    )
    found = {Owner(row.tenant, row.chain, row.account): str(row.address) for row in rows}
    without = [owner for owner in dict.fromkeys(owners) if owner not in found]
    taken: dict[Owner, str] = {}
    for tenant, chain in dict.fromkeys((owner.tenant, owner.chain) for owner in without):
        those = [owner for owner in without if (owner.tenant, owner.chain) == (tenant, chain)]
        free = session.scalars(_FREE, {"tenant": tenant, "chain": chain, "count": len(those)}).all()
        taken.update(zip(those, free, strict=False))
    allot_given(session, {(owner.chain, address): owner.account for owner, address in taken.items()})
    return found | taken


def allot_given(session: Session, wanted: Mapping[tuple[str, str], str]) -> set[tuple[str, str]]:
    """Give free addresses (chain, address) to accounts. Returns those given: an address not among them was taken."""
    if not wanted:
        return set()
    rows = session.execute(
        _ALLOT,
        {
            "chains": [chain for chain, _ in wanted],
            "addresses": [address for _, address in wanted],
            "accounts": list(wanted.values()),
        },
    )
    return {(row.chain, row.address) for row in rows}
