"""`POST /v1/webhooks/{provider}`: checked by the provider's signature, kept, answered. Before the framework, as a burst
comes when many people pay at once. docs/webhooks.md has the order of the checks.

Its promises are those of api.hot.front. There is no API key, so there is no tenant and no limit of one; what isn't
signed costs one hash of at most BYTES_MAX and is kept nowhere.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from api.hot.front import (
    HEADERS_OF_JSON,
    OK,
    REFUSED,
    GoneError,
    answer,
    correlation_of,
    headers_of,
    problem_of,
    read_body,
)
from api.middleware import GONE, Observe
from api.problems import Problem
from core.errors import NotFoundError, TransientError
from domain.webhook.intake import Intake
from domain.webhook.service import Arrived
from domain.webhook.settings import Network, WebhookSettings
from providers.webhooks.alchemy_pay import PATH
from providers.webhooks.base import ForgedError, Genuine, Scheme
from providers.webhooks.registry import schemes

log = structlog.stdlib.get_logger(__name__)

PREFIX = "/v1/webhooks/"
ROUTE = "/v1/webhooks/{provider}"
BYTES_MAX = 256 * 1024
ACCEPTED, REPEATED, FORGED, OUTSIDE, FAILED = RESULTS = ("accepted", "repeated", "forged", "outside", "failed")
_DONE = b'{"status":"success"}'
FORGED_LINES_MAX = 5
"""In the log, a second and provider: to forge costs nothing, so it must not fill a disk. Every one is counted."""
Address = IPv4Address | IPv6Address
Count = Callable[[str, str], None]
"""Told provider and result of each webhook of a provider that is let in here."""


class OutsideError(Exception):
    """It came from none of the provider's networks."""


class NotVerifiedError(Problem):
    """Why is in the log, and told to nobody who may have forged it."""

    def __init__(self) -> None:
        super().__init__(
            "webhook-not-verified",
            "its signature, its time or its sender is not as it should be",
            headers={"WWW-Authenticate": 'Signature realm="webhooks"'},
        )


class Lines:
    """Which of many alike have a line in the log: FORGED_LINES_MAX a second of each name."""

    def __init__(self) -> None:
        self._second = 0
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def admit(self, name: str) -> int | None:
        """How many had no line since the last one. None: neither has this one."""
        second = _second()
        if second != self._second:
            self._second = second
            self._written.clear()
        if self._written[name] == FORGED_LINES_MAX:
            self._left_out[name] += 1
            return None
        self._written[name] += 1
        return self._left_out.pop(name, 0)


def _second() -> int:
    return int(time.monotonic())


@dataclass(frozen=True, slots=True)
class Door:
    """One provider's."""

    scheme: Scheme
    secrets: Sequence[bytes]
    networks: Sequence[Network]

    def check(self, body: bytes, headers: Mapping[str, str], remote: Address | None) -> Genuine:
        """Raises OutsideError, ForgedError."""
        if self.networks and not (remote and any(remote in network for network in self.networks)):
            raise OutsideError("it came from none of the provider's networks")
        return self.scheme.check(body, headers, self.secrets, datetime.now(UTC))


class Desk:
    """What lets webhooks in, from this process's start to its end. Raises ValueError for what no provider is called."""

    def __init__(self, chosen: WebhookSettings) -> None:
        if unknown := (chosen.secrets.keys() | chosen.networks.keys()) - schemes().keys():
            raise ValueError(f"WEBHOOK_SECRETS and WEBHOOK_NETWORKS know no {min(unknown)!r}: there are {_known()}")
        self._doors = {
            provider: Door(
                schemes()[provider],
                [secret.get_secret_value().encode() for secret in secrets],
                chosen.networks.get(provider, ()),
            )
            for provider, secrets in chosen.secrets.items()
        }
        self._proxies = chosen.proxies or ()
        self.intake = Intake()

    @property
    def providers(self) -> Sequence[str]:
        return sorted(self._doors)

    def door(self, provider: str) -> Door:
        """Raises NotFoundError."""
        found = self._doors.get(provider)
        if found is None:
            raise NotFoundError("no webhooks of this name are taken here")
        return found

    def remote(self, peer: str | None, forwarded: str) -> Address | None:
        """Who sent it: who connects or, behind proxies of ours, the last that is none of them. None: nobody can say."""
        found = _address(peer)
        hops = forwarded.split(",") if forwarded else []
        while found is not None and hops and any(found in network for network in self._proxies):
            found = _address(hops.pop().strip())
        return found


def _known() -> str:
    return ", ".join(sorted(schemes()))


