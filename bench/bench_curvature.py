"""Seconds of measuring curvature: against Hessian-vector products and an SVD, and beside training.

States are real: networks trained on label-shuffled MNIST, which takes ten minutes at the paper's length of a task, 200
epochs. ``FASTPLAST_BENCH_EPOCHS`` shortens the tasks; what the states look like is in the tables.
"""

from __future__ import annotations

import functools
import os
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.curvature import Curvature, Tail, measure
from fastplast.measuring import probes
from fastplast.measuring.hessian import tail_of
from fastplast.problems import make_task
from fastplast.training.setup import prepare

MEMBERS = 30
PAPER_UPDATES = 16_000
EPOCHS = int(os.environ.get("FASTPLAST_BENCH_EPOCHS", "200"))
TASKS = 7


class Start(NamedTuple):
    """All members at the start of a task.

    Attributes:
        tail: of the members.
        curvature: as a run measures it.
        measuring: seconds of that.
        training: seconds of 16,000 updates of all members, from the epochs that follow.
    """

    tail: Tail
    curvature: Curvature
    measuring: float
    training: float


@functools.cache
def starts(activation: str = "relu", members: int = MEMBERS, tasks: int = TASKS) -> list[Start]:
    """The start of each task of a run; measuring and training take turns."""
    experiment = Experiment(activation=activation, seeds=members, srank="off", engine="cpu", epochs=EPOCHS, tasks=tasks)
    setup = prepare(experiment)
    found, hint = [], None
    for index in range(tasks):
        task = make_task(setup.problem, index)
        inputs = []
        for m in range(members):
            inputs.append(probes.evaluate(setup.group.network, setup.state.params[m], task, m).tail_inputs)
        tail = tail_of(setup.group.network, setup.state.params.clone(), task.labels, inputs)
        begun = time.perf_counter()
        curvature = measure(tail, method="auto", hint=hint)
        measuring, hint, seconds = time.perf_counter() - begun, curvature.srank, []
        for epoch in range(EPOCHS):
            order = torch.from_numpy(seeding.orders(setup.group.seeds, 1280, 16, index, epoch))
            begun = time.perf_counter()
            setup.engine.run(setup.state, task, order)
            seconds.append((time.perf_counter() - begun) / order.shape[1])
        found.append(Start(tail, curvature, measuring, float(np.median(seconds)) * PAPER_UPDATES))
    return found


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
    tail = starts()[1].tail
    tail = tail if state == "full-dimensional" else collapsed(tail)
    four = Tail(*(getattr(tail, n)[:4] for n in ("inputs", "hidden_weight", "hidden_bias", "output_weight",
                                                "output_bias", "labels")), tail.activation)  # fmt: skip
    measure(four)
    benchmark.pedantic(measure, args=(four,), rounds=3)
    ours = benchmark.stats.stats.median / 4
    brute = seconds_of(lambda: brute_force(tail.member(0)))
    benchmark.extra_info["seconds"] = {"exact": ours, "products and SVD": brute}
    benchmark.extra_info["ratio"] = {"exact": 1.0, "products and SVD": brute / ours}


@pytest.mark.parametrize("task", [*range(TASKS), "mean"])
def test_share_of_training(benchmark, task: int | str) -> None:
    if isinstance(task, int):
        chosen, where = [starts()[task]], f"the start of task {task}"
        found = chosen[0].curvature
        names = ", ".join(f"{found.method.count(name)} {name}" for name in sorted(set(found.method)))
        width = int((found.srank_hi - found.srank_lo).max())
        label = f"one measurement: median stable rank {int(found.srank.median())}, {names}, bounds within {width}"
    else:
        chosen, where, label = starts(), f"the start of a task, mean of {TASKS}", "one measurement"
    benchmark.group = f"{MEMBERS} members at {where}, after tasks of {EPOCHS} epochs"
    benchmark.pedantic(lambda: None, rounds=1)
    ours, training = (float(np.mean([getattr(s, name) for s in chosen])) for name in ("measuring", "training"))
    benchmark.extra_info["seconds"] = {label: ours, "a task of 16,000 updates": training}
    benchmark.extra_info["ratio"] = {label: 1.0, "a task of 16,000 updates": training / ours}
