"""JSON bodies, read strictly: whole numbers stay exact, however long; NaN, broken text and deep nests are refused."""

from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from api.problems import Problem

_TYPE = "application/json"
_CHARSETS = frozenset({"", "utf-8", "utf8"})


def need_json(content_type: str) -> None:
    """Raises Problem (415) for any other type of a body."""
    kind, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != _TYPE or charset not in _CHARSETS:
        raise Problem("unsupported-media-type", "send Content-Type: application/json, in UTF-8")


async def _json_bytes(request: Request) -> bytes:
    need_json(request.headers.get("content-type", ""))
    try:
        return await request.body()
    except ClientDisconnect:
        raise Problem("bad-request", "the body ended early") from None


async def _json_bytes_if_any(request: Request) -> bytes:
    try:
        empty = not await request.body()
    except ClientDisconnect:
        raise Problem("bad-request", "the body ended early") from None
    return b"{}" if empty else await _json_bytes(request)


JsonBytes = Annotated[bytes, Depends(_json_bytes)]
"""The body as it came. Parsed in the endpoint's thread: a large one must not hold up the other requests."""
OptionalJsonBytes = Annotated[bytes, Depends(_json_bytes_if_any)]
"""Where every field may be left out: no body is an empty object."""


def parsed(body: bytes) -> Any:
    """The body's content. Raises Problem (400) if it isn't JSON by RFC 8259."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Problem("bad-request", f"the body is not JSON: {error}") from None


def parsed_object(body: bytes) -> dict[str, Any]:
    content = parsed(body)
    if not isinstance(content, dict):
        raise Problem("bad-request", "the body must be a JSON object")
    return content
