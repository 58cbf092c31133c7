"""Lua scripts that decide. One call decides many items: what is in flight at one moment goes out together.

A slice writes the body of one decision as a function `decide(K, A)`: the item's keys are `KEYS[K + 1]` and so on, its
arguments `ARGV[A + 1]`; `now_ms` is Redis' clock. It returns the answer (a string without line breaks) and, if it
changed anything, the event that says so. What surrounds it is written here: the sequence, the stream, the fence.

The generation stands in the text of the script, and so in its SHA-1: Redis keeps no script over a restart, and nobody
but a turn (core.hot.turn) loads any, so a restarted server or a promoted replica answers NOSCRIPT to every decider.
https://valkey.io/topics/eval-intro/#script-cache
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from core.errors import InvariantError

ITEMS_MAX = 500
"""To a call: some milliseconds, in which Redis does nothing else."""
COLD = "COLD"
"""What a script's error begins with if the sequence of its shard is missing: this generation is over."""

_PRELUDE = """\
#!lua
-- tallyrail {name}, generation {generation}
local NKEYS, NARGS = {keys}, {args}
local seq = tonumber(redis.call('GET', KEYS[1]))
if not seq then return redis.error_reply('COLD the sequence is missing') end
local began = seq
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""
_EPILOGUE = """
local replies = {}
for item = 0, (#KEYS - 2) / NKEYS - 1 do
  local ok, answer, event = pcall(decide, 2 + item * NKEYS, item * NARGS)
  if not ok then
    -- A mistake of ours. It must not take the sequence from the items beside it.
    replies[#replies + 1] = {err = 'BROKEN ' .. tostring(type(answer) == 'table' and answer.err or answer)}
  elseif event then
    seq = seq + 1
    redis.call('XADD', KEYS[2], string.format('%d-0', seq), 'e', event)
    replies[#replies + 1] = string.format('%d\\n', seq) .. event .. '\\n' .. answer
  else
    replies[#replies + 1] = '\\n\\n' .. answer
  end
end
if seq > began then redis.call('SET', KEYS[1], string.format('%d', seq)) end
return replies
"""


@dataclass(frozen=True)
class Script:
    """`keys` and `args`: how many of each an item has. Every item has at least one key."""

    name: str
    body: str
    keys: int
    args: int

    def text(self, generation: int) -> str:
        head = _PRELUDE.format(name=self.name, generation=generation, keys=self.keys, args=self.args)
        return head + self.body + _EPILOGUE

    def sha(self, generation: int) -> str:
        return hashlib.sha1(self.text(generation).encode(), usedforsecurity=False).hexdigest()


class Item(NamedTuple):
    """One decision that is asked for. `keys` are names within the shard, without its prefix."""

    shard: int
    keys: tuple[str, ...]
    args: tuple[str, ...]


class Reply(NamedTuple):
    answer: str
    seq: int | None
    """None: nothing changed."""
    event: str | None


def parse_reply(raw: bytes | str | Exception) -> Reply:
    """Raises InvariantError if the body of the script failed: what it had changed by then, no event tells."""
    if isinstance(raw, Exception):
        raise InvariantError(f"a script of the hot store failed: {raw}") from raw
    text = raw.decode() if isinstance(raw, bytes) else raw
    seq, event, answer = text.split("\n", 2)
    return Reply(answer, int(seq) if seq else None, event or None)


def lua(path: Path) -> str:
    """The body that stands beside a slice's code."""
    return path.read_text(encoding="utf-8")
