"""`tallyrail tenants`."""

from typing import Annotated

import typer

from cli.nouns import noun
from cli.output import AsJson, Column, document, listing, say
from core import db
from domain.access import service as access
from domain.access.models import Tenant

app = noun()
COLUMNS = (Column("Tenant", "tenant"), Column("Name", "name", free=True), Column("Since", "created_at"))


def _row(tenant: Tenant) -> dict[str, object]:
    return {"tenant": tenant.id, "name": tenant.name, "created_at": tenant.created_at}


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(help="A short word of a-z, 0-9 and -. It can't be changed.")],
    *,
    name: Annotated[str | None, typer.Option(help="For people. Default: the id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a tenant. It can do nothing until it has a key."""
    with db.transaction() as session:
        made = access.create_tenant(session, tenant, name=name or tenant)
        session.refresh(made)
        row = _row(made)
    if as_json:
        document(row)
    say(f"The tenant {tenant} is made. Next: tallyrail keys create {tenant}")


@app.command("list")
def list_tenants(*, as_json: AsJson = False) -> None:
    """Every tenant."""
    with db.transaction() as session:
        rows = [_row(tenant) for tenant in access.tenants(session)]
    listing("tenants", rows, COLUMNS, as_json=as_json, empty="There are no tenants.")
