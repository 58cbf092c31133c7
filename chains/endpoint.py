"""One node behind one URL, whatever the chain. The URL may hold a key, and appears in no message, log or traceback."""

import re
from urllib.parse import urlsplit

from chains.pace import Pace
from config.assets import Node

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
"""Between two reads of one answer."""
ANSWER_TIMEOUT_S = 60.0
"""For the whole of one answer, however it drips in."""
ANSWER_BYTES_MAX = 128 * 1024 * 1024

SECRET_MIN = 6
"""Characters from which a part of a URL may be a key, and is struck out of a node's error texts."""


class Endpoint:
    """What the pool of nodes (`chains.nodes`) knows of each. Adapters add how it is asked."""

    def __init__(self, node: Node) -> None:
        parts = urlsplit(node.url)
        self.node = node
        self.host = parts.hostname or "endpoint without a host"
        self.label = self.host
        """Set by the pool: with a number where several endpoints have the same host."""
        # Vendors echo keys in their error texts ("project ID ... is over its limit").
        words = [
            *re.split(r"[/?&=]", f"{parts.path}?{parts.query}"),
            parts.username or "",
            parts.password or "",
            *node.headers.values(),
        ]
        self.pace = Pace(node, node.rate, host=self.host) if node.rate else None
        self._secrets = sorted({word for word in words if len(word) >= SECRET_MIN}, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label})"

    def admit(self) -> None:
        """To be called by the transport before each request. Raises LimitedError for one more than the node takes."""
        if self.pace is not None:
            self.pace.admit()

    def struck(self, text: str) -> str:
        """The text without what may be a key."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
