"""`make bench-ledger`: transfers a second through the public posting calls, beside pgbench on a bare function.

Both on the embedded PostgreSQL with its default durability, three rounds in turn, medians. "uniform": both accounts of a
transfer are any two of 10,000 customers, each with a floor; "house": one account is the same in every transfer.

- ledger.single.<kind>.<clients>: `ledger.posting.book`, one transfer a call, clients as Python processes. Baseline: the
  bare function with as many clients of pgbench.
- ledger.single.house.cost: the house account against uniform, both ours, 8 clients.
- ledger.batch.<kind>.<writers>: `ledger.batches.book_all`, 500 transfers a call. Baseline: the bare function as above.
- ledger.batch.<kind>: two writers (as many as there are cores), each with half of the customers, as consumers that are
  sharded by customer post. Baseline: the bare function at 8 clients.
- ledger.batch.memory: the most memory a process had after a batch of 10,000 journals, in MiB, interpreter included.
"""

import multiprocessing
import os
import resource
import statistics
from collections.abc import Callable

from bench import servers
from bench.figures import figure

CLIENTS = (1, 8, 16)
ROUNDS = 3
MEMORY_MAX = 200
GOALS = {"single.uniform.1": 0.6, "single.uniform.8": 0.35, "batch.uniform": 3.0, "batch.house": 6.0}


def measure() -> dict[str, float]:
    from bench import ledger_clients as side

    runs: dict[str, Callable[[], float]] = {}
    for house in (False, True):
        kind = "house" if house else "uniform"
        for clients in CLIENTS:
            runs[f"bare.{kind}.{clients}"] = lambda c=clients, h=house: side.bare(c, house=h)
            runs[f"single.{kind}.{clients}"] = lambda c=clients, h=house: side.ours(c, house=h, batched=False)
            runs[f"batch.{kind}.{clients}"] = lambda c=clients, h=house: side.ours(c, house=h, batched=True)
        runs[f"batch.{kind}"] = lambda h=house: side.ours(2, house=h, batched=True, apart=True)
    results: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            results[name].append(run())
    return {name: statistics.median(found) for name, found in results.items()}


def report(found: dict[str, float]) -> None:
    for name, rate in found.items():
        what, *rest = name.split(".")
        if what == "bare":
            continue
        kind, clients = rest[0], rest[1] if len(rest) > 1 else "8"
        baseline = found[f"bare.{kind}.{clients}"]
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


def memory() -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=_peak, args=(answer,))
    process.start()
    peak = float(answer.get())
    process.join()
    figure("ledger.batch.memory", ours=peak, baseline=MEMORY_MAX, goal="<= 1.0", met=peak <= MEMORY_MAX)


def _peak(answer: object) -> None:
    from bench import ledger_clients as side
    from ledger.batches import book_all

    journals = side._journals(side.random.Random(os.getpid()), 0, side.ACCOUNTS, house=False)
    outcomes = book_all([journals() for _ in range(10_000)])
    assert all(outcome.posted for outcome in outcomes)
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # type: ignore[attr-defined]


def main() -> None:
    with servers.servers():
        from bench import ledger_clients

        ledger_clients.prepare()
        report(measure())
        memory()


if __name__ == "__main__":
    main()
