"""Whatever a node of Tron answers, it is read or it is the node's failure: the next one is asked."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from core.errors import TransientError
from tests.support.lies import lie
from tests.support.tron import recorded
from tests.support.tron.node import Outcome, TronChain, TronNode, internal_call, serving, token_log
from tests.support.tron.readers import TOKEN, make_reader

PAYER, PAYEE = "TPL66VK2gCXNCD7EJg9pgJRfqcRazjhUZY", "TLyqzVGLV1srkB7dToTAEqgDSfPtXRJZYH"
LIES = 6


@pytest.fixture(scope="module")
def node() -> Iterator[TronNode]:
    chain = TronChain(recorded.MAINNET_GENESIS)
    chain.mine(2)
    with serving(chain) as node:
        yield node


@pytest.fixture(scope="module")
def paid(node: TronNode) -> str:
    call = {"owner_address": PAYER, "contract_address": TOKEN, "data": "f8a8fd6d"}
    outcome = Outcome("SUCCESS", (token_log(TOKEN, PAYER, PAYEE, 5),), (internal_call(PAYER, PAYEE, 6),))
    id_: str = node.chain.send("TriggerSmartContract", call, outcome)
    node.chain.send("TransferContract", {"owner_address": PAYER, "to_address": PAYEE, "amount": 5})
    node.chain.mine(4)
    return id_


@pytest.mark.parametrize("seed", range(3))
def test_a_lie_is_read_or_is_the_nodes_failure(node: TronNode, paid: str, seed: int) -> None:
    """Any other error would end the reading before the next node is asked. Seeds 0 to 4 were tried with 150 each."""
    random = Random(seed)
    node.change = None
    reader = make_reader(node.url)
    reader.head()
    readings: list[Callable[[], Any]] = [
        reader.head,
        lambda: reader.blocks([1, 2]),
        lambda: reader.chain_txs([paid, "ab" * 32]),
        lambda: reader.scan(1, 4, [PAYEE]),
        lambda: make_reader(node.url).head(),
    ]
    node.change = lambda _path, _params, answer: lie(answer, random) if random.random() < 0.5 else answer
    failed = told = 0
    for _ in range(LIES):
        for read in readings:
            try:
                read()
                told += 1
            except TransientError:
                failed += 1
    assert failed > LIES and told > LIES / 2
