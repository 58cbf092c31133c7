"""`make bench-chains`: what watching a chain costs, on a real EVM node (anvil), beside the bare calls in the same run.

- chains.watch: deposits by hash that one process checks a second: due ones found, the chain read, the next look written
  (`service.poll`). Baseline: eth_getTransactionReceipt for one after the other, over one connection.
- chains.watch.ceiling: the same, beside the node's own ceiling: the same receipts in batches, only parsed.
- chains.watch.unseen: transactions that are in no block yet, so that each has to be asked for; beside the same ceiling.
- chains.scan: blocks a second that are scanned for 10,000 addresses, transfers found and kept (`service.scan`).
  Baseline: a bare loop that fetches the same full blocks in batches of the same size and only parses the JSON.
- chains.idle: a poll of DUE deposits while 100,000 others wait, beside the same poll without them.
- chains.memory: resident memory after the last of many polls and scans, beside that after the first few, in MiB.
"""

import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from bench import servers
from bench.figures import figure

TXS = 4_000
TXS_A_BLOCK = 100
ONE_BY_ONE = 1_000
ADDRESSES = 10_000
SCANNED = 250
PAID_A_BLOCK = 1
WAITING = 100_000
DUE = 2_000
CALLS = 100
BLOCKS = 10
ROUNDS = 3
MEMORY_ROUNDS = 30
CHAIN = "eip155:31337"
COIN = f"{CHAIN}/slip44:60"
TENANT = "bench"


