"""Who is asking, and whether he may: `Authorization: Bearer tr_...`."""

from typing import Annotated, Any

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.problems import Problem
from api.rate_limit import limiter
from core import db
from domain.access import service as access
from domain.access.errors import CredentialError
from domain.access.service import Principal, Scope

BEARER = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="An API key of the tenant, made by `tallyrail keys create`."
)


def _admit(secret: str) -> Principal:
    """One trip to a thread for everything that may have to wait."""
    principal = access.remembered(secret)
    if principal is None:
        with db.transaction() as session:
            principal = access.authenticate(session, secret)
    limiter().admit(principal.tenant)
    return principal


def needs(scope: Scope) -> Any:
    """A parameter of an endpoint: the caller, who has this scope."""

    async def check(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
    ) -> Principal:
        if credentials is None:
            raise CredentialError("give an API key: Authorization: Bearer tr_...")
        principal = await run_in_threadpool(_admit, credentials.credentials)
        request.state.tenant = principal.tenant
        structlog.contextvars.bind_contextvars(tenant=principal.tenant)
        if scope not in principal.scopes:
            raise Problem("forbidden", f"the API key lacks the scope {scope}")
        return principal

    return Depends(check)