@lru_cache(4_096)  # a provider has few, and to parse one takes longer than to check a signature
def _address(text: str | None) -> Address | None:
    try:
        found = ip_address(text or "")
    except ValueError:
        return None
    if not isinstance(found, IPv6Address):
        return found
    # A server that listens on IPv6 sees IPv4 like this. `%eth0` says where the address holds: PostgreSQL takes none.
    return found.ipv4_mapped or IPv6Address(int(found))


class WebhookFront:
    """`desk` gives what the lifespan has made, or None outside of it."""

    def __init__(self, app: ASGIApp, *, desk: Callable[[], Desk | None], observe: Observe, count: Count) -> None:
        self._app = app
        self._desk = desk
        self._observe = observe
        self._count = count
        self._lines = Lines()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(PREFIX):
            await self._serve(scope["path"].removeprefix(PREFIX), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, provider: str, scope: AsgiScope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        raw: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))  # of several of one name the first counts
        correlation = correlation_of(raw)
        # Not taken back: the server runs each request in a context of its own.
        structlog.contextvars.bind_contextvars(correlation_id=correlation)
        status, has_line = GONE, False
        try:
            await self._take(provider, raw, scope, receive, correlation)
            status, content, headers = OK, _DONE, HEADERS_OF_JSON
        except GoneError:
            return
        except Exception as error:  # noqa: BLE001  # each is answered; what isn't foreseen is logged with its trace
            has_line = isinstance(error, NotVerifiedError)
            problem = problem_of(error, scope)
            status, content, headers = problem.status, problem.content(), headers_of(problem)
        finally:
            seconds = time.perf_counter() - began
            self._observe("POST", ROUTE, status, seconds)
            if status >= REFUSED and not has_line:
                log.info("request", method="POST", path=scope["path"], route=ROUTE, status=status,
                         ms=round(seconds * 1_000, 2), tenant=None)  # fmt: skip
        await answer(send, status, headers, content, correlation)

    async def _take(
        self, provider: str, raw: Mapping[bytes, bytes], scope: AsgiScope, receive: Receive, correlation: str
    ) -> None:
        """Returns once it is kept. Raises what api.problems knows."""
        desk = self._desk()
        if desk is None:
            raise TransientError("this process takes no webhooks at the moment")
        door = desk.door(provider)
        remote = desk.remote((scope.get("client") or (None,))[0], _forwarded(raw, scope))
        body = await read_body(raw, receive, BYTES_MAX)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw.items()}
        headers[PATH] = scope["path"]
        try:
            genuine = door.check(body, headers, remote)
        except (ForgedError, OutsideError) as error:
            self._count(provider, OUTSIDE if isinstance(error, OutsideError) else FORGED)
            left_out = self._lines.admit(provider)
            if left_out is not None:
                log.warning("webhook.forged", provider=provider, why=str(error), remote=str(remote), bytes=len(body),
                            left_out=left_out)  # fmt: skip
            raise NotVerifiedError from None
        arrived = Arrived(
            provider=provider,
            event_id=genuine.event_id,
            body=body,
            headers=headers,
            secret=genuine.secret,
            remote=None if remote is None else str(remote),
            correlation_id=correlation,
        )
        await self._keep(desk.intake, arrived)

    async def _keep(self, intake: Intake, arrived: Arrived) -> None:
        try:
            kept = await intake.keep(arrived)
        except Exception as error:
            self._count(arrived.provider, FAILED)
            # Of a database's error only the kind: its words may quote what was to be written.
            log.warning("webhook.not_kept", provider=arrived.provider, error=type(error).__name__)
            raise
        self._count(arrived.provider, REPEATED if kept.is_repeat else ACCEPTED)


def _forwarded(raw: Mapping[bytes, bytes], scope: AsgiScope) -> str:
    """Every X-Forwarded-For there is, as one: proxies may add a header of their own."""
    if _FORWARDED not in raw:
        return ""
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == _FORWARDED)


_FORWARDED = b"x-forwarded-for"


# --- as the framework sees it ----------------------------------------------------------------------------------------


class WebhookResponse(BaseModel):
    """It is kept. It says nothing of what becomes of it."""

    status: str


def router() -> APIRouter:
    made = APIRouter()
    made.add_api_route(
        ROUTE,
        _beyond,
        methods=["POST"],
        name="take_webhook",
        tags=["webhooks"],
        summary="What a provider has to say",
        description="Signed by the provider as it documents; needs no API key. Answered once it is kept.",
        responses={200: {"model": WebhookResponse, "description": "Kept, or kept before"}},
        openapi_extra={"requestBody": {"content": {"*/*": {"schema": {"type": "string", "maxLength": BYTES_MAX}}}}},
    )
    return made


async def _beyond(provider: str) -> Response:
    raise NotFoundError(f"no webhooks of the name {provider} are taken here")
