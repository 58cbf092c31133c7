"""Credentials that a gateway doesn't take. Retries don't mend that and a person does, so somebody must hear of it."""

from collections.abc import Callable
from functools import partial

import structlog

from core.http import Reply

log = structlog.stdlib.get_logger(__name__)

Listener = Callable[[str], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Have it told the gateway's name whenever one refuses our credentials. Once is enough for a process."""
    if listener not in _listeners:
        _listeners.append(listener)


def refused(gateway: str, reply: Reply) -> None:
    """Raises nothing: what the caller learns of its money is not changed by who else hears of it."""
    log.error("fiat.credentials_refused", gateway=gateway, status=reply.status, place=reply.place)
    for listener in _listeners:
        try:
            listener(gateway)
        except Exception:
            log.exception("fiat.credentials_refused_untold", gateway=gateway)


def teller(gateway: str) -> Callable[[Reply], None]:
    """For an HttpClient of this gateway."""
    return partial(refused, gateway)
