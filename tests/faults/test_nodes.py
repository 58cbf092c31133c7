"""Whole deposits through nodes that fail, lag or stand still: all of it costs time, and nothing else (script.py).

`make test` takes a few of the faults, `make faults` each with each.
"""

from collections.abc import Callable
from contextlib import ExitStack
from itertools import product
from urllib.parse import urlsplit

import httpx
import pytest

from local.bitcoin_chain import RegtestChain
from local.http_server import Answer, Asked
from tests.conformance.lab import Lab
from tests.conformance.till import Till
from tests.faults.script import KINDS, READ_TIMEOUT_S, Outcome, Script, comes_to, reader_of, second, sound
from tests.support import faulty, faulty_nodes
from tests.support.faulty import Fault, Forward

Make = Callable[[Lab, ExitStack], Fault]
"""Called when the fault begins."""


def _always(fault: Fault) -> Make:
    return lambda _lab, _stack: fault


def _as_of(lab: Lab, stack: ExitStack, behind: int | None) -> Fault:
    """As of so many blocks ago, for ever the same (None) or going on."""
    kind, url = lab.chain.partition(":")[0], lab.urls()[0]
    if kind == "tron":
        return _elsewhere(stack.enter_context(faulty_nodes.stale_tron(lab._node.chain)))  # type: ignore[attr-defined]
    if kind == "aptos":
        return _elsewhere(stack.enter_context(faulty_nodes.stale_aptos(lab._node)))  # type: ignore[attr-defined]
    now = sound(lab).head().latest.number

    def height() -> int:
        return now if behind is None else max(sound(lab).head().latest.number - behind, 0)

    if kind == "eip155":
        return faulty.seeing(faulty_nodes.EvmAsOf(height))
    if kind == "solana":
        return faulty.seeing(faulty_nodes.SolanaAsOf(height))
    dev = stack.enter_context(RegtestChain(url))
    return faulty.seeing(
        faulty_nodes.BitcoinAsOf(
            height,
            hash_of=lambda number: str(dev.rpc("getblockhash", number)),
            height_of=dev.height_of,
            height_of_block=lambda hash_: int(dev.rpc("getblockheader", hash_, True)["height"]),
        )
    )


def _elsewhere(url: str) -> Fault:
    """Another node answers, on another port: one that has stood still."""
    port = urlsplit(url).port

    def fault(asked: Asked, _forward: Forward) -> Answer:
        got = httpx.request(asked.method, f"http://127.0.0.1:{port}{asked.path}", content=asked.body, trust_env=False)
        return Answer(got.status_code, got.content, {"Content-Type": "application/json"})

    return fault


FAULTS: dict[str, Make] = {
    "dies": _always(faulty.dies),
    "hangs up": _always(faulty.hangs_up),
    "truncates": _always(faulty.truncates),
    "garbage": _always(faulty.garbage),
    "html": _always(faulty.html),
    "other json": _always(faulty.other_json),
    "500": _always(faulty.saying(500)),
    "429": _always(faulty.saying(429)),
    "429 with a wish": _always(faulty.saying(429, retry_after=1)),
    "hangs": _always(faulty.hanging(READ_TIMEOUT_S * 2)),
    "lags": lambda lab, stack: _as_of(lab, stack, 2),
    "stands still": lambda lab, stack: _as_of(lab, stack, None),
    "now this, now that": _always(
        faulty_nodes.either(faulty.dies, faulty.html, faulty.saying(500), faulty.truncates, faulty.saying(404))
    ),
}
WAYS = ("alone", "first of two")
TIMES = ("for a while", "now and then")

QUICK = {
    ("eip155", "dies", "alone", "now and then"),
    ("eip155", "lags", "first of two", "now and then"),
    ("solana", "truncates", "alone", "now and then"),
    ("tron", "html", "first of two", "for a while"),
    ("aptos", "500", "alone", "now and then"),
}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.faults)
    for case in product(KINDS, FAULTS, WAYS, TIMES)
]


@pytest.mark.parametrize(("lab", "fault", "way", "when"), CASES, indirect=["lab"])
def test_a_node_that_fails_or_lags_costs_time_and_no_deposit(
    lab: Lab, expected: Outcome, fault: str, way: str, when: str
) -> None:
    with ExitStack() as stack:
        bad = stack.enter_context(faulty.faulty(lab.urls()[0]))
        urls = [bad.url] if way == "alone" else [bad.url, second(lab, stack)]
        reader = reader_of(lab, urls, read_timeout=READ_TIMEOUT_S)
        script = Script(Till(lab, reader), lab)
        bad.every = 1 if when == "for a while" else 3
        for number, _ in enumerate(script.steps()):
            if number == 1:
                bad.fault = FAULTS[fault](lab, stack)
            elif number == 5 and when == "for a while":
                bad.fault = None
            script.till.work()
        bad.fault = None
        assert bad.wronged > 0, "the fault never came to be"
        comes_to(script, expected, script.till.work)
