"""`Prefer: wait=10` (RFC 7240): a caller who would rather wait a little for what follows than ask again."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from fastapi.responses import Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.responses import JSON

WAIT_MAX = 15
"""Seconds that a request may wait."""
WAITERS_MAX = 200
"""Requests of a process that wait at a time. More are answered at once, which is what a preference allows."""
LOOK_EVERY = 0.2
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,6})"?\s*(?=[,;]|$)', re.IGNORECASE)
_KEPT = ("location", "idempotency-replayed")

T = TypeVar("T")


def wished(prefer: str | None) -> int:
    """Seconds that the caller would wait. What can't be read is no preference (RFC 7240, 2)."""
    wish = _WAIT.search(prefer or "")
    return min(int(wish[1]), WAIT_MAX) if wish else 0


async def preferred(
    response: Response,
    prefer: str | None,
    *,
    read: Callable[[UUID], T],
    is_over: Callable[[T], bool],
    view: Callable[[T], BaseModel],
) -> Response:
    """The response, or if the caller would wait, what it told of as it is when it is over or his time is.

    `read` is run in a thread, with the id that the response's body has.
    """
    seconds = wished(prefer)
    if not seconds:
        return response
    made = UUID(json.loads(bytes(response.body))["id"])
    found = await _until(lambda: read(made), is_over, seconds)
    if found is None:
        return response
    headers = {name: value for name, value in response.headers.items() if name in _KEPT}
    headers["Preference-Applied"] = f"wait={seconds}"
    return Response(view(found).model_dump_json(), response.status_code, headers, media_type=JSON)


_waiters = 0


async def _until(read: Callable[[], T], is_over: Callable[[T], bool], seconds: int) -> T | None:
    """None: too many wait already."""
    global _waiters  # noqa: PLW0603  # of this process
    if _waiters >= WAITERS_MAX:
        return None
    _waiters += 1
    try:
        ends = asyncio.get_running_loop().time() + seconds
        while True:
            found = await run_in_threadpool(read)  # no thread is held between two looks
            if is_over(found) or asyncio.get_running_loop().time() >= ends:
                return found
            await asyncio.sleep(LOOK_EVERY)
    finally:
        _waiters -= 1
