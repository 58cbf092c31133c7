"""People who claim and play over HTTP, and who ask again until they are answered. What they were told is kept."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

from core.ids import new_id
from tests.support.fleet import wait_until

HOST = "127.0.0.1"
ASSET = "iso4217:EUR"
SENDER = "user:sender:available"
LOST, OK, CREATED, ACCEPTED, CONFLICT, UNAVAILABLE = 0, 200, 201, 202, 409, 503
ANSWER_WITHIN = 10.0
LATER = 45.0
"""Seconds that somebody asks again and again before it is held against us."""
GIVES_UP = 0.05
"""How many go away when their first try was not answered."""


class Line:
    """A connection that is kept, and made again when it is lost. HTTP/1.1, as much as our answers need."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = f"Host: {HOST}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port)
        return self._streams

    async def post(self, path: str, body: object, *, idempotency_key: str = "") -> tuple[int, dict[str, Any]]:
        """Status and document. LOST: no answer came, it may be done or not."""
        content = json.dumps(body).encode()
        named = f"Idempotency-Key: {idempotency_key}\r\n" if idempotency_key else ""
        head = f"POST {path} HTTP/1.1\r\n{self._head}{named}Content-Length: {len(content)}\r\n\r\n"
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                reader, writer = await self.connect()
                writer.write(head.encode() + content)
                first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                [length] = [each.partition(":")[2] for each in headers if each.startswith("content-length:")]
                return int(first.split()[1]), json.loads(await reader.readexactly(int(length)))
        except (OSError, EOFError, TimeoutError):
            self.close()
            return LOST, {}

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Bet:
    """What was asked for, and what was answered: None while nothing was."""

    user: str
    stake: int
    reserved: dict[str, Any] | None = None
    refused: bool = False
    asked_end: bool = False
    payout: int | None = None
    """None: to be voided."""
    ended: dict[str, Any] | None = None


