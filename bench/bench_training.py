"""Microseconds of one update of one member, side by side: the engines, and the same training as users have it today."""

from __future__ import annotations

import time

import numpy as np
import peers
import pytest
import torch

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.problems import make_task
from fastplast.training.setup import Setup, prepare

CALLS = {"mnist_shuffle": 400, "cifar_shuffle": 40}  # updates of a call of engine cpu: half a second, as in training
STEPS = {"mnist_shuffle": 80, "cifar_shuffle": 8}  # of all others
ROUNDS = 9
CHECKED = 5  # updates after which every provider's losses must be those of the vmap engine
PEERS = {
    "torch loop, fused Adam": peers.torch_loop,
    "torch.func.vmap, fused Adam": peers.torch_vmap,
    "JAX vmap": peers.jax_vmap,
    "JAX lax.map": peers.jax_map,
}


def setup_of(benchmark_name: str, members: int, engine: str = "vmap", **fields) -> Setup:
    return prepare(Experiment(benchmark=benchmark_name, seeds=members, srank="off", engine=engine, **fields))


def engine_provider(setup: Setup, task):
    return lambda order: setup.engine.run(setup.state, task, order).loss.numpy()


def provider(name: str, benchmark_name: str, members: int, **fields):
    """A run function and its task; engines by their name."""
    engine = name.split(" ")[1] if name.startswith("engine") else "vmap"
    setup = setup_of(benchmark_name, members, engine, **fields)
    task = make_task(setup.problem, 0)
    return PEERS[name](setup, task) if name in PEERS else engine_provider(setup, task)


def orders(members: int, epoch: int, epochs: int = 1) -> torch.Tensor:
    drawn = (seeding.orders(list(range(members)), 1280, 16, 0, i) for i in range(epoch, epoch + epochs))
    return torch.from_numpy(np.concatenate(list(drawn), 1))


def check(name: str, benchmark_name: str, members: int) -> None:
    """A provider whose first losses are not those of the vmap engine gets no time."""
    order = orders(members, 0)[:, :CHECKED].contiguous()
    truth = np.asarray(provider("engine vmap", benchmark_name, members)(order))
    ours = np.asarray(provider(name, benchmark_name, members)(order))
    np.testing.assert_allclose(ours, truth, rtol=2e-4, err_msg=f"{name} is wrong: no time is reported")


def side_by_side(benchmark, runs: dict, updates: int | dict[str, int], members: dict[str, int]) -> None:
    """Times the first run with pytest-benchmark, and all others in turn before each of its rounds.

    A call makes so many updates of each member, of all runs or by their names.

    ``extra_info["us"]`` gets the median microseconds per member-update of each, ``extra_info["ratio"]`` the median over
    rounds of its time over the first one's, per member-update.
    """
    ours, *others = runs
    steps = updates if isinstance(updates, dict) else dict.fromkeys(runs, updates)
    order = {name: orders(members[name], 0, -(-steps[name] // 80))[:, : steps[name]].contiguous() for name in runs}
    times = {name: [] for name in runs}

    def timed(name: str) -> None:
        begun = time.perf_counter()
        runs[name](order[name])
        times[name].append((time.perf_counter() - begun) / steps[name] / members[name] * 1e6)

    def before() -> None:
        for name in others:
            timed(name)

    benchmark.pedantic(timed, args=(ours,), setup=before, rounds=ROUNDS, warmup_rounds=1)
    if len(times[ours]) < 2:  # --benchmark-disable: one call to see that it runs
        return
    us = {name: np.array(values[1:]) for name, values in times.items()}  # without the warm-up
    benchmark.extra_info["us"] = {name: float(np.median(values)) for name, values in us.items()}
    benchmark.extra_info["ratio"] = {name: float(np.median(values / us[ours])) for name, values in us.items()}


@pytest.mark.parametrize("problem", list(STEPS))
def test_training(benchmark, problem: str) -> None:
    pytest.importorskip("jax", reason="the bench compares with JAX: pip install .[bench]")
    benchmark.group = f"{problem}, 30 members, batch 16, adam"
    names = ["engine cpu", "engine vmap", *PEERS]
    for name in names:
        check(name, problem, 30)
    runs = {name: provider(name, problem, 30) for name in names}
    updates = dict.fromkeys(names, STEPS[problem]) | {"engine cpu": CALLS[problem]}
    side_by_side(benchmark, runs, updates, dict.fromkeys(names, 30))


def test_members(benchmark) -> None:
    benchmark.group = "mnist_shuffle on engine cpu, by the number of members"
    counts = {f"{m} members": m for m in (30, 4, 100, 300, 1000)}
    runs = {name: provider("engine cpu", "mnist_shuffle", m) for name, m in counts.items()}
    updates = {name: 80 * max(1, 150 // m) for name, m in counts.items()}  # half a second, but at least an epoch
    side_by_side(benchmark, runs, updates, counts)


def test_calls(benchmark) -> None:
    benchmark.group = "mnist_shuffle on engine cpu, by the updates of a call"
    calls = {f"{m} members, {n} updates": (m, n) for m, n in ((30, 400), (30, 80), (4, 2960), (4, 80))}
    runs = {name: provider("engine cpu", "mnist_shuffle", m) for name, (m, _) in calls.items()}
    members, updates = ({name: call[i] for name, call in calls.items()} for i in range(2))
    side_by_side(benchmark, runs, updates, members)


@pytest.mark.parametrize("problem", list(STEPS))
def test_threads(benchmark, problem: str) -> None:
    benchmark.group = f"{problem} on engine cpu, by the number of threads"
    runs = {f"{n} threads": provider("engine cpu", problem, 30, threads=n) for n in (2, 1)}
    side_by_side(benchmark, runs, CALLS[problem], dict.fromkeys(runs, 30))


def test_methods(benchmark) -> None:
    benchmark.group = "mnist_shuffle, 30 members, engine cpu, by method"
    runs = {"none": provider("engine cpu", "mnist_shuffle", 30)}
    for method in ("l2", "regenerative", "wasserstein"):
        runs[method] = provider("engine cpu", "mnist_shuffle", 30, method=method, strength=(0.01,))
    updates, slow = dict.fromkeys(runs, 80), "wasserstein on engine vmap"
    runs[slow] = provider("engine vmap", "mnist_shuffle", 30, method="wasserstein", strength=(0.01,))
    side_by_side(benchmark, runs, updates | {slow: 2}, dict.fromkeys(runs, 30))
