"""`tallyrail wallets`: the extended public keys from which addresses are derived. Private keys have no place here."""

import sys
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import NOTHING_DONE, Actor, Commit, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, table
from core import db
from core.errors import NotFoundError
from domain.access import service as access
from domain.deposit import wallets
from domain.deposit.models import DepositWallet

app = noun()
COLUMNS = (
    Column("Wallet", "id"),
    Column("State", "state"),
    Column("Tenant", "tenant"),
    Column("Chain", "chain"),
    Column("Next index", "next_index", right=True),
    Column("First unused", "first_unused"),
    Column("Added by", "added_by"),
    Column("Since", "created_at"),
    Column("Closed by", "closed_by"),
    Column("Closed", "closed_at"),
)
CHILDREN = (Column("Index", "index", right=True), Column("Address", "address"))
COMPARED = 5
"""Addresses that a person compares before the first is given away."""


@app.command()
def add(
    tenant: str,
    chain: Annotated[str, typer.Argument(help="The CAIP-2 id, such as eip155:1.")],
    key: Annotated[str, typer.Argument(help="The account's extended PUBLIC key; - is standard input.")],
    *,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Derive new addresses of this chain from a key. Prints the plan unless --commit is given.

    Compare the addresses that are printed with those that your own wallet shows for the account, before --commit. A
    closed wallet of the key is opened again.
    """
    who = actor or user()
    given = sys.stdin.readline() if key == "-" else key
    with db.transaction() as session:
        if access.get_tenant(session, tenant) is None:
            raise NotFoundError(f"there is no tenant {tenant!r}")
        rehearsal = session.begin_nested()
        wallet = wallets.add(session, tenant, chain, given, actor=who)
        row = _row(wallet)
        children = [
            {"index": index, "address": address} for index, address in enumerate(wallets.derived(wallet, 0, COMPARED))
        ]
        if not commit:
            rehearsal.rollback()
    if as_json:
        document({**row, "addresses": children, "committed": commit})
        return
    details({"Tenant": tenant, "Chain": chain, "Next index": row["next_index"], "By": who})
    table(children, CHILDREN, title="The first addresses of this key: does your own wallet show the same?")
    typer.echo(f"Done, as wallet {row['id']}." if commit else NOTHING_DONE)


@app.command("list")
def list_wallets(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    chain: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Wallets, how far each is used, and the first address that is nobody's yet.

    Your own wallet must look beyond its gap limit: as far as the next index.
    """
    with db.transaction() as session:
        rows = [_row(wallet) for wallet in wallets.listed(session, tenant=tenant, chain=chain)]
    listing("wallets", rows, COLUMNS, as_json=as_json, empty="There are no such wallets.")


@app.command()
def close(
    wallet: Annotated[UUID, typer.Argument(metavar="WALLET", help="The wallet's id.")],
    *,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Derive no more addresses from a key; those it gave stay. Prints the plan unless --commit is given."""
    who = actor or user()
    with db.transaction() as session:
        rehearsal = session.begin_nested()
        row = _row(wallets.close(session, wallet, actor=who))
        if not commit:
            rehearsal.rollback()
    if as_json:
        document({**row, "committed": commit})
        return
    typer.echo(f"Wallet {wallet} of {row['tenant']} on {row['chain']}: closed by {row['closed_by']}")
    typer.echo("Done." if commit else NOTHING_DONE)


def _row(wallet: DepositWallet) -> dict[str, Any]:
    unused = wallets.derived(wallet, wallet.next_index)
    return {
        "id": wallet.id,
        "state": "open" if wallet.closed_at is None else "closed",
        "tenant": wallet.tenant,
        "chain": wallet.chain,
        "extended_key": wallet.extended_key,
        "next_index": wallet.next_index,
        "first_unused": unused[0] if unused else None,
        "added_by": wallet.added_by,
        "created_at": wallet.created_at,
        "closed_by": wallet.closed_by,
        "closed_at": wallet.closed_at,
    }
