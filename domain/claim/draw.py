"""How a packet is split: a published algorithm, so that anybody with the seed can do it again. docs/packets.md.

`random`: every way of splitting the packet into `count` shares of at least the minimum is equally likely. There are as
many ways as there are sets of `count - 1` cuts among `spare + count - 1` places ("stars and bars"), and Robert Floyd's
algorithm draws such a set with one number for each cut (Bentley and Floyd, "A sample of brilliance", Communications of
the ACM 30(9), 1987). As every order of the same shares is a way of its own, no place is better than another.

The numbers come from HMAC-SHA256 of the seed over `shares:0`, `shares:1`, ...: one stream of bytes. A number below n
takes as many bytes as n - 1 needs, without the surplus bits at the top, and is drawn again if it is not below n.
Integers throughout.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise

from domain.claim.states import Shares

SEED_BYTES = 32


@lru_cache(maxsize=64)
def shares(kind: Shares, seed: bytes, units: int, count: int, units_min: int) -> tuple[int, ...]:
    """Units of each share, by place. Their sum is `units`, and none is below `units_min`.

    `equal` needs no seed: each has units // count, and the first units % count have one more.
    """
    if not (count > 0 and units_min > 0 and units >= count * units_min):
        raise ValueError(f"{units} units can't be split into {count} shares of at least {units_min}")
    if kind is Shares.EQUAL:
        each, more = divmod(units, count)
        return (each + 1,) * more + (each,) * (count - more)
    spare = units - count * units_min
    cuts = [0, *sorted(_cuts(Numbers(seed), spare + count - 1, count - 1)), spare + count]
    return tuple(after - before - 1 + units_min for before, after in pairwise(cuts))


def _cuts(numbers: "Numbers", places: int, wanted: int) -> set[int]:
    """A set of `wanted` of the places 1 to `places`, each set equally likely."""
    chosen: set[int] = set()
    for last in range(places - wanted + 1, places + 1):
        drawn = numbers.below(last) + 1
        chosen.add(last if drawn in chosen else drawn)
    return chosen


class Numbers:
    """Evenly distributed numbers from a seed."""

    def __init__(self, seed: bytes) -> None:
        self._bytes = _stream(seed)

    def below(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        bits = (bound - 1).bit_length()
        size = (bits + 7) // 8
        while True:
            drawn = int.from_bytes(bytes(next(self._bytes) for _ in range(size))) & ((1 << bits) - 1)
            if drawn < bound:
                return drawn


def _stream(seed: bytes) -> Iterator[int]:
    block = 0
    while True:
        yield from hmac.digest(seed, f"shares:{block}".encode(), hashlib.sha256)
        block += 1


def differences(
    *, kind: Shares, seed: bytes, seed_hash: str, units: int, count: int, units_min: int, won: Mapping[int, int]
) -> list[str]:
    """What of a packet that is over is not as its seed says: nothing, if it was fair. `won`: units by place."""
    found = []
    if hashlib.sha256(seed).hexdigest() != seed_hash:
        found.append("the seed is not the one that was committed to")
    drawn = shares(kind, seed, units, count, units_min)
    for place, got in sorted(won.items()):
        if not 1 <= place <= count:
            found.append(f"there is no place {place}")
        elif drawn[place - 1] != got:
            found.append(f"place {place} has {got} units and was drawn with {drawn[place - 1]}")
    return found
