"""Seconds of the Hessian of a user's module, as a run measures it, beside that of its block alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fastplast.config import Experiment
from fastplast.curvature import block_loss, measure_block
from fastplast.measuring.hessian import block_names, measure_modules
from fastplast.problems import make_task
from fastplast.training.setup import prepare

EXAMPLES, ROUNDS = 256, 5


def convolutional() -> nn.Module:
    """Three convolutions below the block, which a derivative with respect to all parameters would go through."""
    convolutions = nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU()
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 10))


class Attention(nn.Module):
    """Two heads over the rows of an image; the block is the projection before attention, and the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.project, self.head = nn.Linear(28, 8), nn.Linear(8, 24), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        q, k, v = self.project(self.rows(x.flatten(1, 2))).unflatten(2, (2, 12)).transpose(1, 2).split(4, dim=3)
        h = functional.scaled_dot_product_attention(q, k, v)
        return self.head(h.transpose(1, 2).flatten(2).mean(1))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of attention over members, in training
@pytest.mark.parametrize("factory", [convolutional, Attention])
def test_module(benchmark, factory: Callable[[], nn.Module]) -> None:
    setup = prepare(Experiment(seeds=1, tasks=1, examples=EXAMPLES, srank="start", threads=1), factory)
    network, task = setup.group.network, make_task(setup.problem, 0)
    names, module = block_names(network), factory().eval()
    module.load_state_dict({name: view[0] for name, view in network.layout.views(setup.state.params).items()})
    x = task.inputs(torch.arange(EXAMPLES)[None])[0].view(-1, *network.shape)

    def direct() -> Tensor:
        loss, block = block_loss(module, names, x, task.labels[0])
        return measure_block([loss], block[None]).trace

    def measured() -> Tensor:
        return measure_modules(network, setup.state, task).trace

    runs = {"a run's measurement": measured, "its block": direct}
    times: dict[str, list[float]] = {name: [] for name in runs}

    def all_in_turn() -> None:
        traces = []
        for name, run in runs.items():
            begun = time.process_time()
            traces.append(run())
            times[name].append(time.process_time() - begun)
        torch.testing.assert_close(*traces, rtol=1e-9, atol=0.0)

    size = sum(network.layout[name].count for name in names)
    benchmark.group = f"Hessian of {size} parameters of a module, {EXAMPLES} examples, one thread: process seconds"
    benchmark.pedantic(all_in_turn, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update({name: float(np.median(values[1:])) for name, values in times.items()})
