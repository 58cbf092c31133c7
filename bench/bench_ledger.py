"""`make bench-ledger`: transfers a second through the public posting calls, beside pgbench on a bare function.

Both on the embedded PostgreSQL with its default durability, three rounds in turn, medians. "uniform": the accounts of a
transfer are any two of 10,000 customers, each with a floor; "house": one account is the same in every transfer.

- ledger.single.<kind>.<clients>: `ledger.posting.book`, one transfer a call, clients as Python processes. Baseline: the
  bare function with as many clients of pgbench.
- ledger.function.uniform.<clients>: our function called by pgbench, without Python: what is the database's share of the
  difference and what is the client's.
- ledger.single.house.cost: the house account against uniform, both ours, 8 clients.
- ledger.single.striping: the same house account in its stripes and in one row, both ours, 8 clients.
- ledger.batch.<kind>.<writers>: `ledger.batches.book_all`, 500 transfers a call. Baseline: the bare function as above.
- ledger.batch.<kind>: two writers (as many as there are cores), each with half of the customers, as consumers that are
  sharded by customer post. Baseline: the bare function at 8 clients.
- ledger.batch.memory: the most memory a process had after a batch of 10,000 journals, in MiB, interpreter included.
"""

import multiprocessing
import resource
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from bench import ledger_clients, servers
from bench.figures import figure
from ledger.batches import book_all

CLIENTS = (1, 8, 16)
ROUNDS = 3
MEMORY_MAX = 200
GOALS = {"single.uniform.1": 0.6, "single.uniform.8": 0.35, "batch.uniform": 3.0, "batch.house": 6.0}


def measure() -> dict[str, float]:
    runs: dict[str, Callable[[], float]] = {}
    for kind in ("uniform", "house"):
        for clients in CLIENTS:
            runs[f"bare.{kind}.{clients}"] = partial(ledger_clients.bare, clients, kind)
            runs[f"single.{kind}.{clients}"] = partial(ledger_clients.ours, clients, kind, batched=False)
            runs[f"batch.{kind}.{clients}"] = partial(ledger_clients.ours, clients, kind, batched=True)
            if kind == "uniform":
                runs[f"function.{kind}.{clients}"] = partial(ledger_clients.function, clients)
        runs[f"batch.{kind}"] = partial(ledger_clients.ours, 2, kind, batched=True, apart=True)
    runs["single.unstriped.8"] = partial(ledger_clients.ours, 8, "unstriped", batched=False)
    results: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            results[name].append(run())
    return {name: statistics.median(found) for name, found in results.items()}


def report(found: dict[str, float]) -> None:
    unstriped = found.pop("single.unstriped.8")
    for name, rate in found.items():
        what, kind, *rest = name.split(".")
        if what == "bare":
            continue
        baseline = found[f"bare.{kind}.{rest[0] if rest else 8}"]
        goal = GOALS.get(name)
        figure(
            f"ledger.{name}",
            ours=rate,
            baseline=baseline,
            goal="told" if goal is None else f">= {goal}",
            met=None if goal is None else rate >= goal * baseline,
        )
    house, uniform = found["single.house.8"], found["single.uniform.8"]
    figure("ledger.single.house.cost", ours=house, baseline=uniform, goal=">= 0.8", met=house >= 0.8 * uniform)
    figure("ledger.single.striping", ours=house, baseline=unstriped, goal="told")


def memory() -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=_peak, args=(answer,))
    process.start()
    peak = float(answer.get())
    process.join()
    figure("ledger.batch.memory", ours=peak, baseline=MEMORY_MAX, goal="<= 1.0", met=peak <= MEMORY_MAX)


def _peak(answer: Any) -> None:
    journal = ledger_clients.journals("uniform")
    outcomes = book_all([journal() for _ in range(10_000)])
    assert all(outcome.posted for outcome in outcomes)
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    with servers.servers():
        ledger_clients.prepare()
        report(measure())
        memory()


if __name__ == "__main__":
    main()
