"""CReLU, layer normalisation and dropout on the ``cpu`` engine: equal to ``vmap``, independent, split as one likes."""

import copy
from itertools import product

import pytest
import torch
from assertions import assert_same_bits
from test_engine_cpu import (
    POOLED,
    SUMS,
    assert_equal_curves,
    assert_equal_gradients,
    assert_equal_update,
    mixed_trial,
    with_cpu,
)

from fastplast.config import OPTIMIZERS, Experiment
from fastplast.engines import CpuEngine, choose_engine

CHANGES = {
    "crelu": {"activation": "crelu"},
    "layer norm": {"activation": "tanh", "layer_norm": True},
    "dropout": {"activation": "relu", "dropout": 0.3},
    "all": {"activation": "crelu", "layer_norm": True, "dropout": 0.2},
}
NETWORKS = {"mlp": 30, "cnn": 40, "convnet": 50}  # to the seed of the first member
CASES = list(product(NETWORKS, CHANGES))


def changed(make_trial, network: str, change: str, optimizer: str = "adam", **options):
    fields = dict(CHANGES[change])
    seed = NETWORKS[network]
    return mixed_trial(make_trial, network, fields.pop("activation"), optimizer, seed, **fields, **options)


@pytest.mark.parametrize(("network", "change", "optimizer"), list(product(NETWORKS, CHANGES, OPTIMIZERS)))
def test_two_hundred_updates_with_every_method_equal_the_vmap_engine(network, change, optimizer, make_trial):
    trials = (changed(make_trial, network, change, optimizer) for _ in range(2))
    assert_equal_curves(*trials, rejoined=network in POOLED)


@pytest.mark.parametrize(("network", "change"), CASES)
def test_gradients_equal_the_vmap_engine(network, change, make_trial):
    calm = {"momentum": 0.0, "weight_decay": 0.0, "learning_rate": (1.0,), "epochs": 1}
    assert_equal_gradients(changed(make_trial, network, change, "sgd", **calm))


@pytest.mark.parametrize(("network", "change"), CASES)
def test_one_update_equals_the_vmap_engine(network, change, make_trial):
    assert_equal_update(changed(make_trial, network, change))


@pytest.mark.parametrize(("network", "change"), CASES)
def test_a_member_has_the_same_bits_alone_with_any_threads_and_in_calls_split_differently(network, change, make_trial):
    together = with_cpu(changed(make_trial, network, change), threads=2)
    parts, alone = copy.copy(together), []
    parts = with_cpu(changed(make_trial, network, change))
    for row, threads in product(range(4), (1, 2)):
        fields = CHANGES[change] | {"benchmark": together.experiment.benchmark, "network": network}
        members = together.group.members[row : row + 1]
        alone.append((row, with_cpu(make_trial(members, batch_size=9, weight_decay=0.01, **fields), threads)))
    sums = together.train(2)
    for epoch, step in product(range(2), range(together.order().shape[1])):
        parts.engine.run(parts.state, parts.task(), parts.order(epoch)[:, step : step + 1])
    for name in ("params", "m", "v", "steps"):
        assert_same_bits(name, getattr(parts.state, name), getattr(together.state, name))
    for row, one in alone:
        own = one.train(2)
        for name in ("params", "m", "v", "steps", "diverged"):
            assert_same_bits(name, getattr(one.state, name), getattr(together.state, name)[row : row + 1])
        for name in SUMS:
            assert_same_bits(name, getattr(own, name), getattr(sums, name)[row : row + 1])


@pytest.mark.parametrize(("network", "change"), CASES)
def test_auto_takes_the_cpu_engine(network, change, make_trial):
    trial = changed(make_trial, network, change)
    assert isinstance(choose_engine(Experiment(), trial.group, trial.state, torch.device("cpu")), CpuEngine)


def test_masks_depend_on_the_seed_and_on_no_batch_mate(make_trial):
    trial = changed(make_trial, "mlp", "dropout")
    keys = CpuEngine(trial.group, trial.state, 1)._keys
    assert torch.equal(keys, trial.engine._keys)
