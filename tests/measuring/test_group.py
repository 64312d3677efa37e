"""What is measured of a group does not depend on the number of threads."""

import math

import pytest
import torch
from small_runs import table
from torch import nn

import fastplast as fp
from fastplast.engines import pull_of
from fastplast.measuring.group import measure_group

WIDE = {"examples": 512, "widths": (128, 20, 10)}  # sums long enough for torch to split them among threads


def columns_of(trial, threads: int):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pull = pull_of(trial.group, trial.state)
        found = measure_group(trial.group, trial.state, trial.task(1), pull, with_probes=True, with_hessian=True)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {"activation": "tanh", "method": "wasserstein", "strength": 0.1, **WIDE},
        {"activation": "crelu", "examples": 512, "widths": (64, 8, 4)},
        {"layer_norm": True, "examples": 512, "widths": (64, 8, 6)},
        {"benchmark": "cifar_shuffle", "channels": (16, 32, 64), "examples": 128, "widths": (64, 10)},
    ],
    ids=["closed tail, penalty", "crelu, by products", "layer norm, by products", "convolutions"],
)
def test_measurements_have_the_same_bits_with_any_number_of_threads(fields, make_trial, make_dataset):
    dataset = make_dataset(520, (3, 32, 32) if "channels" in fields else (1, 28, 28), 10)
    trial = make_trial(**{"benchmark": "mnist_shuffle", "learning_rate": 0.01, "dataset": dataset, **fields})
    trial.train(1)
    one, two = columns_of(trial, 1), columns_of(trial, 2)
    assert one.columns == two.columns
    assert all(torch.equal(a, b) for a, b in zip(one.eigenvalues, two.eigenvalues))
    assert len(one.columns["hessian_srank"]) == 3
    assert all(map(math.isfinite, one.columns["hessian_sharpness"]))


def test_measurements_of_a_users_module_have_the_same_bits_with_any_number_of_threads(make_trial, make_dataset):
    def module():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))

    trial = make_trial(module=module, examples=96, dataset=make_dataset(520, (1, 28, 28), 10))
    trial.train(1)
    one, two = columns_of(trial, 1), columns_of(trial, 2)
    assert one.columns == two.columns
    assert len({tuple(v.tolist()) for v in one.eigenvalues}) == 3  # no member was measured with another's parameters


def test_a_run_has_the_same_metrics_with_any_number_of_threads(tmp_path):
    tables = []
    for threads in (1, 2):
        fields = {"tasks": 2, "epochs": 1, "seeds": 3, "activation": "tanh", "srank": "both", "threads": threads}
        fp.train(fp.Experiment(benchmark="mnist_shuffle", out=str(tmp_path / str(threads)), **fields, **WIDE))
        tables.append(table(tmp_path / str(threads)))
    assert tables[0].equals(tables[1])
