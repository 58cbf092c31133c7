"""kombu's Redis transport, made to survive what is not a message.

kombu decodes what it pops from a list before it knows it to be a message, so that one stray string ends the whole
worker (seen with kombu 5.7). Here it becomes a dead letter, and the worker reads on.
"""

from queue import Empty
from typing import Any

from kombu.transport import redis

from workers.unreadable import keep


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # missing in its stubs
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            keep("unreadable", getattr(error, "doc", ""), error)
            raise Empty from error


class Transport(redis.Transport):
    Channel = Channel
