"""`tallyrail keys`. A new secret is the only thing on standard output, so that a script can take it."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from cli import values
from cli.nouns import noun
from cli.output import AsJson, Column, document, listing, plain, say
from core import clock, db
from domain.access import service as access
from domain.access.models import ApiKey
from domain.access.service import IssuedKey, Scope

app = noun()
COLUMNS = (
    Column("Key", "id"),
    Column("Tenant", "tenant"),
    Column("State", "state"),
    Column("Name", "name", free=True),
    Column("Person", "person"),
    Column("Begins", "begins"),
    Column("Scopes", "scopes", free=True),
    Column("Expires", "expires_at"),
    Column("Replaces", "replaces"),
)
KeyId = Annotated[UUID, typer.Argument(metavar="KEY", help="The key's id, from `tallyrail keys list`.")]
ExpiresIn = Annotated[
    timedelta | None,
    typer.Option(parser=values.span, metavar="SPAN", help="Valid for this long: 90d, 12h. Default: until revoked."),
]


def _row(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "person": key.person,
        "begins": f"{access.PREFIX}{key.id.hex[-12:]}_",
        "state": _state(key),
        "scopes": list(key.scopes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "replaces": key.replaces,
    }


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= clock.now() else "valid"


def _give(issued: IssuedKey, *, as_json: bool) -> None:
    if as_json:
        document({**_row(issued.key), "secret": issued.secret})
        return
    until = f", valid until {plain(issued.key.expires_at)}" if issued.key.expires_at else ""
    say(f"The key {issued.key.id} of {issued.key.tenant}{until}. Keep its secret now, it can't be shown again:")
    typer.echo(issued.secret)


@app.command()
def create(
    tenant: str,
    *,
    name: Annotated[str, typer.Option(help="What it is for.")] = "default",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="May be repeated. Default: all but those that book.")
    ] = None,
    person: Annotated[
        str | None, typer.Option(help="Whose own key it is, such as ada. Without: a service's, which approves nothing.")
    ] = None,
    expires_in: ExpiresIn = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is printed once, alone on standard output."""
    if person is None and scope and Scope.PAYOUTS_APPROVE in scope:
        raise typer.BadParameter(f"with {Scope.PAYOUTS_APPROVE} people approve: say whose key it is with --person")
    with db.transaction() as session:
        issued = access.create_key(
            session,
            tenant,
            name=name,
            scopes=scope or tuple(each for each in Scope if not each.on_request),
            expires_at=None if expires_in is None else clock.now() + expires_in,
            person=person,
        )
    _give(issued, as_json=as_json)


@app.command("list")
def list_keys(tenant: Annotated[str | None, typer.Argument()] = None, *, as_json: AsJson = False) -> None:
    """Keys, also those that are no longer valid; of one tenant or of all."""
    with db.transaction() as session:
        rows = [_row(key) for key in access.keys(session, tenant)]
    listing("keys", rows, COLUMNS, as_json=as_json, empty="There are no keys.")


@app.command()
def revoke(key: KeyId) -> None:
    """End a key now. Doing it twice is doing it once."""
    with db.transaction() as session:
        revoked = access.revoke_key(session, key)
    say(f"The key {key} of {revoked.tenant} is revoked; running processes notice within {access.CACHE_FOR.seconds} s.")


@app.command()
def rotate(
    key: KeyId,
    *,
    overlap: Annotated[
        timedelta, typer.Option(parser=values.span, metavar="SPAN", help="How long the old key goes on working.")
    ] = "1d",  # type: ignore[assignment]  # goes through the parser
    expires_in: ExpiresIn = None,
    as_json: AsJson = False,
) -> None:
    """Make a key like this one, and let the old one end after the overlap."""
    with db.transaction() as session:
        expires_at = None if expires_in is None else clock.now() + expires_in
        issued = access.rotate_key(session, key, overlap=overlap, expires_at=expires_at)
    _give(issued, as_json=as_json)
    say(f"The key {key} stops working within {plain(overlap)}.")
