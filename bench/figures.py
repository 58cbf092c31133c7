"""How every benchmark of the project speaks: one JSON line a figure."""

import json
import statistics
from collections.abc import Sequence


def figure(bench: str, *, ours: float, baseline: float, goal: str, met: bool | None = None) -> None:
    """Print one figure. `ratio` is ours / baseline; `goal` says which way is better."""
    ratio = ours / baseline if baseline else float("inf")
    line = {"bench": bench, "ours": round(ours, 3), "baseline": round(baseline, 3), "ratio": round(ratio, 3)}
    print(json.dumps(line | {"goal": goal} | ({} if met is None else {"met": met})), flush=True)


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
