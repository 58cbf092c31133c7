"""`make demo`: real deposits and a payout on a real node, from the HTTP request to the books, while things are killed.

Starts the whole stack in a folder of its own, acts as the upstream app (over HTTP only) and as its payers (on the
chain, and at a double of Stripe), and reads every figure it expects back over the API. Exit status 0 only if each is
there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis
from rich.console import Console
from rich.live import Live
from rich.table import Table

from local.anvil import Anvil
from local.demo_cases import CHAIN, COIN, Case, Cast, cases, reorged_case
from local.demo_fiat import SCOPES as FIAT_SCOPES
from local.demo_fiat import CardAct, Stripe
from local.demo_packets import SCOPES, Act, ActError, Guests, Units
from local.demo_payout import SCOPES as PAYOUT_SCOPES
from local.demo_payout import PayoutAct, Signer
from local.devchain import DevChain
from local.process import StartError
from local.processes import ROOT
from local.stack import Stack

TENANT = "demo"
DEPTH = 3
"""Confirmations on the demo's chain."""
WAIT = 60.0
"""Seconds until a step that should take a few is given up."""

CHAINS = """\
[chains."{chain}"]
name = "Development chain"
namespace = "eip155"
confirmations = {depth}
reorg_depth = 12
block_time_ms = 1000
head_age_max_s = 0

[assets."{coin}"]
symbol = "ETH"
scale = 18

[assets."{token}"]
symbol = "USDX"
scale = 6
"""


class DemoError(Exception):
    """Something that should have come true did not."""


