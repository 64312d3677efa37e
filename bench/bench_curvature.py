"""Seconds of measuring curvature: against Hessian-vector products and an SVD, by stable rank, and beside training.

States are real: networks trained on label-shuffled MNIST with short tasks, which takes a minute; what they look like is
in the tables. ``FASTPLAST_BENCH_EPOCHS`` (default 20) is the length of their tasks; 200 is the paper's.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fastplast import probes, seeding
from fastplast.config import Experiment
from fastplast.curvature import Tail, measure
from fastplast.measure import tail_of
from fastplast.problems import make_task
from fastplast.trainer import prepare

MEMBERS = 30
PAPER_UPDATES = 16_000
EPOCHS = int(os.environ.get("FASTPLAST_BENCH_EPOCHS", "20"))
TASKS = 7
RESULTS = Path(__file__).parent / "results"


@functools.cache
def states() -> tuple[dict[int, Tail], float]:
    """The tails of all members at the start of each task, and seconds of one member-update of the cpu engine."""
    setup = prepare(Experiment(seeds=MEMBERS, srank="off", engine="cpu", epochs=EPOCHS, tasks=TASKS))
    found, seconds = {}, []
    for index in range(TASKS):
        task = make_task(setup.problem, index)
        inputs = []
        for m in range(MEMBERS):
            inputs.append(probes.evaluate(setup.group.network, setup.state.params[m], task, m).tail_inputs)
        found[index] = tail_of(setup.group.network, setup.state.params.clone(), task.labels, inputs)
        for epoch in range(EPOCHS):
            order = torch.from_numpy(seeding.orders(setup.group.seeds, 1280, 16, index, epoch))
            begun = time.perf_counter()
            setup.engine.run(setup.state, task, order)
            seconds.append((time.perf_counter() - begun) / order.shape[1] / MEMBERS)
    return found, float(np.median(seconds))


def collapsed(tail: Tail, alive: int = 4) -> Tail:
    """The same tails with few inputs and units alive, as lost plasticity leaves them."""
    inputs, weight, bias = tail.inputs.clone(), tail.hidden_weight.clone(), tail.hidden_bias.clone()
    inputs[..., alive:] = 0.0
    weight[:, 2 * alive :], bias[:, 2 * alive :] = 0.0, -1.0
    return Tail(inputs, weight, bias, tail.output_weight, tail.output_bias, tail.labels, tail.activation)


def brute_force(tail: Tail) -> None:
    """2,410 Hessian-vector products of automatic differentiation, and an SVD: how it is done without this library."""
    weight, bias, out_weight, out_bias = (
        t[0] for t in (tail.hidden_weight, tail.hidden_bias, tail.output_weight, tail.output_bias)
    )
    shapes = [t.shape for t in (weight, bias, out_weight, out_bias)]
    block = torch.cat([t.flatten() for t in (weight, bias, out_weight, out_bias)])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = [p.view(s) for p, s in zip(vector.split([s.numel() for s in shapes]), shapes)]
        hidden = torch.relu(tail.inputs[0] @ parts[0].T + parts[1])
        return torch.nn.functional.cross_entropy(hidden @ parts[2].T + parts[3], tail.labels[0])

    gradient = torch.func.grad(loss)
    product = torch.func.vmap(lambda v: torch.func.jvp(gradient, (block,), (v,))[1])
    columns = torch.cat([product(part) for part in torch.eye(len(block), dtype=block.dtype).split(64)])
    torch.linalg.svdvals(columns)


def seconds_of(run, rounds: int = 1) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


@pytest.mark.parametrize("state", ["full-dimensional", "collapsed"])
def test_exact_against_brute_force(benchmark, state: str) -> None:
    benchmark.group = f"one member, {state}: exact route against 2,410 Hessian-vector products and an SVD"
    tail = states()[0][1]
    tail = tail if state == "full-dimensional" else collapsed(tail)
    four = Tail(*(getattr(tail, n)[:4] for n in ("inputs", "hidden_weight", "hidden_bias", "output_weight",
                                                "output_bias", "labels")), tail.activation)  # fmt: skip
    measure(four)
    benchmark.pedantic(measure, args=(four,), rounds=3)
    ours = benchmark.stats.stats.median / 4
    brute = seconds_of(lambda: brute_force(tail.member(0)))
    benchmark.extra_info["seconds"] = {"exact": ours, "products and SVD": brute}
    benchmark.extra_info["ratio"] = {"exact": 1.0, "products and SVD": brute / ours}


@pytest.mark.parametrize("task", [0, 1, 3, 6])
def test_share_of_training(benchmark, task: int) -> None:
    tails, update = states()
    training = update * PAPER_UPDATES * MEMBERS
    benchmark.group = f"{MEMBERS} members at the start of task {task}, after tasks of {EPOCHS} epochs"
    found = benchmark.pedantic(measure, args=(tails[task],), kwargs={"method": "auto"}, rounds=1)
    names = ", ".join(f"{found.method.count(name)} {name}" for name in sorted(set(found.method)))
    measured = f"one measurement: median stable rank {int(found.srank.median())}, {names}"
    ours = benchmark.stats.stats.median
    benchmark.extra_info["seconds"] = {measured: ours, "a task of 16,000 updates": training}
    benchmark.extra_info["ratio"] = {measured: 1.0, "a task of 16,000 updates": training / ours}


def test_lanczos_against_exact(benchmark) -> None:
    """Tails whose stable rank falls as fewer inputs stay alive; writes the crossover figure beside the results."""
    from fastplast.plots import plot_crossover

    benchmark.group = "Lanczos against exact, seconds of one member by stable rank"
    tail = states()[0][1]
    ranks, seconds = [], {"exact": [], "lanczos": []}
    for scale in (0.02, 0.05, 0.1, 0.2, 0.4, 1.0):
        inputs = tail.inputs * scale ** torch.arange(tail.inputs.shape[2], dtype=torch.float64).div(8)
        part = Tail(inputs, tail.hidden_weight, tail.hidden_bias, tail.output_weight * scale, tail.output_bias,
                    tail.labels, tail.activation).member(0)  # fmt: skip
        exact = measure(part)
        found = measure(part, method="lanczos", hint=exact.srank)
        ranks.append(int(exact.srank))
        seconds["exact"].append(float(exact.seconds))
        seconds["lanczos"].append(float(found.seconds))
    benchmark.pedantic(lambda: None, rounds=1)
    rows = sorted(zip(ranks, seconds["exact"], seconds["lanczos"]))
    benchmark.extra_info["seconds"] = {f"srank {rank}, lanczos": value for rank, _, value in rows}
    benchmark.extra_info["ratio"] = {f"srank {rank}, lanczos": value / exact for rank, exact, value in rows}
    machine = os.environ.get("FASTPLAST_BENCH_MACHINE")
    if machine:
        plot_crossover(ranks, seconds, RESULTS / machine / "crossover.png")
