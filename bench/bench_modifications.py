"""Microseconds of one update of one member by network and modification, on every engine that serves it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_training import engine_provider, orders, setup_of, side_by_side

from fastplast.engines.cpu import missing
from fastplast.problems import make_task

CHANGES = {
    "plain": {},
    "crelu": {"activation": "crelu"},
    "layer norm": {"layer_norm": True},
    "dropout 0.1": {"dropout": 0.1},
}
ENGINES = ("cpu", "vmap")
# Network to benchmark, members, updates per round.
NETWORKS = {
    "mlp": ("mnist_shuffle", 30, 8),
    "cnn": ("cifar_shuffle", 30, 2),
    "convnet": ("cifar_shuffle", 6, 1),
}
CHECKED = 3  # updates after which losses must be those of the vmap engine


def provider(network: str, engine: str, change: dict):
    """A run function of an engine, or None if it doesn't serve the network."""
    problem, members, _ = NETWORKS[network]
    setup = setup_of(problem, members, network=network, **change)
    if engine == "cpu":
        if missing(setup.group, torch.device("cpu")):
            return None
        setup = setup_of(problem, members, engine, network=network, **change)
    return engine_provider(setup, make_task(setup.problem, 0))


def check(network: str, change: dict) -> None:
    """An engine whose first losses are not those of the vmap engine gets no time.

    A pixel within rounding of a kink of its activation, or of the largest of its window, may fall to either side: that
    moves one filter of one member, which loses less than what a wrong kernel does to all.
    """
    order = orders(NETWORKS[network][1], 0)[:, :CHECKED].contiguous()
    found, truth = (provider(network, engine, change) for engine in ENGINES)
    if found and truth:
        away = np.abs(np.asarray(found(order)) / np.asarray(truth(order)) - 1)
        assert np.median(away) < 1e-5, f"{network} {change} is wrong: losses differ by {away}"
        assert away.max() < 2e-3, f"{network} {change} is wrong: losses differ by {away}"


@pytest.mark.parametrize("network", list(NETWORKS))
def test_modifications(benchmark, network: str) -> None:
    problem, members, updates = NETWORKS[network]
    benchmark.group = f"{network} on {problem}, {members} members, batch 16, adam, by modification"
    runs = {}
    for name, change in CHANGES.items():
        check(network, change)
        for engine in ENGINES:
            if run := provider(network, engine, change):
                runs[f"{name}, engine {engine}"] = run
    side_by_side(benchmark, runs, updates, dict.fromkeys(runs, members))
