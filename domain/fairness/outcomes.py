"""From seeds to what a game came to: pure, in whole numbers, the same on every machine. For players: docs/fairness.md.

Random bytes. Block 0 is HMAC-SHA256(key = the server seed's text, message = `client_seed:nonce`); block k, for games
that need more than its 32 bytes, has the message `client_seed:nonce:k`. A client seed has no colon, so no two draws
share a message. Public verifiers after Stake's (stake.us/provably-fair/implementation) number block 0 too
(`client_seed:nonce:0`), and differ in nothing else of the bytes.

Numbers. The blocks are read as big-endian 32-bit words. A number below n is word * n >> 32, which is what the usual
"word / 2^32 * n, rounded down" says without floats. Unless n divides 2^32, a few words are one too many for some of the
numbers: they are passed by (D. Lemire, Fast Random Integer Generation in an Interval, 2019), so that each number has
equally many.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

from core.errors import InvalidRequestError, InvariantError

Outcome = dict[str, str | int | list[int]]
Params = dict[str, int]

WORD_BITS = 32
CRASH_BITS = 52
EDGE_BPS = 300
"""The house's share at crash unless a draw says otherwise, in hundredths of a percent."""
POINT_MIN = 100
"""Points are in hundredths: 100 is 1.00, at which a crash comes before anybody could leave."""
ROLLS = 10_001
"""0.00 to 100.00."""
TILES = 25
ROWS_MIN, ROWS_MAX = 8, 16


class Game(StrEnum):
    CRASH = "crash"
    DICE = "dice"
    MINES = "mines"
    PLINKO = "plinko"


_CLIENT_SEED = re.compile(r"[!-9;-~]{1,64}")


def check_client_seed(client_seed: str) -> None:
    """Raises InvalidRequestError (client_seed) for one that draws can't be made with."""
    if not _CLIENT_SEED.fullmatch(client_seed):
        raise InvalidRequestError(
            "a client seed has 1 to 64 printable ASCII characters, no spaces and no colons", field="client_seed"
        )


# --- random bytes ------------------------------------------------------------------------------------------------


def seed_hash(server_seed: str) -> str:
    """What a server seed is committed to by: SHA-256 of its text, as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(server_seed.encode()).hexdigest()


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104, FIPS 180-4): 32 bytes."""
    return hmac.digest(key, message, "sha256")


def blocks(server_seed: str, client_seed: str, nonce: int) -> Iterator[bytes]:
    """The draw's random bytes, 32 at a time, without end."""
    key, message = server_seed.encode(), f"{client_seed}:{nonce}"
    yield mac(key, message.encode())
    cursor = 1
    while True:
        yield mac(key, f"{message}:{cursor}".encode())
        cursor += 1


def words(blocks: Iterable[bytes]) -> Iterator[int]:
    """The blocks as numbers of 32 bits, eight of each."""
    for block in blocks:
        for start in range(0, len(block), WORD_BITS // 8):
            yield int.from_bytes(block[start : start + WORD_BITS // 8])


def below(n: int, words: Iterable[int], *, bits: int = WORD_BITS) -> int:
    """A number from 0 up to and without n, each from exactly floor(2^bits / n) words. 1 <= n <= 2^bits."""
    size = 1 << bits
    for word in words:
        product = word * n
        if product % size >= size % n:
            return product >> bits
    raise InvariantError("a draw's random words came to an end")


# --- games -------------------------------------------------------------------------------------------------------


def crash_point(first: int, edge_bps: int, *, bits: int = CRASH_BITS) -> int:
    """Where the crash comes, in hundredths: (1 - edge) / (1 - first / 2^bits), rounded down, at least 1.00.

    bustabit's formula (bitcointalk.org, topic 2807542), whose edge is 100. For an m above 100 the point is at least m
    hundredths with the chance (1 - edge) * 100 / m, less below 2^-bits: whoever leaves at m gets back 1 - edge of his
    stake on average, never more. At 1.00 itself nobody loses, so a bet that leaves there must not be taken.
    """
    size = 1 << bits
    return max(POINT_MIN, (10_000 - edge_bps) * size // (100 * (size - first)))


def _crash(blocks: Iterator[bytes], params: Params) -> Outcome:
    first = int.from_bytes(next(blocks)[:7]) >> (7 * 8 - CRASH_BITS)
    # As text: there are points above 2^53, which many readers of JSON round.
    return {"point": str(crash_point(first, params["edge_bps"]))}


def _dice(blocks: Iterator[bytes], _params: Params) -> Outcome:
    return {"roll": below(ROLLS, words(blocks))}


def _mines(blocks: Iterator[bytes], params: Params) -> Outcome:
    """A Fisher-Yates draw without replacement: each mine takes one of the tiles that are left, in their order."""
    left, source = list(range(TILES)), words(blocks)
    return {"mines": sorted(left.pop(below(len(left), source)) for _ in range(params["mines"]))}


def _plinko(blocks: Iterator[bytes], params: Params) -> Outcome:
    """One word a row, and of it the first bit: 0 is left, 1 is right. The slot is the number of rights."""
    source = words(blocks)
    path = [below(2, source) for _ in range(params["rows"])]
    return {"path": "".join("LR"[step] for step in path), "slot": sum(path)}


_PLAY: Mapping[Game, Callable[[Iterator[bytes], Params], Outcome]] = {
    Game.CRASH: _crash,
    Game.DICE: _dice,
    Game.MINES: _mines,
    Game.PLINKO: _plinko,
}
_PARAMS: Mapping[Game, Mapping[str, tuple[int, int, int | None]]] = {
    Game.CRASH: {"edge_bps": (0, 9_999, EDGE_BPS)},
    Game.DICE: {},
    Game.MINES: {"mines": (1, TILES - 1, None)},
    Game.PLINKO: {"rows": (ROWS_MIN, ROWS_MAX, None)},
}
"""The least, the most and the default of each; None: must be given."""


def checked(game: Game, params: Mapping[str, int]) -> Params:
    """All parameters of a game, defaults filled in. Raises InvalidRequestError for any that it hasn't or can't have."""
    known = _PARAMS[game]
    if unknown := sorted(set(params) - set(known)):
        has = f"has {', '.join(known)}" if known else "has none"
        raise InvalidRequestError(f"{game} has no parameter {unknown[0][:80]!r}: it {has}", field="params")
    made: Params = {}
    for name, (least, most, default) in known.items():
        value = params.get(name, default)
        if value is None or not least <= value <= most:
            raise InvalidRequestError(f"{game} needs {name}, a whole number from {least} to {most}", field="params")
        made[name] = value
    return made


def play(game: Game, params: Mapping[str, int], blocks: Iterator[bytes]) -> Outcome:
    """What the game comes to with these random bytes. Raises InvalidRequestError for parameters that it can't have."""
    return _PLAY[game](blocks, checked(game, params))


def outcome(server_seed: str, client_seed: str, nonce: int, game: Game, params: Mapping[str, int]) -> Outcome:
    """What the draw with this nonce came to. Raises InvalidRequestError for parameters that the game can't have."""
    return play(game, params, blocks(server_seed, client_seed, nonce))
