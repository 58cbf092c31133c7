"""kombu's Redis transport, made to survive what is not a message.

kombu decodes what it pops from a list before it knows it to be a message, so that one stray string ends the whole
worker (seen with kombu 5.7). Here it becomes a dead letter, and the worker reads on.
"""

from queue import Empty
from typing import Any

from kombu.transport import redis
from kombu.transport.virtual import base

from workers.unreadable import keep


class NotAMessageError(Exception):
    """It has been kept, and there is nothing to deliver."""


class Message(base.Message):
    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        """Raises NotAMessageError."""
        try:
            super().__init__(payload, channel=channel, **options)
            if not isinstance(self.delivery_info, dict) or not isinstance(self.headers, dict):
                raise TypeError("its delivery_info and headers must be objects")  # noqa: TRY301
        except Exception as error:  # nothing is asked of the outside here: whatever fails, fails on what it holds
            keep("unreadable", repr(payload), error)
            raise NotAMessageError from error


class Channel(redis.Channel):
    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        transport: Any = self.connection
        transport.delivering = False
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # missing in its stubs
        except (ValueError, RecursionError) as error:  # what json and kombu's object hooks raise
            if transport.delivering:
                raise  # not the string's fault: a fault of who was given the message
            keep("unreadable", getattr(error, "doc", ""), error)
            raise Empty from error


class Transport(redis.Transport):
    Channel = Channel
    delivering = False
    """Whether the string just popped was decoded, and is with its consumer."""

    def _deliver(self, message: Any, queue: str | None) -> None:
        self.delivering = True
        try:
            super()._deliver(message, queue)
        except NotAMessageError:
            return
