"""What methods cost on the engines cpu and vmap, beside plain training; mixed in one batch, beside each by itself."""

from __future__ import annotations

import numpy as np
import pytest
from bench_training import engine_provider, orders, side_by_side

from fastplast.config import METHOD_OPTIONS, TAKES_STRENGTH, Experiment, Member
from fastplast.problems import make_task
from fastplast.training.setup import prepare

CALL = 400  # updates of a call of the engine, as training makes it
WARM_UP = 6  # epochs: the first units are reset after some hundred updates, and their weights count anew from then on
ON_VMAP = 2  # updates of a call there
UNITS = ("cbp", "redo", "snr", "regrama")
TRAINED = {  # by the engine that auto chooses; resets of units by both
    "cpu": ("l2", "wasserstein", *UNITS, "clip", "hare_tortoise", "shrink_perturb", "noise", "upgd"),
    "vmap": (*UNITS, "noise", "upgd", "spectral", "parseval", "c_chain"),
}
MIXED = ("none", "l2", "regenerative", *UNITS, "clip")
EACH = 4  # members of a method in the mixed batch


def member_of(method: str, seed: int) -> Member:
    """A member that uses a method with its default hyperparameters."""
    options = {f"{method}_{name}": option.default for name, option in METHOD_OPTIONS.get(method, {}).items()}
    return Member(seed, 1e-3, method, 1e-3 * TAKES_STRENGTH[method], options=options)


def provider(methods: list[str], engine: str, epochs: int = 0):
    """Trains a member of each method of a list, for some epochs at first."""
    members = tuple(member_of(method, seed) for seed, method in enumerate(methods))
    optimizer = "sgd" if "upgd" in methods else "adam"  # it is a rule of its own
    setup = prepare(
        Experiment(benchmark="mnist_shuffle", member_list=members, srank="off", engine=engine, optimizer=optimizer)
    )
    run = engine_provider(setup, make_task(setup.problem, 0))
    for epoch in range(epochs):
        run(orders(len(members), epoch))
    return run


@pytest.mark.parametrize("engine", ["cpu", "vmap"])
def test_beside_plain_training(benchmark, engine: str) -> None:
    benchmark.group = f"mnist_shuffle, 30 members, batch 16, adam, engine {engine}, by method"
    is_cpu = engine == "cpu"
    runs = {name: provider([name] * 30, engine, WARM_UP * is_cpu) for name in ("none", *TRAINED[engine])}
    side_by_side(benchmark, runs, CALL if is_cpu else ON_VMAP, dict.fromkeys(runs, 30))


def test_a_mixed_batch_costs_what_its_parts_cost(benchmark) -> None:
    benchmark.group = f"mnist_shuffle, {EACH} members of each of {len(MIXED)} methods, batch 16, adam, engine cpu"
    together = [name for name in MIXED for _ in range(EACH)]
    runs = {"mixed": provider(together, "cpu", WARM_UP)} | {
        name: provider([name] * EACH, "cpu", WARM_UP) for name in MIXED
    }
    side_by_side(benchmark, runs, CALL, {name: EACH for name in MIXED} | {"mixed": len(together)})
    if us := benchmark.extra_info.get("us"):
        benchmark.extra_info["ratio"]["mixed over the sum of its parts"] = us["mixed"] / float(
            np.mean([us[name] for name in MIXED])
        )
