"""The ingest API: `uvicorn api.main:app`. It checks, calls the domain and commits; it publishes nothing."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api import openapi, problems
from api.hot import described, engine, webhooks
from api.hot.described import ENDPOINTS
from api.hot.front import Front
from api.metrics import Metrics
from api.middleware import VERSION, BodyLimit, Envelope
from api.rate_limit import limiter
from api.routes import (
    accounts,
    addresses,
    batches,
    beneficiaries,
    bets,
    chains,
    deposits,
    docs,
    fairness,
    fiat_payments,
    health,
    holds,
    jobs,
    journals,
    metrics,
    packets,
    payout_approvals,
    payouts,
    quotes,
    rates,
)
from config import assets, settings
from config import logging as log_config
from domain.webhook.settings import webhook


def _log_as_json() -> None:
    """One line a request, ours: uvicorn's own loggers go through the same formatter, its access log is silenced."""
    log_config.configure("api")
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # While anybody would hear it, uvicorn puts each line together, even for a logger that is disabled.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Fail at boot, not at the first request: everything that a deployment can get wrong is read here."""
    assets.registry()
    limiter()
    settings.fairness()
    health.head()
    app.state.desk = webhooks.Desk(webhook())
    app.state.metrics.webhooks.begin(app.state.desk.providers)
    # A thread is of use only with a connection. More of them would wait for the pool instead of in line.
    anyio.to_thread.current_default_thread_limiter().total_tokens = settings.servers().database_pool_size
    app.state.engine = await engine.started()
    try:
        yield
    finally:
        await engine.stopped(app.state.engine)
        app.state.engine = app.state.desk = None


GARBAGE_LOOKED_FOR_EVERY = 20_000
"""New objects."""


class Api(FastAPI):
    """The framework, and what answers before any part of it does."""

    front: ASGIApp

    def put_in_front(self) -> None:
        """Once the state is there. Even the framework's own entrance costs a tenth of a claim."""
        metrics = self.state.metrics
        webhook_front = webhooks.WebhookFront(
            super().__call__, desk=lambda: self.state.desk, observe=metrics.observe, count=metrics.webhooks.count
        )
        self.front = Front(
            webhook_front,
            endpoints=ENDPOINTS,
            engine=lambda: self.state.engine,
            observe=metrics.observe,
            bytes_max=settings.api().body_bytes_max,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)


def create_app() -> FastAPI:
    app = Api(
        title="Tallyrail",
        version=VERSION,
        description=openapi.DESCRIPTION,
        lifespan=_lifespan,
        # FastAPI's own pages load their scripts from somebody else's servers. Ours is api.routes.docs.
        docs_url=None,
        redoc_url=None,
        openapi_tags=openapi.TAGS,
    )
    app.state.engine = app.state.desk = None
    app.state.metrics = Metrics(deposits.count_by_state, chains.statuses)
    app.put_in_front()
    problems.install(app)
    ledger = (accounts.router, journals.router, holds.router)
    money = (rates.router, quotes.router, fiat_payments.router)
    leaving = (beneficiaries.router, beneficiaries.banks, payouts.router, payout_approvals.router)
    games = (packets.router, bets.router, bets.players, fairness.router, described.router())
    work = (deposits.router, addresses.router, batches.router, chains.router, jobs.router)
    for router in (*work, *ledger, *money, *leaving, *games):
        app.include_router(router, responses=openapi.PROBLEMS)
    app.include_router(webhooks.router(), responses=openapi.PROBLEMS)
    for router in (health.router, metrics.router, docs.router):
        app.include_router(router)
    # The last added is the outermost.
    app.add_middleware(BodyLimit, bytes_max=settings.api().body_bytes_max)
    app.add_middleware(Envelope, observe=app.state.metrics.observe)
    app.openapi = lambda: openapi.schema(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def __getattr__(name: str) -> Any:
    # `app` is made when a server asks for it: importing this module, as tests do, changes no logging and reads nothing.
    if name == "app":
        _log_as_json()
        made = create_app()
        # What is there now stays: to look through it for garbage again and again would stop all requests for a while.
        gc.collect()
        gc.freeze()
        # Under load hundreds of requests are under way, none of them garbage: at the usual 700 new objects a look, the
        # looks take a fifteenth of the time.
        gc.set_threshold(GARBAGE_LOOKED_FOR_EVERY, 10, 10)
        globals()["app"] = made
        return made
    raise AttributeError(name)
