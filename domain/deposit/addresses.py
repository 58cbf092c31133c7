"""Our addresses: a tenant's pool and wallets, and whose each address is.

An allotted address has one owner for ever, because money can arrive on it for ever: on its own chain, and on every
other where the same spelling is an address. Its key is kept elsewhere.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.orm import Session

from chains.formats import parse_address, takes_tags
from config.assets import Chain, registry
from core.errors import ConflictError, InvalidRequestError
from domain.deposit import queries, wallets
from domain.deposit.tags import Asked, allot_tags
from ledger import chart

SHARED = "shared"
ALLOTTED = "allotted"
STRIPES = 256
"""Locks that owners are spread over: a batch holds no more of them, and a server has some thousands."""


class Route(StrEnum):
    """How a payment finds its owner."""

    ADDRESS = "address"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose money arrives on an allotted address."""

    tenant: str
    chain: str
    account: str


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """Where an owner is paid, for ever."""

    chain: str
    account: str
    address: str
    tag: str | None
    allotted_at: datetime | None = None

    @property
    def route(self) -> Route:
        return Route.ADDRESS if self.tag is None else Route.TAG


# --- registering -------------------------------------------------------------------------------------------------

_ELSEWHERE = text(
    """
    SELECT address, chain, tenant, kind FROM deposit_addresses
    WHERE address = ANY(cast(:addresses AS text[])) AND chain <> :chain AND (tenant, kind) <> (:tenant, :kind)
    ORDER BY address, chain LIMIT 1
    """
)
# Arrays: a statement holds no more than 65,535 parameters, and a file of addresses may be longer.
_REGISTER = text(
    """
    INSERT INTO deposit_addresses (chain, address, tenant, kind, tagged)
    SELECT :chain, address, :tenant, :kind, :tagged FROM unnest(cast(:addresses AS text[])) AS address
    """
)


def register_addresses(
    session: Session, tenant: str, chain: str, addresses: Iterable[str], *, shared: bool = False, tagged: bool = False
) -> int:
    """Add addresses to the tenant's pool, or as shared ones; returns how many are new. Safe to repeat.

    `tagged`: shared, scanned, and each payment is its tag's owner's. Raises InvalidRequestError for a malformed
    address, an unknown chain or one without tags, ConflictError if one is registered otherwise, also on another chain;
    then none of them is added.
    """
    if chain not in registry().chains:
        raise InvalidRequestError(f"no chains file describes the chain {chain!r}", field="chain")
    if tagged and not shared:
        raise InvalidRequestError("only a shared address is tagged: one of the pool has one owner", field="tagged")
    if tagged and not takes_tags(chain):
        raise InvalidRequestError(f"payments on {chain} carry no tag", field="tagged")
    kind = SHARED if shared else ALLOTTED
    canonical = sorted({parse_address(chain, address) for address in addresses})
    if not canonical:
        return 0
    queries.lock_registering(session)
    known = {row.address: row for row in queries.addresses(session, [(chain, address) for address in canonical])}
    for row in known.values():
        if (row.tenant, row.kind, row.tagged) != (tenant, kind, tagged):
            as_what = f"{'tagged ' if row.tagged else ''}{row.kind}"
            raise ConflictError(f"{row.address} is already registered, as {as_what} of {row.tenant}", field="address")
    new = [address for address in canonical if address not in known]
    given = {"tenant": tenant, "chain": chain, "kind": kind, "tagged": tagged, "addresses": new}
    if new:
        other = session.execute(_ELSEWHERE, given).first()
        if other is not None:
            # What is paid to it on the wrong chain would be another's.
            raise ConflictError(
                f"{other.address} is already registered on {other.chain}, as {other.kind} of {other.tenant}",
                field="address",
            )
        session.execute(_REGISTER, given)  # a race with a wallet fails on its key; what was derived stands
    return len(new)


# --- allotting ---------------------------------------------------------------------------------------------------

