"""The signer over HTTP: `chains.signing` has the wire. Every refusal is a problem document (RFC 9457) with a `code`."""

import hmac
import json
import sqlite3
import time
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from signer import wire
from signer.base import UnfitError
from signer.errors import ContradictionError, RefusedError
from signer.signing import BrokenError, Desk, LateError

log = structlog.stdlib.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
SIGNED_WITHIN_S = 30.0
"""After so long nothing new is signed for a request. Whoever asked takes a lost question for answered or void then."""
_BY_STATUS = {HTTPStatus.NOT_FOUND: "not_found", HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed"}


class ProblemError(Exception):
    def __init__(self, status: HTTPStatus, code: str, why: str) -> None:
        super().__init__(why)
        self.status, self.code = status, code

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": str(self),
            "code": self.code,
        }
        return Response(json.dumps(document), int(self.status), headers, media_type=MEDIA_TYPE)


def _problem(error: Exception) -> ProblemError:  # noqa: PLR0911  # a table
    match error:
        case ProblemError():
            return error
        case wire.MalformedError():
            return ProblemError(HTTPStatus.BAD_REQUEST, "malformed", str(error))
        case ClientDisconnect():
            return ProblemError(HTTPStatus.BAD_REQUEST, "gone", "whoever asked went away")
        case RefusedError():
            return ProblemError(HTTPStatus.FORBIDDEN, error.code, str(error))
        case ContradictionError():
            return ProblemError(HTTPStatus.CONFLICT, error.code, str(error))
        case UnfitError():
            return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "unfit", str(error))
        case LateError():
            return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "late", str(error))
        case sqlite3.Error():
            return ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the journal can't be written: ask again"
            )
        case _:
            return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "a fault of the signer's: see its log")


class Service:
    """The answers. One for each process."""

    def __init__(self, desk: Desk, *, token: str, body_bytes_max: int) -> None:
        self._desk = desk
        self._token = token.encode()
        self._body_bytes_max = body_bytes_max
        self.registry = CollectorRegistry()
        self._counter = Counter(
            "tallyrail_signer_answers", "Answers to POST /v1/sign", ["chain", "code"], registry=self.registry
        )

    async def sign(self, request: Request) -> Response:
        began, chain, told = time.perf_counter(), "unknown", {}
        until = time.monotonic() + SIGNED_WITHIN_S
        try:
            asked = await self._asked(request)
            order = asked.order
            if order.chain in self._desk.wallets:  # or anybody could make a label of any word
                chain = order.chain
            told = {"reference": order.reference, "number": asked.number, "chain": order.chain, "asset": order.asset}
            told |= {"units": str(order.units), "to": order.to, "cancels": asked.terms.cancels}
            signed, new = await run_in_threadpool(self._desk.sign, *asked, until=until)
        except Exception as error:  # noqa: BLE001  # nothing of an error leaves but what _problem lets out
            problem = _problem(error)
            self._counter.labels(chain, problem.code).inc()
            note = log.warning if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR else log.error
            # Of an unforeseen error only its kind: its words may hold what it was given.
            words = str(error) if isinstance(error, BrokenError | sqlite3.Error) else None
            note("sign.refused", code=problem.code, why=str(problem), kind=type(error).__name__, words=words, **told)
            return problem.response()
        self._counter.labels(chain, "signed" if new else "signed_before").inc()
        ms = round((time.perf_counter() - began) * 1_000, 1)
        log.info("sign.signed", new=new, chain_tx=signed.chain_tx, fee_max=str(signed.fee_max), ms=ms, **told)
        answer = {"reference": order.reference, "number": asked.number, "chain_tx": signed.chain_tx, "raw": signed.raw}
        return JSONResponse(answer)

    async def wallets(self, request: Request) -> Response:
        try:
            self._admit(request)
        except ProblemError as problem:
            return problem.response()
        found = [{"chain": chain, "address": each.address} for chain, each in self._desk.wallets.items()]
        return JSONResponse({"wallets": found})

    async def healthz(self) -> Response:
        try:
            await run_in_threadpool(self._desk.journal.check)
        except sqlite3.Error as error:
            log.warning("health.failed", words=str(error))
            return _problem(error).response()
        return JSONResponse({"status": "ok"})

    async def metrics(self) -> Response:
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    async def _asked(self, request: Request) -> wire.Request:
        self._admit(request)
        asked = wire.parsed(await self._body(request))
        if await request.is_disconnected():  # as after a pause of this whole process
            raise ClientDisconnect
        return asked

    def _admit(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Headers come as Latin-1. Both sides are compared as bytes, in a time that tells nothing of where they differ.
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode("latin-1"), self._token):
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "unauthorized", "the token is missing or wrong")

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._body_bytes_max:
                raise ProblemError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"a body has {self._body_bytes_max} bytes at most"
                )
        return bytes(body)


async def _unrouted(_request: Request, error: Exception) -> Response:
    """What the router refuses."""
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    headers = error.headers if isinstance(error, HTTPException) else None
    return ProblemError(status, _BY_STATUS.get(status, "malformed"), "there is nothing like that here").response(
        headers
    )


def create_app(service: Service) -> FastAPI:
    app = FastAPI(title="Tallyrail signer", openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/v1/sign", service.sign, methods=["POST"])
    app.add_api_route("/v1/wallets", service.wallets, methods=["GET"])
    app.add_api_route("/healthz", service.healthz, methods=["GET"])
    app.add_api_route("/metrics", service.metrics, methods=["GET"])
    app.add_exception_handler(HTTPException, _unrouted)
    return app
