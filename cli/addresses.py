"""`tallyrail addresses`: where payers pay to. Only addresses are known here, never their keys."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select

from cli.nouns import noun
from cli.output import AsJson, Column, document, listing, say
from core import db
from core.errors import NotFoundError
from domain.access import service as access
from domain.deposit import service as deposits
from domain.deposit.models import DepositAddress, DepositTag

app = noun()
COLUMNS = (
    Column("Address", "address"),
    Column("Chain", "chain"),
    Column("Tenant", "tenant"),
    Column("Kind", lambda row: "shared, tagged" if row["tagged"] else row["kind"]),
    Column("Owner", "owner_account"),
    Column("Allotted", "allotted_at"),
    Column("Index", "wallet_index", right=True),
)
TAG_COLUMNS = (
    Column("Tag", "tag"),
    Column("Owner", "owner_account"),
    Column("Tenant", "tenant"),
    Column("Chain", "chain"),
    Column("Address", "address"),
    Column("Allotted", "allotted_at"),
)


@app.command()
def add(
    tenant: str,
    chain: Annotated[str, typer.Argument(help="The CAIP-2 id, such as eip155:1.")],
    given: Annotated[list[str] | None, typer.Argument(metavar="[ADDRESS]...")] = None,
    *,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared/--pool",
            help="Shared: of many payers, each payment claimed by its hash. Pool: each gets one owner, for ever.",
        ),
    ],
    tagged: Annotated[
        bool, typer.Option("--tagged", help="Shared, and each payment is the owner's whose tag (memo) it carries.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option(help="One address a line; # begins a comment; - is standard input.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register deposit addresses, all or none. Safe to repeat."""
    wanted = [*(given or []), *(_lines(file) if file is not None else [])]
    if not wanted:
        raise typer.BadParameter("give addresses, or a --file of them")
    with db.transaction() as session:
        if access.get_tenant(session, tenant) is None:
            raise NotFoundError(f"there is no tenant {tenant!r}")
        added = deposits.register_addresses(session, tenant, chain, wanted, shared=shared, tagged=tagged)
    if as_json:
        document({"given": len(wanted), "added": added})
    say(f"{added} added, {len(wanted) - added} known already.")


def _lines(file: Path) -> list[str]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    return [line for raw in text.splitlines() if (line := raw.split("#", 1)[0].strip())]


@app.command("list")
def list_addresses(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    chain: Annotated[str | None, typer.Option()] = None,
    account: Annotated[str | None, typer.Option(help="Only those of this owner.")] = None,
    free: Annotated[bool, typer.Option("--free", help="Only those of a pool that nobody owns yet.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Our addresses and their owners."""
    query = select(DepositAddress).order_by(DepositAddress.chain, DepositAddress.address).limit(limit + 1)
    if tenant is not None:
        query = query.where(DepositAddress.tenant == tenant)
    if chain is not None:
        query = query.where(DepositAddress.chain == chain)
    if account is not None:
        query = query.where(DepositAddress.owner_account == account)
    if free:
        query = query.where(DepositAddress.kind == "allotted", DepositAddress.owner_account.is_(None))
    with db.transaction() as session:
        found = session.scalars(query).all()
    rows = [
        {
            "address": row.address,
            "chain": row.chain,
            "tenant": row.tenant,
            "kind": row.kind,
            "owner_account": row.owner_account,
            "allotted_at": row.allotted_at,
            "tagged": row.tagged,
            "wallet_id": row.wallet_id,
            "wallet_index": row.wallet_index,
        }
        for row in found[:limit]
    ]
    listing("addresses", rows, COLUMNS, as_json=as_json, empty="There are no such addresses.")
    if len(found) > limit:
        say(f"There are more than {limit}: narrow the filters, or raise --limit.")


@app.command("tags")
def list_tags(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    chain: Annotated[str | None, typer.Option()] = None,
    account: Annotated[str | None, typer.Option(help="Only those of this owner.")] = None,
    tag: Annotated[str | None, typer.Option(help="Whose is it?")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """The tags of shared addresses and their owners."""
    query = select(DepositTag).order_by(DepositTag.chain, DepositTag.address, DepositTag.tag).limit(limit + 1)
    for column, wanted in (
        (DepositTag.tenant, tenant),
        (DepositTag.chain, chain),
        (DepositTag.owner_account, account),
        (DepositTag.tag, tag),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    with db.transaction() as session:
        found = session.scalars(query).all()
    rows = [
        {
            "tag": row.tag,
            "owner_account": row.owner_account,
            "tenant": row.tenant,
            "chain": row.chain,
            "address": row.address,
            "allotted_at": row.allotted_at,
        }
        for row in found[:limit]
    ]
    listing("tags", rows, TAG_COLUMNS, as_json=as_json, empty="There are no such tags.")
    if len(found) > limit:
        say(f"There are more than {limit}: narrow the filters, or raise --limit.")
