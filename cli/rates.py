"""`tallyrail rates`: what assets are worth in currencies, and a person's word on it."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from cli import values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, table
from core import clock, db
from domain.rates import service as rates
from domain.rates.service import AssetPrice, AssetRate, Rate, RateUnusableError, Standing

app = noun()

Asset = Annotated[str, typer.Argument(help="A CAIP-19 id of the registry.")]
Currency = Annotated[str, typer.Argument(help="Also of the registry, such as iso4217:USD.")]
OfAsset = Annotated[str | None, typer.Option("--asset")]
OfCurrency = Annotated[str | None, typer.Option("--currency")]
Paging = Annotated[int | None, typer.Option("--cursor", help="Go on after the page that named this cursor.")]
LAST = 12
"""Prices that `show` prints."""

STANDINGS = (
    Column("Asset", "asset"),
    Column("Currency", "currency"),
    Column("Price", "price", right=True),
    Column("Usable", lambda row: "yes" if row["usable"] else row["reason"].replace("_", " ")),
    Column("Since", "since"),
    Column("Observed", "observed_at"),
    Column("Sources", "sources", right=True),
    Column("Spread bps", "spread_bps", right=True),
    Column("Set until", "set_until"),
)
HISTORY = (
    Column("Rate", "id", right=True),
    Column("Asset", "asset"),
    Column("Currency", "currency"),
    Column("Price", "price", right=True),
    Column("Observed", "observed_at"),
    Column("Source", "source"),
    Column("Told by", "actor"),
    Column("Set until", "set_until"),
    Column("Because", lambda row: row["reason"] or "", free=True),
)
PRICES = (
    Column("Price", "id", right=True),
    Column("Asset", "asset"),
    Column("Currency", "currency"),
    Column("Source", "source"),
    Column("Told", "price", right=True),
    Column("Held at", "observed_at"),
    Column("Asked at", "asked_at"),
    Column("Dropped", lambda row: row["dropped"] or ""),
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
        "set_until": rate.cleared_at or rate.expires_at,
        "cleared_by": rate.cleared_by,
        "cleared_because": rate.cleared_because,
    }


def _price(price: AssetPrice) -> dict[str, Any]:
    return {
        "id": price.id,
        "asset": price.asset,
        "currency": price.currency,
        "source": price.source,
        "price": rates.price(price),
        "observed_at": price.observed_at,
        "asked_at": price.asked_at,
        "dropped": price.dropped,
    }


def _standing(standing: Standing) -> dict[str, Any]:
    rate = standing.rate
    return {
        "asset": standing.asset,
        "currency": standing.currency,
        "price": None if rate is None else rates.price(rate),
        "usable": standing.usable,
        "reason": standing.reason,
        "since": standing.since,
        "observed_at": None if rate is None else rate.observed_at,
        "sources": standing.sources,
        "spread_bps": standing.spread_bps,
        "changes": standing.changes,
        "set_until": standing.expires_at,
    }


# --- reading -----------------------------------------------------------------------------------------------------


@app.command("list")
def list_rates(*, asset: OfAsset = None, currency: OfCurrency = None, as_json: AsJson = False) -> None:
    """How each rate stands now: those that sources are asked for, and those that somebody has set."""
    with db.transaction() as session:
        found = rates.standings(session)
    rows = [_standing(each) for each in found if asset in (None, each.asset) and currency in (None, each.currency)]
    listing("rates", rows, STANDINGS, as_json=as_json, empty="There are no such rates.")


@app.command()
def show(
    asset: Asset,
    currency: Currency,
    *,
    at: Annotated[
        datetime | None, typer.Option(parser=values.past, metavar="WHEN", help="What money was moved by then.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The rate that money is moved by, also one made through others; and what sources told last."""
    rate: Rate | None = None
    reason: str | None = None
    with db.transaction() as session:
        try:
            rate = rates.usable(session, asset, currency, at)
        except RateUnusableError as error:
            reason = error.reason
        told = [_price(price) for price in rates.prices(session, asset=asset, currency=currency, limit=LAST)]
    told_of = {
        "asset": asset,
        "currency": currency,
        "at": at or clock.now(),
        "usable": rate is not None,
        "reason": reason,
        "price": None if rate is None else rates.price(rate),
        "numerator": None if rate is None else str(rate.numerator),
        "denominator": None if rate is None else str(rate.denominator),
        "observed_at": None if rate is None else rate.observed_at,
        "source": None if rate is None else rate.source,
    }
    if as_json:
        document({**told_of, "prices": told})
        return
    details(
        {
            "Asset": asset,
            "Currency": currency,
            "At": told_of["at"],
            "Usable": "yes" if reason is None else f"no: {reason.replace('_', ' ')}",
            "Price": told_of["price"],
            "Observed": told_of["observed_at"],
            "Source": told_of["source"],
        }
    )
    if told:
        typer.echo()
        table(told, PRICES, title="What sources told last")