class Upstream:
    """The app: it knows an address, a key and HTTP, and nothing else of us."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10)

    def get(self, path: str) -> dict[str, Any]:
        reply = self._http.get(path)
        if reply.status_code != httpx.codes.OK:
            raise DemoError(f"GET {path} answered {reply.status_code}: {reply.text[:300]}")
        found: dict[str, Any] = reply.json()
        return found

    def deposit(self, request: dict[str, Any], *, key: str) -> dict[str, Any]:
        """Ask twice with one key, as an app does whose first answer was lost; both answers must be the same."""
        replies = [self._http.post("/v1/deposits", json=request, headers={"Idempotency-Key": key}) for _ in range(2)]
        for reply in replies:
            if reply.status_code != httpx.codes.ACCEPTED:
                raise DemoError(f"POST /v1/deposits answered {reply.status_code}: {reply.text[:300]}")
        if replies[0].json() != replies[1].json():
            raise DemoError("the same request under the same key had two answers")
        found: dict[str, Any] = replies[0].json()
        return found

    def balances(self, account: str) -> dict[str, int]:
        return {row["asset"]: int(row["balance"]) for row in self.get(f"/v1/accounts/{account}")["balances"]}

    def close(self) -> None:
        self._http.close()


class Demo:
    def __init__(self, stack: Stack, chain: DevChain, cast: Cast, console: Console) -> None:
        self.stack = stack
        self.chain = chain
        self.cast = cast
        self.console = console
        self.upstream = Upstream(stack.api_url, self._prepare())
        self.deposits: dict[str, dict[str, Any]] = {}
        """What the API last said of each case's deposit."""
        self._live: Live | None = None
        self._said: dict[str, str] = {}

    # --- the operator's part

    def _prepare(self) -> str:
        """Make the tenant, its addresses and its key by the operators' own command."""
        self._tallyrail("tenants", "create", TENANT, "--name", "The demo's shop")
        self._tallyrail("addresses", "add", TENANT, CHAIN, self.cast.shop, "--shared")
        self._tallyrail("addresses", "add", TENANT, CHAIN, *self.cast.pool, "--pool")
        return self._tallyrail("keys", "create", TENANT).strip()

    def _tallyrail(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env={**self.stack.env, "COLUMNS": str(self.console.width)},
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise DemoError(f"tallyrail {' '.join(arguments[:2])} failed: {said}")
        return done.stdout

    # --- watching

    def ask(self, case: Case) -> None:
        request = case.request(self.cast)
        self.deposits[case.name] = self.upstream.deposit(request, key=f"demo-{case.name}")
        self._show()

    def refresh(self) -> None:
        for name, known in self.deposits.items():
            self.deposits[name] = self.upstream.get(f"/v1/deposits/{known['id']}")
        self._show()

    def wait(self, what: str, true: Callable[[], bool], *, mine: bool = False) -> None:
        """Refresh until it is true, mining a block with each look if asked to."""
        ends = time.monotonic() + WAIT
        while True:
            self.refresh()
            if true():
                return
            if time.monotonic() > ends:
                raise DemoError(f"{what}: not within {WAIT:.0f} s")
            if mine:
                self.chain.mine()
            time.sleep(0.2)

    def state(self, case: Case) -> str:
        return str(self.deposits[case.name]["state"])

    def table(self) -> Table:
        table = Table(title="Deposits", title_justify="left", expand=False)
        for header in ("who", "what the app asked for", "state", "reason"):
            table.add_column(header)
        for header in ("expected", "received"):
            table.add_column(header, justify="right")
        for case in self._cases:
            found = self.deposits.get(case.name)
            if found is None:
                continue
            state = found["state"]
            colour = {"credited": "green", "suspended": "yellow", "rejected": "red"}.get(state, "cyan")
            table.add_row(
                case.name,
                case.title,
                f"[{colour}]{state}[/]",
                found["reason"] or "",
                case.amount(found["units"]),
                case.amount(found["units_received"]),
            )
        return table

    @property
    def _cases(self) -> list[Case]:
        return [*cases(), reorged_case()]

    @contextmanager
    def live(self) -> Iterator[None]:
        """A table that follows the deposits; where there is no terminal, a line for each change."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=8) as self._live:
            yield
        self._live = None

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(self.table())
        for name, found in self.deposits.items():
            if self._said.get(name) == found["state"]:
                continue
            self._said[name] = found["state"]
            if self._live is None:
                self.say(f"  {name:<6} {found['state']} {found['reason'] or ''}".rstrip())

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False)

    # --- the story

    def payments(self) -> None:
        self.say("[bold]The app asks for its deposits, the payers pay, and a worker dies[/]")
        with self.live():
            with self.chain.no_mining():  # so that all the payments come into the chain with one block
                for case in cases():
                    if case.pays_first:
                        case.pay(self.chain, self.cast, None)
                    self.ask(case)
                for case in cases():
                    if not case.pays_first:
                        case.pay(self.chain, self.cast, self.deposits[case.name]["address"])
                self.chain.mine()
            self.wait("a payment is seen on the chain", lambda: any(self.state(c) == "pending" for c in cases()))
            self.stack.kill("worker-chains")
            self.say("[red]kill -9[/] of the worker that follows the chain")
            client = redis.Redis.from_url(self.stack.env["REDIS_URL"])
            client.flushall()
            client.close()
            self.say("[red]FLUSHALL[/]: everything that Redis knew is gone")
            self.wait(
                "every deposit has its verdict",
                lambda: all(self.state(case) == case.state for case in cases()),
                mine=True,
            )

    def reorg(self) -> None:
        self.say("[bold]A payment is credited; then the chain takes back the block that held it[/]")
        case = reorged_case()
        self.chain.mine(12)  # what happened so far is out of the reorg's reach
        with self.live():
            case.pay(self.chain, self.cast, None)
            self.ask(case)
            self.wait("it is credited", lambda: self.state(case) == "credited", mine=True)
            [chain_tx] = case.paid
            receipt = self.chain.receipt(chain_tx)
            assert receipt is not None
            number = int(receipt["blockNumber"], 16)
            depth = self.chain.height - number + 1
            self.chain.reorg(depth)
            self.say(f"[red]reorg[/]: the newest {depth} blocks are gone, the payment with them")
            self.wait("the credit is taken back", lambda: self.state(case) == "watching")
            self._expect(f"{case.name}'s balance after the reorg", self.upstream.balances(case.account)[case.asset], 0)
            self.chain.rpc("eth_sendRawTransaction", case.raw)
            self.say("the payer's wallet sends the same transaction again")
            self.wait("it is credited again", lambda: self.state(case) == "credited", mine=True)

    @contextmanager
    def guests(self) -> Iterator[Guests]:
        """The app again, with a key for cards and games."""
        scopes = [word for scope in (*SCOPES, *FIAT_SCOPES, *PAYOUT_SCOPES) for word in ("--scope", scope)]
        guests = Guests(self.stack.api_url, self._tallyrail("keys", "create", TENANT, *scopes).strip())
        try:
            yield guests
        finally:
            guests.close()

    def play(self, stripe: Stripe, signer: Signer) -> None:
        """All of it. Raises DemoError, ActError."""
        show = self.console.print
        with self.guests() as guests:
            card = CardAct(guests, stripe, self.stack.api_url, self.stack.kill, self.say, show)
            games = Act(guests, self.stack.env["REDIS_URL"], self.cast.token_asset, self.say, show)
            payout = PayoutAct(
                guests, self.chain, self.cast, signer.wallet, self._tallyrail, self.stack.kill, self.say, show
            )
            self.payments()
            card.pay()
            self.reorg()  # the worker that the card act killed comes back meanwhile
            self.reckon(card.refund() | games.play() | payout.play())

    # --- the reckoning

    def reckon(self, moved: Units) -> None:
        """Compare every figure with what was paid and moved. Raises DemoError at the first that differs."""
        self.refresh()
        self.console.print(self.table())
        everything = self._cases
        for case in everything:
            found = self.deposits[case.name]
            self._expect(f"the state of {case.name}'s deposit", found["state"], case.state)
            self._expect(f"the reason of {case.name}'s deposit", found["reason"], case.reason)
            if case.booked:
                self._expect(f"what {case.name} paid", found["units_received"], str(case.booked))
        expected: dict[tuple[str, str], int] = {}
        for case in everything:
            for account in (case.account if case.state == "credited" else "suspense:deposits", f"custody:{CHAIN}"):
                if case.booked:
                    key = (account, case.asset_of(self.cast))
                    expected[key] = expected.get(key, 0) + case.booked
        for key, units in moved.items():
            expected[key] = expected.get(key, 0) + units
        for (account, asset), units in expected.items():
            self._expect(f"{account} in {asset}", self.upstream.balances(account).get(asset), units)
        for case in everything:
            if case.state != "credited":
                self._expect(f"{case.account}", self.upstream.balances(case.account), {})
        name = reorged_case().name
        history = [event["event"] for event in self.deposits[name]["history"]]
        self._expect(f"reorgs in {name}'s history", history.count("reorged"), 1)
        self.wait("Flower shows what runs", lambda: "tx_monitor.poll" in self._seen_by_flower())
        dead = self.upstream.get("/v1/jobs?status=dead")["jobs"]
        self._expect("dead letters", dead, [])
        self.console.print(self._tallyrail("ledger", "balances", "--tenant", TENANT).rstrip(), highlight=False)
        self.say(self._tallyrail("ledger", "verify").strip())
        self.say(f"[green]As paid:[/] {len(everything)} deposits and {len(expected)} balances, read over the API.")

    def _seen_by_flower(self) -> set[str]:
        """The names of the tasks that Flower has heard of. None while it is still starting."""
        user, _, password = self.stack.addresses.flower_login.partition(":")
        try:
            reply = httpx.get(f"{self.stack.flower_url}/api/tasks", auth=(user, password), timeout=10)
        except httpx.TransportError:
            return set()
        return {task["name"] for task in reply.json().values()} if reply.status_code == httpx.codes.OK else set()

    @staticmethod
    def _expect(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise DemoError(f"{what}: expected {expected!r}, the API says {found!r}")


def run(data: Path, *, keep: bool) -> None:
    """Raises DemoError, ActError, StartError or an httpx error if it does not come out as it must."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    begin = time.monotonic()
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True, mode=0o700)
    with (
        Stripe(data / "stripe.log") as stripe,
        Anvil(data / "anvil") as node,
        DevChain(node.url) as chain,
        Signer(data / "signer", cast := Cast.on(chain)) as signer,
    ):
        chains_file = data / "chains.toml"
        chains_file.write_text(CHAINS.format(chain=CHAIN, coin=COIN, token=cast.token_asset, depth=DEPTH))
        environ = {
            **{name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")},
            "CHAINS_FILE": str(chains_file),
            "RPC_URLS": f'{{"{CHAIN}": ["{node.url}"]}}',
            # A demo's pace: a killed worker is missed after 3 s instead of 20.
            "JOBS_LEASE": "3",
            "JOBS_RING_AGAIN_AFTER": "1",
            "DEPOSIT_CLAIM": "3",
            **stripe.environment,
            **signer.environment,
        }
        signer.fill(chain, cast)
        signer.start(environ)
        console.print("[bold]Starting[/] PostgreSQL, Valkey, API, relay, workers, beat and Flower", highlight=False)
        with Stack(data, environ=environ) as stack:
            console.print(f"  up after {time.monotonic() - begin:.1f} s: {stack.api_url}", highlight=False)
            demo = Demo(stack, chain, cast, console)
            try:
                demo.play(stripe, signer)
            finally:
                demo.upstream.close()
            console.print(f"Done in {time.monotonic() - begin:.1f} s.", highlight=False)
            if keep:
                _linger(stack, console)


def _linger(stack: Stack, console: Console) -> None:
    console.print(f"API docs  {stack.api_url}/docs", highlight=False)
    console.print(f"Flower    {stack.flower_url}  (login {stack.addresses.flower_login})", highlight=False)
    console.print(f"tallyrail --stack {stack.data_dir} jobs list", highlight=False, soft_wrap=True)
    console.print("Ctrl-C stops everything.")
    with stack.supervisor.signals():
        stack.supervisor.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="emptied first (default: data/demo)")
    parser.add_argument("--keep", action="store_true", help="leave the stack up afterwards, until Ctrl-C")
    chosen = parser.parse_args()
    data = chosen.data.absolute()
    try:
        run(data, keep=chosen.keep)
    except (DemoError, ActError, StartError, httpx.HTTPError) as error:
        print(f"make demo: {error}", file=sys.stderr)
        print(f"What the processes said: {data / 'run' / 'stack.log'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
