"""Whatever a node of Aptos answers, it is read or it is the node's failure: the next one is asked."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from core.errors import TransientError
from tests.integration.test_aptos_reader import reader_of
from tests.support.aptos_ledger import Move
from tests.support.aptos_node import Answer, AptosNode
from tests.support.lies import lie
from tests.unit.test_aptos_transfers import LZ_USDT_TYPE, PAYEE, PAYER, USDT

LIES = 10


@pytest.mark.parametrize("seed", range(3))
def test_a_lie_is_read_or_is_the_nodes_failure(seed: int) -> None:
    """Any other error would end the reading before the next node is asked. Seed 0 was tried with 200."""
    random = Random(seed)

    def changed(_path: str, answer: Answer) -> Answer:
        status, content = answer
        if random.random() < 0.5:
            return answer
        return (random.choice([200, 400, 404, 410]) if random.random() < 0.1 else status, lie(content, random))

    with AptosNode() as node:
        node.mine(2)
        kinds = [Move(PAYEE, 5), Move(PAYEE, 6, USDT)]
        kinds += [Move(PAYEE, 7, LZ_USDT_TYPE, kind) for kind in ("coin_v1", "coin_v2")]
        ids = [node.ledger.submit(move, sender=PAYER) for move in kinds]
        node.mine(3)
        reader = reader_of(node.url)
        reader.head()
        readings: list[Callable[[], Any]] = [
            reader.head,
            lambda: reader.blocks([1, 2]),
            lambda: reader.chain_txs([random.choice(ids)]),
            lambda: reader.scan(1, 4, [PAYEE]),
            lambda: reader.spent([f"{PAYER}/0"], block=2),
            lambda: reader_of(node.url).head(),
        ]
        node.answers = changed
        failed = told = 0
        for _ in range(LIES):
            for read in readings:
                try:
                    read()
                    told += 1
                except TransientError:
                    failed += 1
    assert failed > LIES and told > LIES / 2
