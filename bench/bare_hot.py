"""`uvicorn bench.bare_hot:app`: the least that an HTTP server does which has claims and bets decided.

It parses the body and calls the script once for each request: no key, no limit, no check of what it was sent, no
batches, and nothing remembered. The body names the script's keys and arguments, ready for use. The client is that of
redis-py, which everybody would take; `bare_hot:wired` has ours (core.hot.wire) in its place, to part what the client
saves from what else is done.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_core import from_json
from redis import asyncio as aio

from core.hot.wire import Door, Wire, pack

Call = Callable[[list[str]], Awaitable[str]]


class Bare:
    def __init__(self, connect: Callable[[], Awaitable[Call]]) -> None:
        self._connect = connect
        self._call: Call | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self._call = await self._connect()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        assert self._call is not None
        told = await self._call(from_json(body)["words"])
        answer = b'{"result":"' + told.rpartition("\n")[2].encode() + b'"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def _redis() -> Call:
    store = aio.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)

    async def call(words: list[str]) -> str:
        _, sha, keys, *rest = words
        told = await store.evalsha(sha, int(keys), *rest)
        return str(told[0])

    return call


async def _wire() -> Call:
    wire: Wire = await Door(os.environ["REDIS_URL"]).enter()

    async def call(words: list[str]) -> str:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        wire.send(pack(words), 1, answered.set_result)
        [[told]] = await answered
        return str(told)

    return call


app = Bare(_redis)
wired = Bare(_wire)
