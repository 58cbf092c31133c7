"""Whole deposits through nodes that lie: nothing is booked on the word of one alone (script.py)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product

import pytest

from config.assets import registry as assets
from tests.conformance.lab import Lab
from tests.conformance.till import UNITS, Till
from tests.faults.script import BOOKED, Outcome, Script, comes_to, hash_at, reader_of, second
from tests.support import faulty, faulty_nodes
from tests.support.faulty import Fault


def _another_hash(lab: Lab, script: Script) -> Fault | None:
    """Of the block with the first payment, once it can be read. Its start stays: on some chains it tells the number."""
    true = hash_at(lab, script.base + 1)
    if true is None:
        return None
    return faulty.respelling({true: true[:-6] + true[-6:][::-1]})


def _another_amount(lab: Lab, _script: Script) -> Fault:
    """A tenth more, in each of the ways in which a node may tell it."""
    told: dict[str, str] = {}
    for units in (UNITS, UNITS + 1, 3 * UNITS):
        more = units + UNITS // 10
        told |= {f'"{units:#x}"': f'"{more:#x}"', f"{units:064x}": f"{more:064x}", f'"{units}"': f'"{more}"'}
        told[units.to_bytes(8, "little").hex()] = more.to_bytes(8, "little").hex()
    return faulty.respelling(told)


def _hides_payments(lab: Lab, script: Script) -> Fault:
    """Of the EVM nodes one that says nothing of what was paid; of the others one that calls it unknown."""
    return faulty.seeing(faulty_nodes.Without(script.paid))


LIES: dict[str, Callable[[Lab, Script], Fault | None]] = {
    "another hash": _another_hash,
    "another amount": _another_amount,
    "hides payments": _hides_payments,
}
QUICK_LIES = {("eip155", lie) for lie in list(LIES)[:3]}
LYING = [
    pytest.param(*case, marks=() if case in QUICK_LIES else pytest.mark.faults)
    for case in [*product(("eip155", "bip122"), LIES), *product(("solana", "tron", "aptos"), list(LIES)[:2])]
]


@contextmanager
def witnesses_wanted(lab: Lab) -> Iterator[None]:
    """Every deposit is large enough to need two endpoints that tell it alike."""
    known = assets().assets
    before = {asset: known[asset] for asset in {lab.coin, lab.token}}
    known.update({asset: kept.model_copy(update={"quorum_units": 1}) for asset, kept in before.items()})
    try:
        yield
    finally:
        known.update(before)


@pytest.mark.parametrize(("lab", "lie"), LYING, indirect=["lab"])
def test_what_a_lying_node_says_is_not_booked_without_a_witness(lab: Lab, expected: Outcome, lie: str) -> None:
    """The liar comes first, and a sound node of another host second."""
    with ExitStack() as stack:
        stack.enter_context(witnesses_wanted(lab))
        bad = stack.enter_context(faulty.faulty(lab.urls()[0]))
        script = Script(Till(lab, reader_of(lab, [bad.url, second(lab, stack)])), lab)
        for number, _ in enumerate(script.steps()):
            if number > 0 and bad.fault is None:
                bad.fault = LIES[lie](lab, script)
            script.till.work()
        for _ in range(3):
            script.till.work()
        if lab.chain.startswith("eip155"):  # elsewhere what is signed and hashed gives most lies away
            assert script.outcome() != expected, "it made no difference"
        told = [row for row in script.outcome().deposits if row[3] in BOOKED]
        assert [row for row in told if row not in expected.deposits] == [], "booked on the liar's word"
        assert bad.wronged > 0
        bad.fault = None
        for _ in range(2):  # the money that was hidden from the scan is found by whom a person sends
            script.till.work()
        if lie == "hides payments":
            script.rescan()
        comes_to(script, expected, script.till.work)
