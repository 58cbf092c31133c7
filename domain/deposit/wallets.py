"""Wallets: extended public keys of a tenant, from which an address is derived for each owner who asks.

A child of a key belongs to one owner on every chain where the tenant has that key: what is paid to the right address on
the wrong chain is then nobody else's. So all wallets of one key count on together.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from chains import formats
from config.assets import registry
from core import clock
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError
from core.ids import new_id
from domain.deposit import queries
from domain.deposit.models import DepositWallet

INDICES = 2**31
"""Children of a key that are not hardened (BIP-32)."""
WINDOW_MAX = 4_096
"""Children looked at together."""


# --- the operator's ----------------------------------------------------------------------------------------------


def add(session: Session, tenant: str, chain: str, key: str, *, actor: str) -> DepositWallet:
    """Derive the tenant's new addresses on this chain from this extended public key. Safe to repeat.

    A key that was closed is opened again, and goes on where it stopped. Raises InvalidRequestError for a chain without
    derived addresses or a key that is none, is private or of another network; ConflictError if it is another tenant's,
    or another wallet is open. No error repeats the key.
    """
    canonical = checked(chain, key)
    queries.lock_registering(session)
    _refuse_other_spellings(session, chain, canonical)
    holders = session.scalars(
        select(DepositWallet)
        .where(DepositWallet.extended_key == canonical)
        .order_by(DepositWallet.id)
        .with_for_update(),
        execution_options={"populate_existing": True},
    ).all()
    if any(wallet.tenant != tenant for wallet in holders):
        # What is paid to one tenant's address on the other's chain would be the other's.
        raise ConflictError("this key is another tenant's already", field="key")
    mine = next((wallet for wallet in holders if wallet.chain == chain), None)
    if mine is not None and mine.closed_at is None:
        return mine
    other = session.scalar(
        select(DepositWallet).where(
            DepositWallet.tenant == tenant, DepositWallet.chain == chain, DepositWallet.closed_at.is_(None)
        )
    )
    if other is not None:
        raise ConflictError(f"the wallet {other.id} of {tenant} is open on {chain}: close it first", field="key")
    if mine is None:
        mine = DepositWallet(
            id=new_id(),
            tenant=tenant,
            chain=chain,
            extended_key=canonical,
            next_index=max((wallet.next_index for wallet in holders), default=0),
            added_by=actor,
            created_at=clock.now(),
        )
        session.add(mine)
    mine.closed_at = mine.closed_by = None
    session.flush()
    return mine


def _refuse_other_spellings(session: Session, chain: str, key: str) -> None:
    """An account's key and its branch's, or an xpub and a zpub, may have the same children, and would count apart."""
    first = formats.derive(chain, key, 0)
    for wallet in listed(session):
        if wallet.extended_key != key and formats.derive(wallet.chain, wallet.extended_key, 0) == first:
            raise ConflictError(f"the wallet {wallet.id} has the same addresses by another key", field="key")


def close(session: Session, wallet_id: UUID, *, actor: str) -> DepositWallet:
    """Derive no more addresses from it. Those that it gave stay their owners', and stay scanned. Safe to repeat."""
    wallet = session.scalars(
        select(DepositWallet).where(DepositWallet.id == wallet_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if wallet is None:
        raise NotFoundError(f"there is no wallet {wallet_id}")
    if wallet.closed_at is None:
        wallet.closed_at, wallet.closed_by = clock.now(), actor
        session.flush()
    return wallet


def listed(session: Session, *, tenant: str | None = None, chain: str | None = None) -> Sequence[DepositWallet]:
    """Oldest first, closed ones too."""
    query = select(DepositWallet).order_by(DepositWallet.id)
    if tenant is not None:
        query = query.where(DepositWallet.tenant == tenant)
    if chain is not None:
        query = query.where(DepositWallet.chain == chain)
    return session.scalars(query).all()


def derived(wallet: DepositWallet, first: int, count: int = 1) -> list[str]:
    """The addresses of the wallet's children `first` and on, given or not. None beyond the last."""
    last = min(first + count, INDICES)
    return [formats.derive(wallet.chain, wallet.extended_key, index) for index in range(first, last)]


def checked(chain: str, key: str) -> str:
    """The key in the spelling that is kept. Raises InvalidRequestError, which never repeats it: it may be private."""
    if chain not in registry().chains:
        raise InvalidRequestError(f"no chains file describes the chain {chain[:200]!r}", field="chain")
    if not formats.derives(chain):
        raise InvalidRequestError(f"addresses of {chain} are not derived from a public key: use a pool", field="chain")
    given = key.strip()
    try:
        return formats.check_extended_key(chain, given)
    except InvalidRequestError as error:
        if given and given in str(error):
            raise InvalidRequestError("this is not an extended public key of this chain", field="key") from None
        raise


# --- allotting ---------------------------------------------------------------------------------------------------

# All wallets of the keys, in one order: what is derived on one chain counts on the others.
_LOCK = text(
    """
    SELECT id, tenant, chain, extended_key, next_index, closed_at FROM deposit_wallets AS wallet
    WHERE (tenant, extended_key) IN (
      SELECT open.tenant, open.extended_key FROM deposit_wallets AS open
      JOIN unnest(cast(:tenants AS text[]), cast(:chains AS text[])) AS wanted (tenant, chain)
        ON wanted.tenant = open.tenant AND wanted.chain = open.chain
      WHERE open.closed_at IS NULL)
    ORDER BY id FOR UPDATE
    """
)
_KNOWN = text(
    """
    SELECT DISTINCT ON (own.owner_account) own.owner_account, own.wallet_index
    FROM deposit_addresses AS own JOIN deposit_wallets AS wallet ON wallet.id = own.wallet_id
    WHERE own.tenant = :tenant AND own.owner_account = ANY(cast(:accounts AS text[])) AND own.chain <> :chain
      AND wallet.extended_key = :key
    ORDER BY own.owner_account, own.wallet_index
    """
)
_TAKE = text(
    """
    INSERT INTO deposit_addresses (chain, address, tenant, kind, owner_account, allotted_at, wallet_id, wallet_index)
    SELECT :chain, new.address, :tenant, 'allotted', new.account, now(), :wallet_id, new.index
    FROM unnest(cast(:addresses AS text[]), cast(:accounts AS text[]), cast(:indices AS bigint[]))
      AS new (address, account, index)
    WHERE NOT EXISTS (
      SELECT FROM deposit_addresses AS other
      WHERE other.address = new.address
        AND (other.tenant <> :tenant OR other.kind <> 'allotted' OR other.owner_account <> new.account))
    ORDER BY new.address
    ON CONFLICT DO NOTHING
    RETURNING owner_account, address
    """
)
_COUNT_ON = text(
    "UPDATE deposit_wallets SET next_index = :next_index WHERE tenant = :tenant AND extended_key = :key"
    " AND next_index < :next_index"
)


def allot(session: Session, wanting: Mapping[tuple[str, str], Sequence[str]]) -> dict[tuple[str, str, str], str]:
    """New addresses for accounts that have none, by (tenant, chain, account); `wanting` is by (tenant, chain).

    Missing are those of a chain where the tenant has no open wallet. The wallets stay locked until the caller commits,
    so an index is never given twice, and one that was given in vain is given again.
    """
    if not wanting:
        return {}
    groups = sorted(wanting)
    asked = {"tenants": [tenant for tenant, _ in groups], "chains": [chain for _, chain in groups]}
    wallets = session.execute(_LOCK, asked).all()
    counts: dict[tuple[str, str], int] = {}
    for wallet in wallets:
        key = (wallet.tenant, wallet.extended_key)
        counts[key] = max(counts.get(key, 0), wallet.next_index)
    found: dict[tuple[str, str, str], str] = {}
    for wallet in wallets:
        accounts = wanting.get((wallet.tenant, wallet.chain), ())
        if wallet.closed_at is not None or not accounts:
            continue
        key = (wallet.tenant, wallet.extended_key)
        taken, counts[key] = _take_children(session, wallet, accounts, counts[key])
        found |= {(wallet.tenant, wallet.chain, account): address for account, address in taken.items()}
        session.execute(_COUNT_ON, {"tenant": wallet.tenant, "key": wallet.extended_key, "next_index": counts[key]})
    return found


def _take_children(
    session: Session, wallet: Row[Any], accounts: Sequence[str], first: int
) -> tuple[dict[str, str], int]:
    """An address each, and the next index. First the child that is the account's on another chain; then unused ones,
    passing over those whose address is registered already, by somebody's hand.
    """
    asked = {"tenant": wallet.tenant, "chain": wallet.chain, "key": wallet.extended_key, "accounts": list(accounts)}
    known = {row.owner_account: row.wallet_index for row in session.execute(_KNOWN, asked)}
    taken = _take(session, wallet, {account: (index, _child(wallet, index)) for account, index in known.items()})
    missing = [account for account in accounts if account not in taken]
    window = len(missing)
    while missing and first < INDICES:
        children = [(index, _child(wallet, index)) for index in range(first, min(first + window, INDICES))]
        registered = queries.registered(session, [address for _, address in children])
        free = [child for child in children if child[1] not in registered][: len(missing)]
        first = free[-1][0] + 1 if len(free) == len(missing) else children[-1][0] + 1
        taken |= _take(session, wallet, dict(zip(missing, free, strict=False)))
        missing = [account for account in missing if account not in taken]
        window = min(2 * window, WINDOW_MAX)  # a whole file of the key's addresses may have been registered before
    return taken, first


def _child(wallet: Row[Any], index: int) -> str:
    return formats.derive(wallet.chain, wallet.extended_key, index)


def _take(session: Session, wallet: Row[Any], children: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    """Register these children (index, address) as their accounts' own. Missing are those registered otherwise."""
    if not children:
        return {}
    if len({address for _, address in children.values()}) < len(children):
        raise InvariantError(f"the wallet {wallet.id} has one address for two indices")
    rows = session.execute(
        _TAKE,
        {
            "chain": wallet.chain,
            "tenant": wallet.tenant,
            "wallet_id": wallet.id,
            "addresses": [address for _, address in children.values()],
            "accounts": list(children),
            "indices": [index for index, _ in children.values()],
        },
    )
    return {row.owner_account: row.address for row in rows}
