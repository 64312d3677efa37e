"""Seconds of block Lanczos and of all eigenvalues of one member, by stable rank.

States are real: networks trained on label-shuffled MNIST, which takes five minutes at the paper's length of a task.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from bench_curvature import starts

from fastplast.curvature import measure

RESULTS = Path(__file__).parent / "results"


def test_lanczos_against_exact(benchmark) -> None:
    """Full-dimensional states, whose stable rank falls from 2,000 to below 100 while tanh networks lose plasticity.

    Writes the crossover figure beside the results.
    """
    from fastplast.srank_validation.figure import plot_crossover

    benchmark.group = "Lanczos against exact, seconds of one member by stable rank"
    members = [(int(start.curvature.srank[m]), start.tail.member(m))
               for start in starts("tanh", 4, 22) for m in range(4)]  # fmt: skip
    members.sort(key=lambda pair: pair[0])
    ranks, seconds = [], {"exact": [], "lanczos": []}
    logs = np.log([max(rank, 1) for rank, _ in members])
    spread = {int(np.abs(logs - value).argmin()) for value in np.linspace(logs[0], logs[-1], 14)}
    for rank, tail in (members[index] for index in sorted(spread)):
        found, exact = measure(tail, method="lanczos", hint=[rank]), measure(tail)
        ranks.append(int(exact.srank))
        seconds["exact"].append(float(exact.seconds))
        seconds["lanczos"].append(float(found.seconds))
    benchmark.pedantic(lambda: None, rounds=1)
    rows = list(zip(ranks, seconds["exact"], seconds["lanczos"]))
    benchmark.extra_info["seconds"] = {f"srank {rank}, lanczos": value for rank, _, value in rows}
    benchmark.extra_info["ratio"] = {f"srank {rank}, lanczos": value / exact for rank, exact, value in rows}
    machine = os.environ.get("FASTPLAST_BENCH_MACHINE")
    if machine:
        plot_crossover(ranks, seconds, RESULTS / machine / "crossover.png")
