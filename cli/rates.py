"""`tallyrail rates`: what assets are worth in currencies."""

from datetime import datetime
from typing import Annotated, Any

import typer

from cli import values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing
from core import db
from domain.rates import service as rates
from domain.rates.service import AssetRate

app = noun()
COLUMNS = (
    Column("Rate", "id", right=True),
    Column("Asset", "asset"),
    Column("Currency", "currency"),
    Column("Price", "price", right=True),
    Column("Observed", "observed_at"),
    Column("Source", "source"),
    Column("Told by", "actor"),
    Column("Because", lambda row: row["reason"] or "", free=True),
)


def _row(rate: AssetRate) -> dict[str, Any]:
    return {
        "id": rate.id,
        "asset": rate.asset,
        "currency": rate.currency,
        "price": rates.price(rate),
        "numerator": str(rate.numerator),
        "denominator": str(rate.denominator),
        "observed_at": rate.observed_at,
        "source": rate.source,
        "actor": rate.actor,
        "reason": rate.reason,
        "created_at": rate.created_at,
    }


@app.command("set")
def set_rate(
    asset: Annotated[str, typer.Argument(help="A CAIP-19 id of the registry.")],
    currency: Annotated[str, typer.Argument(help="Also of the registry, such as iso4217:USD.")],
    price: Annotated[str, typer.Argument(help="Of one ETH, not of one wei: a decimal, taken exactly.")],
    *,
    source: Annotated[str, typer.Option(help="Where the price is from, such as an exchange.")],
    reason: Reason,
    at: Annotated[
        datetime | None,
        typer.Option(parser=values.past, metavar="WHEN", help="When it was observed: 10m for ten minutes ago."),
    ] = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Add a rate. Prints the plan unless --commit is given. Deposits that wait for it go on within a block."""
    who, why = actor or user(), checked(reason)
    rate = rates.proposed(asset, currency, price, source=source, actor=who, reason=why, observed_at=at)
    with db.transaction() as session:
        last = rates.newest(session, asset, currency)
        row = _row(rates.add(session, rate) if commit else rate)
    if as_json:
        document({**row, "committed": commit})
        return
    details(
        {
            "Asset": asset,
            "Currency": currency,
            "Price": row["price"],
            "Before": None if last is None else f"{rates.price(last)} at {last.observed_at:%Y-%m-%d %H:%M:%S}Z",
            "Observed": row["observed_at"],
            "Source": source,
            "As": who,
            "Because": why,
        }
    )
    typer.echo(f"\nSet, as rate {row['id']}." if commit else f"\n{NOTHING_DONE}")


@app.command("list")
def list_rates(
    *,
    asset: Annotated[str | None, typer.Option()] = None,
    currency: Annotated[str | None, typer.Option()] = None,
    limit: values.Limit = 50,
    cursor: Annotated[int | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rates, the ones told last first."""
    with db.transaction() as session:
        found = rates.page(session, asset=asset, currency=currency, before=cursor, limit=limit + 1)
        rows = [_row(rate) for rate in found]
    listing(
        "rates",
        rows[:limit],
        COLUMNS,
        as_json=as_json,
        empty="There are no such rates.",
        paged=True,
        next_cursor=str(rows[limit - 1]["id"]) if len(rows) > limit else None,
    )
