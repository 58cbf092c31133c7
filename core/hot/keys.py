"""Shards and the names of their keys: `tr:{h3}:17:packet:...` is of shard 3 in generation 17.

The part in braces is Redis Cluster's hash tag: all keys of a shard lie in one slot, so one script may touch them all.
"""

import hashlib
import re

from core.hot.settings import hot as settings

SEQUENCE = "seq"
STREAM = "events"


def shard_of(*names: str) -> int:
    """Where what these names identify is decided. The same for ever, as long as HOT_SHARDS is."""
    digest = hashlib.blake2b("\n".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % settings().shards


def key(generation: int, shard: int, name: str) -> str:
    return f"tr:{{h{shard}}}:{generation}:{name}"


def parts_of(name: str) -> tuple[int, int]:
    """Shard and generation of a key of ours; zeros if it is none."""
    found = _KEY.match(name)
    return (int(found[1]), int(found[2])) if found else (0, 0)


_KEY = re.compile(r"tr:\{h(\d+)\}:(\d+):")