_ONE_AT_A_TIME = text(
    "SELECT pg_advisory_xact_lock(hashtext('deposit_addresses'), stripe)"
    " FROM unnest(cast(:stripes AS integer[])) AS stripe"
)
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
# Free here, and the owner's own on another chain.
_OWN_ELSEWHERE = text(
    """
    SELECT DISTINCT ON (own.owner_account) own.owner_account, free.address
    FROM deposit_addresses AS own
    JOIN deposit_addresses AS free ON free.chain = :chain AND free.address = own.address AND free.tenant = own.tenant
                                  AND free.kind = 'allotted' AND free.owner_account IS NULL
    WHERE own.tenant = :tenant AND own.owner_account = ANY(cast(:accounts AS text[]))
    ORDER BY own.owner_account, own.allotted_at, own.address
    """
)
# Whether it is taken elsewhere is asked address by address (`coalesce`: no join), and so no more often than is needed.
_FREE = text(
    """
    SELECT address FROM deposit_addresses AS free
    WHERE tenant = :tenant AND chain = :chain AND kind = 'allotted' AND owner_account IS NULL
      AND NOT coalesce((SELECT true FROM deposit_addresses AS taken
                        WHERE taken.address = free.address AND taken.owner_account IS NOT NULL LIMIT 1), false)
      AND address <> ALL(cast(:tried AS text[]))
    ORDER BY address LIMIT :count FOR UPDATE SKIP LOCKED
    """
)
# An address that is in the pools of several chains is taken by whoever locks its first row, so never by two at once.
_FIRST = text(
    """
    SELECT first.address FROM unnest(cast(:addresses AS text[])) AS free (address)
    JOIN deposit_addresses AS first
      ON first.address = free.address
     AND first.chain = (SELECT min(chain) FROM deposit_addresses AS same WHERE same.address = free.address)
    ORDER BY first.address FOR UPDATE OF first SKIP LOCKED
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
      AND NOT EXISTS (SELECT FROM deposit_addresses AS other
                      WHERE other.address = taken.address AND other.owner_account IS NOT NULL
                        AND (other.tenant, other.owner_account) <> (taken.tenant, wanted.account))
    RETURNING taken.chain, taken.address
    """
)


def allot(session: Session, owners: Sequence[Owner]) -> dict[Owner, str]:
    """The address of each owner: the one they have, a free one of the pool, or the next of the tenant's wallet.

    An owner is missing if none is left. The number of statements doesn't grow with that of the owners.
    """
    found = _owned(session, list(dict.fromkeys(owners)))
    without = [owner for owner in dict.fromkeys(owners) if owner not in found]
    if not without:
        return found
    # Two requests of one owner at once: the second waits, and finds what the first was given.
    stripes = {zlib.crc32(f"{owner.tenant} {owner.account}".encode()) % STRIPES for owner in without}
    session.execute(_ONE_AT_A_TIME, {"stripes": sorted(stripes)})
    found |= _owned(session, without)
    wanting: dict[tuple[str, str], list[str]] = defaultdict(list)
    for owner in without:
        if owner not in found:
            wanting[owner.tenant, owner.chain].append(owner.account)
    for (tenant, chain), accounts in sorted(wanting.items()):
        pooled = _from_pool(session, tenant, chain, accounts)
        found |= {Owner(tenant, chain, account): address for account, address in pooled.items()}
        wanting[tenant, chain] = [account for account in accounts if account not in pooled]
    derived = wallets.allot(session, {group: accounts for group, accounts in wanting.items() if accounts})
    return found | {Owner(*key): address for key, address in derived.items()}


def _owned(session: Session, owners: Sequence[Owner]) -> dict[Owner, str]:
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
    return {Owner(row.tenant, row.chain, row.account): str(row.address) for row in rows}


def _from_pool(session: Session, tenant: str, chain: str, accounts: Sequence[str]) -> dict[str, str]:
    """Addresses of the pool by account, as far as there are any."""
    given = {"tenant": tenant, "chain": chain, "accounts": list(accounts)}
    chosen = {row.owner_account: row.address for row in session.execute(_OWN_ELSEWHERE, given)}
    without = [account for account in accounts if account not in chosen]
    if without:
        chosen |= dict(zip(without, _free(session, tenant, chain, len(without)), strict=False))
    taken = _allot(session, {(chain, address): account for account, address in chosen.items()})
    return {account: address for account, address in chosen.items() if (chain, address) in taken}


