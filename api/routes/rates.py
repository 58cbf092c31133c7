"""Rates: what assets are worth in currencies. The same for every tenant."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from api.auth import needs
from api.responses import json_response
from core import db
from domain.access.service import Principal, Scope
from domain.rates import service as rates
from domain.rates.service import Rate, Reason, Standing

router = APIRouter(prefix="/v1/rates", tags=["rates"])

AssetId = Annotated[str, Query(pattern=r"^[!-~]{1,200}$", description="CAIP-19 id, or iso4217:EUR")]


class RateView(BaseModel):
    """What one whole asset is worth."""

    asset: str
    currency: str
    price: str = Field(description="Of one ether, not of one wei: a decimal, cut after 38 places where it has no end")
    numerator: str = Field(description="Exactly: so many smallest units of the currency ...")
    denominator: str = Field(description="... for so many smallest units of the asset")
    observed_at: datetime = Field(description="Of a rate made through others, that of the oldest")
    source: str


class StandingView(BaseModel):
    """One pair that sources are asked about, or that a person has set."""

    asset: str
    currency: str
    usable: bool = Field(description="Whether money is moved by it now")
    reason: Reason | None = Field(description="Why not")
    since: datetime
    rate: RateView | None = Field(description="The last that could be used; null: there never was one")
    sources: int = Field(description="That agreed when they were asked last")
    spread_bps: int | None = Field(description="Between them, in hundredths of a percent")
    set_until: datetime | None = Field(description="Until then it is what a person said; null: it is what sources say")


class RateList(BaseModel):
    rates: list[StandingView]


@router.get("", summary="List rates", responses={200: {"model": RateList}})
def list_rates(caller: Annotated[Principal, needs(Scope.RATES_READ)]) -> Response:  # noqa: ARG001
    """Also those that can't be used now, with the reason. What is made through others is not listed."""
    with db.transaction() as session:
        found = rates.standings(session)
    return json_response(RateList.model_construct(rates=[_standing(standing) for standing in found]))


@router.get("/usable", summary="Read the rate that money would be moved by", responses={200: {"model": RateView}})
def usable_rate(
    asset: AssetId,
    currency: AssetId,
    caller: Annotated[Principal, needs(Scope.RATES_READ)],  # noqa: ARG001
) -> Response:
    """Of any two assets, in either direction, made through others if need be. While there is none: 503, with why."""
    with db.transaction() as session:
        found = rates.usable(session, asset, currency)
    return json_response(_rate(found))


def _standing(standing: Standing) -> StandingView:
    return StandingView.model_construct(
        asset=standing.asset,
        currency=standing.currency,
        usable=standing.usable,
        reason=standing.reason,
        since=standing.since,
        rate=None if standing.rate is None else _rate(standing.rate),
        sources=standing.sources,
        spread_bps=standing.spread_bps,
        set_until=standing.expires_at,
    )


def _rate(rate: Rate) -> RateView:
    return RateView.model_construct(
        asset=rate.asset,
        currency=rate.currency,
        price=rates.price(rate),
        numerator=str(rate.numerator),
        denominator=str(rate.denominator),
        observed_at=rate.observed_at,
        source=rate.source,
    )
