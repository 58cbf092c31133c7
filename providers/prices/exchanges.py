"""Exchanges by ccxt, whose knowledge of addresses and errors is used, and whose way to ask is not.

ccxt's own goes through a client that can't end a request whose bytes drip, and reads numbers as floats. And its unified
calls load every market first, thousands of them. So its raw endpoints are called, and the request is ours.

Importing this module takes two seconds and 80 MB: nothing does that until a price is asked for.
"""

from functools import partial
from typing import Any

import ccxt
import httpx

from core.errors import TransientError
from core.http import HttpClient, RefusedError, Reply


def through(exchange: Any, http: HttpClient) -> Any:
    """The same exchange, asking by this client. Its errors are those of ccxt, and of core.http."""
    exchange.enableRateLimit = False  # it would sleep; we ask once in half a minute
    exchange.fetch = partial(_fetch, exchange, http)
    return exchange


def _fetch(exchange: Any, http: HttpClient, url: str, method: str = "GET", *_: Any) -> Any:
    """Stands for `ccxt.Exchange.fetch`. Prices are only ever read."""
    if method != "GET":
        raise ccxt.NotSupported(f"{exchange.id} {method}")
    address = httpx.URL(url)
    try:
        reply = http.read(address.path, params=address.params)
    except RefusedError as error:
        _judge(exchange, error.reply)
        raise
    _judge(exchange, reply)
    return reply.json()


def _judge(exchange: Any, reply: Reply) -> None:
    """Raises ccxt's error for what the exchange said, where it knows one."""
    body = reply.body.decode(errors="replace")
    said = reply.json() if body.lstrip()[:1] in ("{", "[") else None
    exchange.handle_errors(reply.status, "", reply.place, "GET", reply.headers, body, said, {}, None)


def as_transient(exchange: str, error: ccxt.BaseError) -> TransientError:
    """All that ccxt says of a question about prices. Its words quote the reply, so only the kind is told."""
    return TransientError(f"{exchange} refused the question: {type(error).__name__}")