def _free(session: Session, tenant: str, chain: str, count: int) -> list[str]:
    """Addresses of the pool that nobody has on any chain, locked; fewer if there are not so many."""
    found: list[str] = []
    tried: list[str] = []
    while len(found) < count:
        asked = {"tenant": tenant, "chain": chain, "count": count - len(found), "tried": tried}
        free = session.scalars(_FREE, asked).all()
        if not free:
            break
        tried += free
        found += session.scalars(_FIRST, {"addresses": free})
    return found


def allot_given(session: Session, wanted: Mapping[tuple[str, str], str]) -> set[tuple[str, str]]:
    """Give free addresses (chain, address) to accounts. Returns those given: an address not among them was taken."""
    if not wanted:
        return set()
    queries.lock_addresses(session, [address for _, address in wanted])
    # One address for two accounts, on two chains: the first to name it has it.
    accounts: dict[str, str] = {}
    for (_, address), account in wanted.items():
        accounts.setdefault(address, account)
    return _allot(session, {key: account for key, account in wanted.items() if accounts[key[1]] == account})


def _allot(session: Session, wanted: Mapping[tuple[str, str], str]) -> set[tuple[str, str]]:
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


# --- permanent addresses -----------------------------------------------------------------------------------------


def own_address(session: Session, tenant: str, chain: str, account: str, route: Route = Route.ADDRESS) -> OwnAddress:
    """Where this account is paid on this chain, for ever; allotted if it has no such address yet.

    Raises InvalidRequestError for a chain that is not watched, an account that deposits can't credit or a chain
    without tags, ConflictError if there is no address left.
    """
    check_chain(chain)
    check_account(account)
    check_route(chain, route)
    if route is Route.TAG:
        asked = Asked(tenant, chain, account)
        given = allot_tags(session, [asked]).get(asked)
        if given is None:
            raise no_tagged_address(chain)
        return OwnAddress(chain, account, given.address, given.tag)
    owner = Owner(tenant, chain, account)
    address = allot(session, [owner]).get(owner)
    if address is None:
        raise no_address(chain)
    return OwnAddress(chain, account, address, None)


def check_chain(chain: str) -> Chain:
    """The chain, which must have nodes. Raises InvalidRequestError."""
    known = registry().chains.get(chain)
    if known is None:
        raise InvalidRequestError(f"no chains file describes the chain {chain[:200]!r}", field="chain")
    if not known.nodes:
        raise InvalidRequestError(f"the chain {known.id} ({known.name}) is not watched here", field="chain")
    return known


def check_account(account: str) -> None:
    """Raises InvalidRequestError unless deposits can credit it."""
    if chart.rule(chart.owner_account(account)).floor is None:
        # A reversal must be able to stop at what is left, and turn the rest into a debt.
        raise InvalidRequestError("a deposit credits an account like user:42:available", field="account")


def check_route(chain: str, route: Route) -> None:
    if route is Route.TAG and not takes_tags(chain):
        raise InvalidRequestError(f"payments on {chain} carry no tag", field="route")


def no_address(chain: str) -> ConflictError:
    return ConflictError(
        f"the pool has no free address on {chain}, and there is no wallet to derive one", field="address"
    )


def no_tagged_address(chain: str) -> ConflictError:
    return ConflictError(f"the tenant has no tagged address on {chain}", field="route")


_OF_ACCOUNT = text(
    """
    SELECT chain, address, NULL AS tag, allotted_at FROM deposit_addresses
    WHERE tenant = :tenant AND owner_account = :account AND (cast(:chain AS text) IS NULL OR chain = :chain)
    UNION ALL
    SELECT chain, address, tag, allotted_at FROM deposit_tags
    WHERE tenant = :tenant AND owner_account = :account AND (cast(:chain AS text) IS NULL OR chain = :chain)
    ORDER BY allotted_at, chain, address LIMIT :limit
    """
)


def addresses_of(
    session: Session, tenant: str, account: str, *, chain: str | None = None, limit: int = 1_000
) -> list[OwnAddress]:
    """Every address that is the account's, and every address and tag, oldest first. Allots none."""
    asked = {"tenant": tenant, "account": account, "chain": chain, "limit": limit}
    return [
        OwnAddress(row.chain, account, row.address, row.tag, row.allotted_at)
        for row in session.execute(_OF_ACCOUNT, asked)
    ]
