"""One node behind one URL, whatever the chain. The URL may hold a key, and appears in no message, log or traceback."""

import re
from base64 import b64encode
from urllib.parse import unquote, urlsplit

from chains.pace import Pace
from config.assets import Node

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
"""Between two reads of one answer."""
ANSWER_TIMEOUT_S = 60.0
"""For the whole of one request, headers and body, however they drip in."""
ANSWER_BYTES_MAX = 128 * 1024 * 1024

SECRET_MIN = 6
"""Characters from which a part of a URL may be a key, and is struck out of a node's error texts."""
_BETWEEN = re.compile(r"[/?&=:;,\s]+")


class Endpoint:
    """What the pool of nodes (`chains.nodes`) knows of each. Adapters add how it is asked."""

    def __init__(self, node: Node) -> None:
        parts = urlsplit(node.url)
        self.node = node
        self.host = (parts.hostname or "").rstrip(".") or "endpoint without a host"
        self.label = self.host
        """Set by the pool: with a number where several endpoints have the same host."""
        self.pace = Pace(node, node.rate, host=self.host) if node.rate else None
        self._keys = _keys(node)
        self._secrets = re.compile("|".join(map(re.escape, self._keys)) or "(?!)", re.IGNORECASE)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label})"

    def admit(self) -> None:
        """To be called by the transport before each request. Raises LimitedError for one more than the node takes."""
        if self.pace is not None:
            self.pace.admit()

    def struck(self, text: str) -> str:
        """The text without what may be a key."""
        return self._secrets.sub("***", text)

    def struck_cut(self, text: str) -> str:
        """As `struck`, of a text that quotes what was cut off somewhere, perhaps within a key."""
        text = self.struck(text)
        for key in self._keys:
            length = max((n for n in range(SECRET_MIN, len(key)) if key[:n].lower() in text.lower()), default=0)
            if length:
                text = re.sub(re.escape(key[:length]), "***", text, flags=re.IGNORECASE)
        return text


def _keys(node: Node) -> list[str]:
    """Vendors echo keys in their error texts ("project ID ... is over its limit"), and not always as we spell them."""
    parts = urlsplit(node.url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    basic = b64encode(f"{user}:{password}".encode()).decode().rstrip("=") if user or password else ""
    texts = [parts.path, parts.query, parts.username or "", parts.password or "", basic, *node.headers.values()]
    words = set()
    for text in texts:
        for spelled in (text, unquote(text)):
            words |= {spelled, *_BETWEEN.split(spelled)}
    return sorted((word for word in words if len(word) >= SECRET_MIN), key=len, reverse=True)
