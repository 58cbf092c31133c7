"""The demo's last act: a red packet that many open at once, a player who bets, and a Redis that forgets all of it."""

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import redis
from rich.table import Table

from core.ids import new_id
from core.money import display
from local.demo_cases import COIN, DOLLAR, ETHER

GUESTS, SHARES, PACKET = 30, 10, ETHER // 2
FORGETS_AFTER = 5
"""Answers that were given when Redis forgets everything."""
LOAD, BETS = 100 * DOLLAR, ((10 * DOLLAR, 25 * DOLLAR), (20 * DOLLAR, 0), (30 * DOLLAR, None))
"""What the player takes into his hands; stakes and what they pay, None for the one that is taken back."""
SCOPES = ("packets:write", "packets:read", "claims:write", "bets:write", "bets:read", "accounts:read")
WAIT = 30.0
Units = dict[tuple[str, str], int]


class ActError(Exception):
    """Something that should have come true did not."""


class Guests:
    """People behind one app. Who gets no answer asks again, with the same words."""

    def __init__(self, url: str, key: str) -> None:
        limits = httpx.Limits(max_connections=GUESTS)
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20, limits=limits, trust_env=False
        )

    def post(self, path: str, body: object, **headers: str) -> dict[str, Any]:
        headers["Idempotency-Key"] = str(new_id())
        return self._insist(path, lambda: self._http.post(path, json=body, headers=headers))

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._insist(path, lambda: self._http.get(path, params=query))

    @staticmethod
    def _insist(path: str, ask: Callable[[], httpx.Response]) -> dict[str, Any]:
        ends = time.monotonic() + WAIT
        while True:
            reply = ask()
            if reply.is_success:
                found: dict[str, Any] = reply.json()
                return found
            if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > ends:
                raise ActError(f"{path} answered {reply.status_code}: {reply.text[:300]}")
            time.sleep(0.05)

    def until(self, path: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What is read there once it is true: the books follow the answers."""
        ends = time.monotonic() + WAIT
        while not true(found := self.get(path)):
            if time.monotonic() > ends:
                raise ActError(f"GET {path}: not within {WAIT:.0f} s; it says {found}")
            time.sleep(0.05)
        return found

    def balance(self, account: str, asset: str) -> int:
        rows = self.get(f"/v1/accounts/{account}")["balances"]
        return {row["asset"]: int(row["balance"]) for row in rows}.get(asset, 0)

    def close(self) -> None:
        self._http.close()


@dataclass
class Act:
    guests: Guests
    redis_url: str
    token: str
    """The asset that is played with."""
    say: Callable[[str], None]
    show: Callable[[Table], None]

    def play(self) -> Units:
        """Raises ActError. Returns what it has moved, by account and asset, for the reckoning."""
        moved = self._packet()
        return moved | self._bets()

    # --- the packet

    def _packet(self) -> Units:
        self.say(f"[bold]alice puts {_ether(PACKET)} into a red packet of {SHARES} shares; {GUESTS} people open it[/]")
        expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        packet = self.guests.post(
            "/v1/packets",
            {"sender": "user:alice:available", "asset": COIN, "units": str(PACKET), "count": SHARES,
             "shares": "random", "expires_at": expires},
        )  # fmt: skip
        path = f"/v1/packets/{packet['id']}"
        won = self._rush(path)
        expect("places", sorted(each["place"] for each in won.values()), list(range(1, SHARES + 1)))
        expect("the sum of the shares", sum(int(each["units"]) for each in won.values()), PACKET)
        closed = self.guests.until(path, lambda found: found["state"] == "closed")
        seed = hashlib.sha256(bytes.fromhex(closed["seed"])).hexdigest()
        expect("the hash of the seed, told before the first claim", packet["seed_hash"], seed)
        ranking = self.guests.get(f"{path}/ranking")["ranking"]
        told = {(user, each["place"], each["units"]) for user, each in won.items()}
        expect("the ranking", {(row["user"], row["place"], row["units"]) for row in ranking}, told)
        for user, each in won.items():
            expect(f"{user}'s balance", self.guests.balance(_available(user), COIN), int(each["units"]))
        self.show(_ranking(ranking))
        given = {(_available(user), COIN): int(each["units"]) for user, each in won.items()}
        return {(_available("alice"), COIN): -PACKET, (f"packet:{packet['id']}", COIN): 0} | given

    def _rush(self, path: str) -> dict[str, dict[str, Any]]:
        """Everybody at once, and Redis is emptied when the first few have their answer. The winners' answers."""

        def claim(number: int) -> dict[str, Any]:
            time.sleep(random.random() * 0.3)  # so that there is a middle
            return self.guests.post(f"{path}/claims", {"user": f"guest-{number}"})

        answers: dict[str, dict[str, Any]] = {}
        with ThreadPoolExecutor(GUESTS) as pool:
            asked: list[Future[dict[str, Any]]] = [pool.submit(claim, number) for number in range(1, GUESTS + 1)]
            for done in as_completed(asked):
                answers[done.result()["user"]] = done.result()
                if len(answers) == FORGETS_AFTER:
                    client = redis.Redis.from_url(self.redis_url)
                    client.flushall()
                    client.close()
                    self.say(
                        f"[red]FLUSHALL[/] after {FORGETS_AFTER} answers: Redis, which decides, knows nothing more"
                    )
        results = Counter(each["result"] for each in answers.values())
        # Whose first answer was lost with Redis asks again, and is told that the share is his already.
        expect("shares that were won", results["won"] + results["already_claimed"], SHARES)
        expect("who came too late", results["empty"], GUESTS - SHARES)
        return {user: each for user, each in answers.items() if each["result"] != "empty"}

    # --- the player

    def _bets(self) -> Units:
        self.say("[bold]bob plays: his stakes are decided in Redis, and PostgreSQL follows[/]")
        load = self.guests.post("/v1/players/bob/loads", {"asset": self.token, "units": str(LOAD)})
        self.guests.until(f"/v1/players/bob/loads/{load['id']}", lambda found: found["state"] == "loaded")
        steps = [("takes money into his hands", LOAD, LOAD)]
        free = LOAD
        whose = {"user": "bob", "asset": self.token}
        for stake, payout in BETS:
            bet = {"id": str(new_id()), **whose, "stake": str(stake), "game": "crash"}
            reserved = self.guests.post("/v1/bets", bet)
            expect("what bob has locked", reserved["locked"], str(stake))
            if payout is None:
                ended = self.guests.post(f"/v1/bets/{bet['id']}/void", whose)
            else:
                ended = self.guests.post(f"/v1/bets/{bet['id']}/settle", {**whose, "payout": str(payout)})
            free += 0 if payout is None else payout - stake
            expect("what bob has free", ended["free"], str(free))
            what = "the game is called off" if payout is None else "wins" if payout else "loses"
            steps.append((f"stakes {_dollars(stake)}: {what}", 0 if payout is None else payout - stake, free))
        unload = self.guests.post("/v1/players/bob/unloads", {"asset": self.token})
        back = self.guests.until(f"/v1/players/bob/unloads/{unload['id']}", lambda found: found["state"] == "unloaded")
        expect("what bob takes back", back["moved"], str(free))
        player = self.guests.get("/v1/players/bob", asset=self.token)
        expect("what is left in bob's hands", (player["free"], player["locked"]), ("0", "0"))
        steps.append(("takes it all back", -free, 0))
        self.show(_steps(steps))
        left = {(f"user:bob:{each}", self.token): 0 for each in ("playing", "staked")}
        return left | {(_available("bob"), self.token): free - LOAD, ("house:bets", self.token): LOAD - free}


def _available(user: str) -> str:
    return f"user:{user}:available"


def _ether(units: int) -> str:
    return f"{display(units, 18)} ETH"


def _dollars(units: int) -> str:
    return f"{display(units, 6)} USDX"


def _ranking(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Red packet", title_justify="left")
    table.add_column("place", justify="right")
    table.add_column("who")
    table.add_column("share, and his balance", justify="right")
    for row in rows[:3]:
        table.add_row(str(row["place"]), row["user"], _ether(int(row["units"])))
    rest = sum(int(row["units"]) for row in rows[3:])
    table.add_row("", f"{len(rows) - 3} others", _ether(rest), end_section=True)
    table.add_row("", f"{len(rows)} winners", _ether(sum(int(row["units"]) for row in rows)))
    return table


def _steps(steps: list[tuple[str, int, int]]) -> Table:
    table = Table(title="Player", title_justify="left")
    table.add_column("bob")
    for header in ("change", "free"):
        table.add_column(header, justify="right")
    for what, change, free in steps:
        colour = "green" if change > 0 else "red" if change < 0 else "cyan"
        table.add_row(what, f"[{colour}]{'+' if change > 0 else ''}{_dollars(change)}[/]", _dollars(free))
    return table


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ActError(f"{what}: expected {expected!r}, the API says {found!r}")
