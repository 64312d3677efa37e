"""What mixing settings in one batch costs: 240 members of a sweep beside 240 members of one setting."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from bench_training import orders

from fastplast.problems import make_task
from fastplast.sweeps import grid_of, make_plan
from fastplast.training.setup import Setup, prepare

STEPS, ROUNDS = 20, 5
STRENGTHS, RATES, SEEDS = [1, 0.1, 0.01, 0.001, 0.0001], [1e-2, 1e-3, 1e-4], 4


def batch_of(*crosses: dict) -> Setup:
    """The one batch that a sweep makes of a grid."""
    fixed = {"benchmark": "mnist_shuffle", "srank": "off", "engine": "cpu"}
    plan = make_plan(grid_of([fixed | cross for cross in crosses]), Path(mkdtemp()) / "sweep")
    (shard,) = plan.shards
    return prepare(shard.experiment)


def test_a_mixed_batch_costs_what_its_members_cost(benchmark) -> None:
    """Of four methods, none among them, beside 240 plain members, and with the share of Wasserstein taken apart."""
    benchmark.group = "mnist_shuffle, 240 members, engine cpu"
    shared = {"learning_rate": RATES, "seeds": SEEDS}
    # A strength of 0 is no method to the bit, and keeps 60 members of none apart.
    none = shared | {"method": "l2", "strength": [0.0], "seeds": 5 * SEEDS}
    pulled = shared | {"strength": STRENGTHS}
    runs = {
        "identical": batch_of({"seeds": 240}),
        "identical wasserstein": batch_of({"method": "wasserstein", "strength": 0.01, "seeds": 240}),
        "mixed of three methods": batch_of(none | {"seeds": 10 * SEEDS}, pulled | {"method": ["l2", "regenerative"]}),
        "mixed of four methods": batch_of(none, pulled | {"method": ["l2", "regenerative", "wasserstein"]}),
    }
    assert all(len(setup.group.members) == 240 for setup in runs.values())
    times: dict[str, list[float]] = {name: [] for name in runs}
    tasks = {name: make_task(setup.problem, 0) for name, setup in runs.items()}
    order = orders(240, 0)[:, :STEPS].contiguous()

    def timed(name: str) -> None:
        begun = time.perf_counter()
        runs[name].engine.run(runs[name].state, tasks[name], order)
        times[name].append((time.perf_counter() - begun) / STEPS / 240 * 1e6)

    def before() -> None:
        for name in list(runs)[1:]:
            timed(name)

    benchmark.pedantic(timed, args=("identical",), setup=before, rounds=ROUNDS, warmup_rounds=1)
    us = {name: np.array(values[1:]) for name, values in times.items()}
    benchmark.extra_info["us"] = {name: float(np.median(values)) for name, values in us.items()}
    ratio = {name: float(np.median(values / us["identical"])) for name, values in us.items()}
    # A quarter of the mixed batch is Wasserstein's: the time that it would take by its members' own.
    expected = 0.75 + 0.25 * us["identical wasserstein"] / us["identical"]
    ratio["mixed over the sum of its parts"] = float(
        np.median(us["mixed of four methods"] / us["identical"] / expected)
    )
    benchmark.extra_info["ratio"] = ratio