class Node:
    """Bare JSON-RPC over one connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(trust_env=False, timeout=60)

    def one(self, method: str, *params: Any) -> Any:
        return self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})["result"]

    def many(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        body = [
            {"jsonrpc": "2.0", "id": n, "method": method, "params": params} for n, (method, params) in enumerate(calls)
        ]
        answers: list[Any] = self._post(body)
        return answers

    def _post(self, body: Any) -> Any:
        return json.loads(self._http.post(self.url, json=body).content)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _best(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """The shortest of some rounds: what else the machine does only ever adds."""
    times = []
    for _ in range(ROUNDS):
        before()
        times.append(_timed(work))
    return min(times)


def _pay(node: Node, sender: str, recipients: Sequence[str], a_block: int) -> list[str]:
    """One payment to each, so many in a block."""
    sent: list[str] = []
    for part in _parts(recipients, a_block):
        calls = [
            ("eth_sendTransaction", [{"from": sender, "to": to, "value": hex(1_000_000), "gas": hex(21_000)}])
            for to in part
        ]
        sent += [answer["result"] for answer in node.many(calls)]
        node.one("anvil_mine", "0x1")
    return sent


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _address(number: int) -> str:
    from chains.formats import parse_address

    return parse_address(CHAIN, f"0x{number + 0x10_0000:040x}")


# --- what is measured ----------------------------------------------------------------------------------------------


def _watch(node: Node, sender: str) -> None:
    from chains import registry
    from domain.deposit import service

    shared = _address(1)
    _register([shared], shared=True)
    ids = _pay(node, sender, [shared] * TXS, TXS_A_BLOCK)
    _ask(ids, shared)
    reader = registry.get(CHAIN)
    _until_pending(reader, TXS)
    ours = TXS / _best(lambda: _all(service.poll(reader), TXS), before=_make_due)
    one_by_one = ONE_BY_ONE / _best(lambda: [node.one("eth_getTransactionReceipt", id_) for id_ in ids[:ONE_BY_ONE]])
    ceiling = TXS / _best(lambda: _receipts(node, ids))
    figure("chains.watch", ours=ours, baseline=one_by_one, goal=">= 8", met=ours >= 8 * one_by_one)
    figure("chains.watch.ceiling", ours=ours, baseline=ceiling, goal=">= 0.7", met=ours >= 0.7 * ceiling)
    _forget()
    unseen = [f"0x{number:064x}" for number in range(1, TXS + 1)]
    _ask(unseen, shared)
    ours = TXS / _best(lambda: _all(service.poll(reader), TXS), before=_make_due)
    ceiling = TXS / _best(lambda: _receipts(node, unseen))
    figure("chains.watch.unseen", ours=ours, baseline=ceiling, goal="told")
    _idle(reader, shared)
    _forget()


def _receipts(node: Node, ids: Sequence[str]) -> None:
    for part in _parts(ids, CALLS):
        node.many([("eth_getTransactionReceipt", [id_]) for id_ in part])


def _idle(reader: Any, shared: str) -> None:
    from domain.deposit import service

    def due() -> None:
        _execute(
            "UPDATE deposits SET next_poll_at = now() WHERE id IN"
            f" (SELECT id FROM deposits WHERE next_poll_at IS NOT NULL AND metadata = '{{}}' ORDER BY id LIMIT {DUE})"
        )

    _execute("UPDATE deposits SET next_poll_at = now() + interval '1 day' WHERE next_poll_at IS NOT NULL")
    alone = _best(lambda: _all(service.poll(reader), DUE), before=due)
    unseen = [f"0x{number:064x}" for number in range(10**9, 10**9 + WAITING)]
    _ask(unseen, shared, metadata={"waits": True})
    _execute("UPDATE deposits SET next_poll_at = now() + interval '1 day' WHERE metadata <> '{}'")
    _execute("VACUUM ANALYZE deposits")
    among = _best(lambda: _all(service.poll(reader), DUE), before=due)
    figure("chains.idle", ours=1_000 * among, baseline=1_000 * alone, goal="<= 1.2", met=among <= 1.2 * alone)


def _scan(node: Node, sender: str) -> None:
    from chains import registry
    from domain.deposit import service

    reader = registry.get(CHAIN)
    addresses = [_address(100 + number) for number in range(ADDRESSES)]
    _register(addresses, shared=False)
    _execute(
        "UPDATE deposit_addresses SET owner_account = 'user:' || address || ':available', allotted_at = now()"
        " WHERE kind = 'allotted'"
    )
    strangers = [_address(10**7 + number) for number in range(TXS_A_BLOCK - PAID_A_BLOCK)]
    chosen = itertools.cycle(addresses)
    recipients = [to for _ in range(SCANNED) for to in (*strangers, *(next(chosen) for _ in range(PAID_A_BLOCK)))]
    service.scan(reader)
    first = int(node.one("eth_blockNumber"), 16) + 1
    _pay(node, sender, recipients, TXS_A_BLOCK)
    last = int(node.one("eth_blockNumber"), 16)
    count = last - first + 1

    def bare() -> None:
        for part in _parts(range(first, last + 1), BLOCKS):
            node.many([("eth_getBlockByNumber", [hex(number), True]) for number in part])

    def again() -> None:
        _execute("TRUNCATE deposit_events, deposit_transfers, deposits, jobs CASCADE")
        _execute(f"DELETE FROM chain_coverage WHERE last_block >= {first}")
        _execute(f"DELETE FROM chain_blocks WHERE number >= {first}")
        _execute(f"UPDATE chain_cursors SET next_block = {first}, status = 'running'")

    def ours() -> None:
        while _cursor() <= last:
            service.scan(reader)

    scanned, fetched = _best(ours, before=again), _best(bare)
    found = _value("SELECT count(*) FROM deposit_transfers WHERE orphaned_at IS NULL")
    assert found == SCANNED * PAID_A_BLOCK, f"{found} transfers of {SCANNED * PAID_A_BLOCK}"
    figure("chains.scan", ours=count / scanned, baseline=count / fetched, goal=">= 0.8", met=fetched >= 0.8 * scanned)
    _memory(ours, again)


def _memory(scan: Callable[[], None], again: Callable[[], None]) -> None:
    first = 0.0
    for number in range(MEMORY_ROUNDS):
        again()
        scan()
        if number == ROUNDS:
            first = _resident()
    last = _resident()
    figure("chains.memory", ours=last, baseline=first, goal="<= 1.1", met=last <= 1.1 * first)


# --- how -------------------------------------------------------------------------------------------------------------


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _register(addresses: Sequence[str], *, shared: bool) -> None:
    from core.db import transaction
    from domain.deposit import service

    with transaction() as session:
        service.register_addresses(session, TENANT, CHAIN, addresses, shared=shared)


def _ask(ids: Sequence[str], address: str, *, metadata: dict[str, Any] | None = None) -> None:
    from core.db import transaction
    from domain.deposit import service
    from domain.deposit.service import NewDeposit

    for part in _parts(ids, 1_000):
        with transaction() as session:
            service.create_many(
                session,
                [
                    NewDeposit(
                        tenant=TENANT, asset=COIN, account="user:1:available", chain_tx=id_, address=address,
                        confirmations=10_000, metadata=metadata or {},
                    )
                    for id_ in part
                ],
            )  # fmt: skip


def _until_pending(reader: Any, count: int) -> None:
    from domain.deposit import service

    while _value("SELECT count(*) FROM deposits WHERE state = 'pending'") < count:
        _make_due()
        service.poll(reader)


def _make_due() -> None:
    _execute("UPDATE deposits SET next_poll_at = now() WHERE next_poll_at IS NOT NULL")
    _execute("VACUUM ANALYZE deposits")


def _forget() -> None:
    _execute("TRUNCATE deposit_events, deposit_transfers, deposits, jobs CASCADE")


def _all(looked_at: int, expected: int) -> None:
    assert looked_at == expected, f"{looked_at} of {expected} were looked at"


def _cursor() -> int:
    return _value("SELECT next_block FROM chain_cursors")


def _value(query: str) -> int:
    import psycopg

    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _execute(statement: str) -> None:
    import psycopg

    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as connection:
        connection.execute(statement.encode())


CHAINS_TOML = f"""
[chains."{CHAIN}"]
name = "Development"
namespace = "eip155"
confirmations = 10000
reorg_depth = 64
block_time_ms = 600000
scan_blocks_max = 500
head_age_max_s = 0
[assets."{COIN}"]
symbol = "ETH"
scale = 18
"""


def main() -> None:
    from local.anvil import Anvil

    with servers.servers(), tempfile.TemporaryDirectory(prefix="tallyrail-bench-") as folder:
        file = Path(folder) / "chains.toml"
        file.write_text(CHAINS_TOML)
        anvil = Anvil(Path(folder) / "anvil", automine=False)
        anvil.start()
        try:
            os.environ |= {"CHAINS_FILE": str(file), "RPC_URLS": json.dumps({CHAIN: [anvil.url]})}
            from core.db import transaction
            from ledger.assets import sync_assets

            with transaction() as session:
                sync_assets(session)
            node = Node(anvil.url)
            sender = node.one("eth_accounts")[0]
            _watch(node, sender)
            _scan(node, sender)
        finally:
            anvil.stop()


if __name__ == "__main__":
    main()