@dataclass
class Told:
    """By the ids that people know."""

    packets: dict[str, int] = field(default_factory=dict)
    """Units of those that were answered to be made."""
    shares: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(packet, user) -> place and units."""
    given_up: set[tuple[str, str]] = field(default_factory=set)
    bets: dict[str, Bet] = field(default_factory=dict)
    loads: dict[str, int] = field(default_factory=dict)
    """By user."""
    counts: Counter[str] = field(default_factory=Counter)
    """How many answers of each kind."""

    def won(self, packet: str, said: dict[str, Any]) -> None:
        """The first answer counts for ever: whatever comes later must be the same."""
        share = (said["place"], int(said["units"]))
        assert self.shares.setdefault((packet, said["user"]), share) == share


class Load:
    """People at work in a thread of its own, from `start` until `finish`, which raises what went wrong for them."""

    def __init__(self, port: int, key: str, told: Told, chance: random.Random) -> None:
        self._port, self._key, self._told, self._chance = port, key, told, chance
        self._open: list[str] = []
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping = True
        self._thread.join(2 * LATER)
        assert not self._thread.is_alive()
        if self._error is not None and kind is None:
            raise self._error

    def await_more(self, more: int) -> None:
        """Claims and bets are answered (again)."""
        wanted = {what: self._told.counts[what] + more for what in ("won", "reserved")}

        def are_there() -> bool:
            if self._error is not None:
                raise self._error
            return all(self._told.counts[what] >= wanted[what] for what in wanted)

        wait_until(are_there, timeout=LATER)

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for us
            self._error = error

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for work in (self._deal, *[self._claim] * 6, *[self._play] * 6):
                group.create_task(self._again_and_again(work))

    async def _again_and_again(self, work: Any) -> None:
        line = Line(self._port, self._key)
        try:
            while not self._stopping:
                await work(line)
                await asyncio.sleep(self._chance.random() * 0.03)
        finally:
            line.close()

    async def _insist(
        self, line: Line, path: str, body: object, *, idempotency_key: str = "", patient: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """The answer. LOST: whoever asked went away without one."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + LATER
        gives_up = not patient and self._chance.random() < GIVES_UP
        while loop.time() < ends:
            status, said = await line.post(path, body, idempotency_key=idempotency_key)
            if status not in (LOST, UNAVAILABLE) and not is_problem(said, "request-in-progress"):
                return status, said
            self._told.counts["not answered"] += 1
            if gives_up:
                return LOST, {}
            await asyncio.sleep(0.03)
        raise AssertionError(f"{path} was not answered for {LATER} s: {body}")

    # --- packets

    async def _deal(self, line: Line) -> None:
        count = self._chance.randint(3, 25)
        units = count * self._chance.randint(2, 1_000)
        packet = await deal(partial(self._insist, line, patient=True), units, count)
        self._told.packets[packet] = units
        self._open.append(packet)
        if self._chance.random() < 0.2:
            old = self._chance.choice(self._open)
            status, said = await self._insist(line, f"/v1/packets/{old}/cancel", {}, patient=True)
            assert status == ACCEPTED or is_problem(said, "conflict"), (status, said)
        await asyncio.sleep(0.1)

    async def _claim(self, line: Line) -> None:
        if not self._open:
            return
        packet, user = self._chance.choice(self._open[-4:]), f"claimer-{self._chance.randrange(40)}"
        status, said = await self._insist(line, f"/v1/packets/{packet}/claims", {"user": user})
        if status == LOST:
            self._told.given_up.add((packet, user))
            return
        assert status == OK, (status, said)
        result = said["result"]
        self._told.counts[result] += 1
        if result in ("won", "already_claimed"):
            self._told.won(packet, said)
        else:
            assert result in ("empty", "cancelled"), said
            assert (packet, user) not in self._told.shares

    # --- bets

    async def _play(self, line: Line) -> None:
        bet = Bet(self._chance.choice(list(self._told.loads)), self._chance.randint(1, 60))
        name, whose = str(new_id()), {"user": bet.user, "asset": ASSET}
        self._told.bets[name] = bet
        asked = {"id": name, **whose, "stake": str(bet.stake), "game": "crash", "edge_bps": 100}
        status, said = await self._insist(line, "/v1/bets", asked)
        if status == LOST:
            return
        if is_problem(said, "insufficient-funds"):
            bet.refused = True
            self._told.counts["refused"] += 1
            return
        assert (status, said.get("result")) == (OK, "reserved"), (status, said)
        bet.reserved = said
        self._told.counts["reserved"] += 1
        if self._chance.random() < 0.1:
            return  # it stays open
        bet.asked_end, bet.payout = True, self._chance.choice([None, 0, bet.stake, bet.stake * 2])
        step, payout = ("void", {}) if bet.payout is None else ("settle", {"payout": str(bet.payout)})
        status, said = await self._insist(line, f"/v1/bets/{name}/{step}", whose | payout)
        if status != LOST:
            assert (status, said.get("result")) == (OK, "voided" if bet.payout is None else "settled"), (status, said)
            bet.ended = said
            self._told.counts["ended"] += 1


def is_problem(said: dict[str, Any], kind: str) -> bool:
    return bool(said.get("type") == f"/problems/{kind}")


async def deal(post: Any, units: int, count: int) -> str:
    """The id of a packet that can be claimed."""
    asked = {
        "sender": SENDER, "asset": ASSET, "units": str(units), "count": count, "shares": "random",
        "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    status, said = await post("/v1/packets", asked, idempotency_key=str(new_id()))
    assert (status, said.get("state")) == (CREATED, "open"), (status, said)
    return str(said["id"])


async def rush(port: int, key: str, packet: str, users: Sequence[str]) -> list[dict[str, Any]]:
    """Everybody claims on one packet in the same moment, each over a connection of his own. Their answers, in order."""
    lines = [Line(port, key) for _ in users]
    for line in lines:
        await line.connect()

    async def claim(line: Line, user: str) -> dict[str, Any]:
        ends = asyncio.get_running_loop().time() + LATER
        while True:
            status, said = await line.post(f"/v1/packets/{packet}/claims", {"user": user})
            if status == OK:
                return said
            assert status in (LOST, UNAVAILABLE) and asyncio.get_running_loop().time() < ends, (status, said)
            await asyncio.sleep(0.1)

    try:
        return await asyncio.gather(*map(claim, lines, users))
    finally:
        for line in lines:
            line.close()
