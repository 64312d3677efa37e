"""Microseconds of one update of one member by the vmap engine, beside ``torch.func.vmap`` and fused Adam by hand."""

from __future__ import annotations

import numpy as np
import peers
import pytest
from bench_training import CHECKED, STEPS, engine_provider, orders, side_by_side
from torch import nn

from fastplast.config import Experiment
from fastplast.problems import make_task
from fastplast.training.setup import Setup, prepare

BY_HAND = "torch.func.vmap, fused Adam"
EPOCH = 80  # updates of a call of the engine: what it does once a call is part of its time


def setup_of(problem: str, members: int, is_module: bool = False, compiled: bool = False) -> Setup:
    """The paper's network; ``is_module``: as a user's own module."""
    given = Experiment(benchmark=problem, seeds=members, srank="off", engine="vmap", compile=compiled)
    built_in = prepare(given)
    return (
        prepare(given, network=lambda: nn.Sequential(nn.Flatten(), peers.module(built_in, 0)))
        if is_module
        else built_in
    )


def providers(*case, compiled: bool = False) -> dict:
    """The engine and its peer, once their first losses are equal."""
    made = [setup_of(*case, compiled=compiled) for _ in range(2)]
    task = make_task(made[0].problem, 0)
    order = orders(case[1], 0)[:, :CHECKED].contiguous()
    engine, by_hand = engine_provider(made[0], task), peers.torch_vmap(made[1], task, compiled)
    np.testing.assert_allclose(engine(order), by_hand(order), rtol=2e-4, err_msg="wrong: no time is reported")
    return {"engine vmap": engine, BY_HAND: by_hand}


@pytest.mark.parametrize("members", [1, 30, 120])
@pytest.mark.parametrize("problem", list(STEPS))
def test_networks(benchmark, problem: str, members: int) -> None:
    benchmark.group = f"{problem}, {members} members, batch 16, adam, engine vmap and the same by hand"
    runs = providers(problem, members)
    steps = EPOCH if members <= 30 or problem == "mnist_shuffle" else EPOCH // 4
    side_by_side(benchmark, runs, steps, dict.fromkeys(runs, members))


@pytest.mark.parametrize("problem", list(STEPS))
def test_modules(benchmark, problem: str) -> None:
    benchmark.group = f"{problem}, 30 members, a module of one's own, engine vmap and the same by hand"
    runs = providers(problem, 30, True)
    side_by_side(benchmark, runs, EPOCH, dict.fromkeys(runs, 30))


@pytest.mark.parametrize("members", [1, 30])
def test_compiled(benchmark, members: int) -> None:
    benchmark.group = f"mnist_shuffle, {members} members, engine vmap with --compile and torch.compile by hand"
    runs = providers("mnist_shuffle", members, compiled=True)
    side_by_side(benchmark, runs, EPOCH, dict.fromkeys(runs, members))