@app.command()
def history(
    *,
    asset: OfAsset = None,
    currency: OfCurrency = None,
    prices: Annotated[
        bool, typer.Option("--prices", help="What each source told, instead of what came of it.")
    ] = False,
    limit: values.Limit = 50,
    cursor: Paging = None,
    as_json: AsJson = False,
) -> None:
    """Rates that could be used and rates that were set, the ones told last first."""
    with db.transaction() as session:
        read = rates.prices if prices else rates.page
        shown: Any = _price if prices else _row
        found = read(session, asset=asset, currency=currency, before=cursor, limit=limit + 1)
        rows = [shown(each) for each in found]
    listing(
        "prices" if prices else "rates",
        rows[:limit],
        PRICES if prices else HISTORY,
        as_json=as_json,
        empty="There are no such prices." if prices else "There are no such rates.",
        paged=True,
        next_cursor=str(rows[limit - 1]["id"]) if len(rows) > limit else None,
    )


# --- a person's word -----------------------------------------------------------------------------------------------


@app.command("set")
def set_rate(
    asset: Asset,
    currency: Currency,
    price: Annotated[str, typer.Argument(help="Of one ETH, not of one wei: a decimal, taken exactly.")],
    *,
    source: Annotated[str, typer.Option(help="Where the price is from, such as an exchange.")],
    reason: Reason,
    lasts: Annotated[
        timedelta | None,
        typer.Option("--for", parser=values.span, metavar="SPAN", help="How long it holds. Default: RATE_OVERRIDE."),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(parser=values.past, metavar="WHEN", help="From when on it holds: 10m for ten minutes ago."),
    ] = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Set a rate that wins over all sources while it lasts. Deposits that wait for it go on within a block.

    Prints the plan unless --commit is given.
    """
    who, why = actor or user(), checked(reason)
    rate = rates.proposed(asset, currency, price, source=source, actor=who, reason=why, observed_at=at, lasts=lasts)
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
            "Holds from": row["observed_at"],
            "Holds until": row["set_until"],
            "Source": source,
            "As": who,
            "Because": why,
        }
    )
    typer.echo(f"\nSet, as rate {row['id']}." if commit else f"\n{NOTHING_DONE}")


@app.command()
def clear(
    asset: Asset,
    currency: Currency,
    *,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """End what was set for a pair now; from here on its sources decide. Prints the plan unless --commit is given."""
    who, why = actor or user(), checked(reason)
    with db.transaction() as session:
        if commit:
            ended = rates.clear(session, asset, currency, actor=who, reason=why)
        else:
            ended = rates.clearable(session, asset, currency)
        rows = [_row(rate) for rate in ended]
    if as_json:
        document({"cleared": rows, "committed": commit})
        return
    if not rows:
        typer.echo("Nothing is set for this pair.")
        return
    table(rows, HISTORY)
    typer.echo(f"\nAs {who}, because: {why}")
    typer.echo("\nCleared." if commit else f"\n{NOTHING_DONE}")
