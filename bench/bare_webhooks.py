"""`uvicorn bench.bare_webhooks:app`: the least that an HTTP server does which keeps bodies before it answers.

No signature, no digest, no repeats, no job, no limit of a size: one INSERT and one commit a request, over a pool of as
many connections as an API process has.
"""

import os
from typing import Any

from psycopg_pool import AsyncConnectionPool

CONNECTIONS = 10
TABLE = "CREATE TABLE bench_bodies (id bigserial PRIMARY KEY, body bytea NOT NULL)"


class Bare:
    def __init__(self) -> None:
        self._pool: AsyncConnectionPool[Any] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        assert self._pool is not None
        async with self._pool.connection() as connection:
            await connection.execute("INSERT INTO bench_bodies (body) VALUES (%s)", [body])
        answer = b'{"status":"success"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        url = os.environ["DATABASE_OWNER_URL"]
        options = {"autocommit": True}
        async with AsyncConnectionPool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=options) as self._pool:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


app = Bare()
