"""kombu's Redis transport, made to survive what is not a message.

kombu decodes what it pops from a list before it knows it to be a message, so that one stray string ends the whole
worker (seen with kombu 5.7). Here it becomes a dead letter, and the worker reads on.
"""

import json
from queue import Empty
from typing import Any

from kombu.transport import redis

from workers.unreadable import keep


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # missing in its stubs
        except json.JSONDecodeError as error:
            keep("unreadable", error.doc, error)
            raise Empty from error


class Transport(redis.Transport):
    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        if not _is_message(message):
            keep("unreadable", json.dumps(message), ValueError("JSON, but not a message"))
            return
        super()._deliver(message, queue)


def _is_message(found: Any) -> bool:
    """Whether it has the parts that kombu's virtual transports take for granted."""
    return (
        isinstance(found, dict)
        and "body" in found
        and isinstance(found.get("headers"), dict)
        and isinstance(found.get("properties"), dict)
        and {"delivery_info", "delivery_tag"} <= found["properties"].keys()
    )
