"""The demo's payout: two people agree, the signer signs, and the worker that pays is killed before a block has it.

The signer is the real one, with a key that was made a moment ago. Our wallet is given what it pays with by the chain's
rich accounts, as an operator would fill it.
"""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from core.money import display
from local.demo_cases import CHAIN, COIN, DOLLAR, ETHER, Cast
from local.demo_packets import ActError, Guests, Units, expect
from local.devchain import DevChain
from local.processes import ROOT
from local.server import HOST, free_port
from signer import keys, registry
from signer.journal import Journal

CAROL = "user:carol:available"
UNITS = 40 * DOLLAR
FILLED = 500 * DOLLAR
SCOPES = ("payouts:write", "payouts:read")
WORKER = "worker-chains"
FINAL = 14
"""Blocks that are out of any reorg's reach on the demo's chain."""
POLICY = """\
[wallets.demo]
chain = "{chain}"
key = "demo"
fee_max = "{fee_max}"
fee_day_max = "{fee_max}0"
[wallets.demo.assets."{token}"]
each_max = "{most}"
day_max = "{most}0"
"""


class Signer:
    """Its process, from an empty folder. It ends with us."""

    def __init__(self, folder: Path, cast: Cast) -> None:
        folder.mkdir(mode=0o700)
        secret, passphrase, self._token = secrets.token_bytes(32), secrets.token_urlsafe(), secrets.token_hex()
        keys.add(folder / "keystore.json", passphrase, "demo", "eip155", secret)
        Journal.create(folder / "journal.db")
        policy = folder / "policy.toml"
        policy.write_text(POLICY.format(chain=CHAIN, token=cast.token_asset, most=1_000 * DOLLAR, fee_max=ETHER // 100))
        policy.chmod(0o600)
        self.wallet = registry.of("eip155").address(CHAIN, secret)
        self._port = free_port()
        self._log = folder / "signer.log"
        self._environment = {
            "SIGNER_KEYSTORE": str(folder / "keystore.json"),
            "SIGNER_JOURNAL": str(folder / "journal.db"),
            "SIGNER_POLICY": str(policy),
            "SIGNER_PASSPHRASE": passphrase,
            "SIGNER_TOKEN": self._token,
            "SIGNER_PORT": str(self._port),
            "PYTHONPATH": str(ROOT),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def fill(self, chain: DevChain, cast: Cast) -> None:
        """Before the stack starts: what a wallet has is asked for once a minute."""
        chain.fund(self.wallet, ETHER)
        chain.send_token(cast.token, self.wallet, FILLED)

    def start(self, environ: Mapping[str, str]) -> None:
        with self._log.open("ab") as lines:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "signer.main"],
                cwd=ROOT, env={**environ, **self._environment}, stdout=lines, stderr=lines,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """By which a deployment has it."""
        return {
            "WALLETS": json.dumps({CHAIN: self.wallet}),
            "SIGNER_URL": f"http://{HOST}:{self._port}",
            "SIGNER_TOKEN": self._token,
            "PAYOUT_FIRST_BY_HAND": "0",
        }


@dataclass
class PayoutAct:
    guests: Guests
    chain: DevChain
    cast: Cast
    wallet: str
    tallyrail: Callable[..., str]
    kill: Callable[[str], None]
    say: Callable[[str], None]
    show: Callable[[Table], None]

    def play(self) -> Units:
        """Raises ActError. Returns what was moved, by account and asset, for the reckoning."""
        self.say(f"[bold]carol takes {_tokens(UNITS)} out: two people agree, a worker dies, a block has it once[/]")
        self.chain.mine(FINAL)  # money of deposits that may still be undone doesn't leave
        home = self.chain.new_account()
        before = self.guests.balance(CAROL, self.cast.token_asset)
        asked = {
            "account": CAROL,
            "asset": self.cast.token_asset,
            "units": str(UNITS),
            "destination": {"kind": "chain", "chain": CHAIN, "number": home},
        }
        made = self.guests.post("/v1/payouts", asked)
        path = f"/v1/payouts/{made['id']}"
        self._wait(path, "awaiting_approval")
        with self.chain.no_mining():
            self._agree(made["id"])
            self._wait(path, "submitted")
            self._wait_until(lambda: self._in_mempool() == 1, "a node has it")
            self.kill(WORKER)
            self.say("[red]kill -9[/] of the worker that pays and follows the chain")
        paid = self._wait(path, "paid")
        gas = ETHER - self.chain.balance(self.wallet)
        expect("what arrived at carol's address", self.chain.balance(home, token=self.cast.token), UNITS)
        expect("what is left in our wallet", self.chain.balance(self.wallet, token=self.cast.token), FILLED - UNITS)
        self._wait_until(lambda: self.guests.balance("house:payout_fees", COIN) == gas, "the chain's fee is booked")
        after = self.guests.balance(CAROL, self.cast.token_asset)
        expect("carol's balance", after, before - UNITS)
        self.show(_table(paid, before, after, gas))
        return {
            (CAROL, self.cast.token_asset): -UNITS,
            (f"custody:{CHAIN}", self.cast.token_asset): -UNITS,
            (f"custody:{CHAIN}", COIN): -gas,
            ("house:payout_fees", COIN): gas,
        }

    def _agree(self, payout_id: str) -> None:
        """There are no rates here: what nobody can value needs the most people."""
        seen = json.loads(self.tallyrail("payouts", "show", payout_id, "--json"))["seen_hash"]
        for person in ("ruth", "omar"):
            self.tallyrail("payouts", "approve", payout_id, "--seen", seen, "--actor", person, "--commit")
            self.say(f"  {person} saw it and agrees")

    def _in_mempool(self) -> int:
        """How many chain transactions of our wallet wait for a block."""
        pending = int(self.chain.rpc("eth_getTransactionCount", self.wallet, "pending"), 16)
        return pending - self.chain.nonce(self.wallet)

    def _wait(self, path: str, state: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def is_there() -> bool:
            found.update(self.guests.get(path))
            return bool(found["state"] == state)

        self._wait_until(is_there, f"carol's payout is {state}")
        self.say(f"  {state}")
        return found

    def _wait_until(self, true: Callable[[], bool], what: str) -> None:
        """With a block at each look, unless mining is stopped."""
        for _ in range(300):
            if true():
                return
            if self.chain.automine:
                self.chain.mine()
            time.sleep(0.2)
        raise ActError(f"{what}: not in time")


def _tokens(units: int) -> str:
    return f"{display(units, 6)} USDX"


def _table(paid: dict[str, Any], before: int, after: int, gas: int) -> Table:
    table = Table(title="Payout", title_justify="left")
    for header in ("carol", "to", "state"):
        table.add_column(header)
    for header in ("change", "balance", "the chain's fee, ours"):
        table.add_column(header, justify="right")
    table.add_row(
        "takes out", paid["destination_masked"], f"[green]{paid['state']}[/]", f"[red]{_tokens(after - before)}[/]",
        _tokens(after), f"{display(gas, 18)} ETH",
    )  # fmt: skip
    return table
