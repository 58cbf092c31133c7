"""The demo's card payment: an order, webhooks sent twice while the worker that handles them is killed, and a refund.

The provider is a double of Stripe, a program of the tests that speaks Stripe's wire format over HTTP. It runs as a
process of its own, `python -m tests.support.gateways.serve`: nothing here imports tests, and the demo runs only in a
checkout, which has them.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from rich.table import Table

from local.demo_packets import ActError, Guests, Units, expect
from local.processes import ROOT

ASSET = "iso4217:USD"
IVAN = "user:ivan:available"
PAID, RETURNED = 120_00, 20_00
FEE_BPS = 200
THEIRS = 3_78
"""What Stripe keeps of it: 2.9 % and 30 cents."""
SCOPES = ("fiat_payments:write", "fiat_payments:read")
WORKER = "worker-fiat"


class Stripe:
    """The double's process. It ends with us."""

    def __init__(self, log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.gateways.serve", "stripe"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._log = log
        self._facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=5)  # its input is closed, so it ends
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    @property
    def facts(self) -> dict[str, Any]:
        """`environment`, by which a deployment has it, and `payer`, where it is told what payers do. Waits for both."""
        if not self._facts:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line:
                raise ActError(f"the double of Stripe did not start: {self._log.read_text()[-500:]}")
            self._facts = json.loads(line)
        return self._facts

    @property
    def environment(self) -> dict[str, str]:
        return {**self.facts["environment"], "FIAT_FEE_BPS": str(FEE_BPS)}

    def does(self, act: str, *, to: str) -> list[int]:
        """Let payers or banks do something. What its webhooks, each sent twice, were answered with."""
        reply = httpx.post(f"{self.facts['payer']}/{act}", params={"to": to, "times": 2}, timeout=30, trust_env=False)
        reply.raise_for_status()
        statuses: list[int] = reply.json()["statuses"]
        return statuses


@dataclass
class CardAct:
    """In two parts, as a worker takes its time to come back. Both raise ActError."""

    guests: Guests
    stripe: Stripe
    api_url: str
    kill: Callable[[str], None]
    say: Callable[[str], None]
    show: Callable[[Table], None]
    path: str = ""
    """Of the payment."""

    def pay(self) -> None:
        """Up to where all that is known of the payment are webhooks, and nobody there to handle them."""
        self.say(f"[bold]ivan pays {_dollars(PAID)} by card, and a worker dies[/]")
        asked = {"account": IVAN, "currency": ASSET, "units": str(PAID), "return_url": "https://shop.example/paid"}
        payment = self.guests.post("/v1/fiat-payments", asked, Prefer="wait=10")
        expect("the state of ivan's payment", payment["state"], "pending")
        self.say(f"  page {payment['page_url']}")
        self.path = f"/v1/fiat-payments/{payment['id']}"
        self.kill(WORKER)
        self.say("[red]kill -9[/] of the worker that handles webhooks")
        self._told(f"pay/{payment['id']}")
        self._forged(payment["id"])

    def refund(self) -> Units:
        """Credited once, and some of it goes back. Returns what was moved, by account and asset, for the reckoning."""
        credited = self.guests.until(self.path, lambda found: found["state"] == "credited")
        self.say("[bold]ivan's card payment is credited, and some of it goes back[/]")
        fee, back = _fee(PAID), _fee(RETURNED)
        expect("what ivan is credited with", credited["credited_units"], str(PAID - fee))
        expect("ivan's balance", self.guests.balance(IVAN, ASSET), PAID - fee)
        steps = [(f"pays {_dollars(PAID)}, our fee is {_dollars(fee)}", PAID - fee, PAID - fee)]
        self.guests.post(f"{self.path}/refunds", {"units": str(RETURNED), "reason": "one too many"})
        self.guests.until(self.path, lambda found: found["refunds"][0]["state"] == "pending")
        self._told("finish_refunds")
        self.guests.until(self.path, lambda found: found["refunded_units"] == str(RETURNED))
        left = PAID - RETURNED - fee + back
        expect("ivan's balance after the refund", self.guests.balance(IVAN, ASSET), left)
        steps.append((f"gets {_dollars(RETURNED)} back, and the fee of it", back - RETURNED, left))
        self.show(_table(steps))
        return {
            (IVAN, ASSET): left,
            ("gateway:stripe", ASSET): PAID - RETURNED - THEIRS,
            ("house:fees", ASSET): fee - back,
            ("house:gateway_fees", ASSET): THEIRS,
        }

    @property
    def _webhooks(self) -> str:
        return f"{self.api_url}/v1/webhooks/stripe"

    def _told(self, act: str) -> None:
        statuses = self.stripe.does(act, to=self._webhooks)
        expect("the answers to webhooks", set(statuses), {httpx.codes.OK})
        count = len(statuses) // 2
        self.say(f"  {count} webhook{'s, each' if count > 1 else ','} sent twice: kept, and answered 200")

    def _forged(self, payment: str) -> None:
        body = {"id": "evt_forged", "type": "checkout.session.completed", "data": {"object": {"id": payment}}}
        signature = {"Stripe-Signature": f"t=1,v1={'0' * 64}"}
        reply = httpx.post(self._webhooks, json=body, headers=signature, timeout=10, trust_env=False)
        expect("the answer to a forged webhook", reply.status_code, httpx.codes.UNAUTHORIZED)
        self.say("  one that is forged: 401")


def _fee(units: int) -> int:
    return units * FEE_BPS // 10_000


def _dollars(units: int) -> str:
    whole, cents = divmod(abs(units), 100)
    return f"{'-' if units < 0 else ''}{whole}.{cents:02} USD"


def _table(steps: list[tuple[str, int, int]]) -> Table:
    table = Table(title="Card payment", title_justify="left")
    table.add_column("ivan")
    for header in ("change", "balance"):
        table.add_column(header, justify="right")
    for what, change, balance in steps:
        colour = "green" if change > 0 else "red"
        table.add_row(what, f"[{colour}]{'+' if change > 0 else ''}{_dollars(change)}[/]", _dollars(balance))
    return table
