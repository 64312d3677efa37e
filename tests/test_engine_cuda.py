"""Which experiments the ``cuda`` engine serves; what it does is tested in tests/kernels/gpu."""

import importlib.util

import pytest
import torch

from fastplast.config import ConfigError, Experiment
from fastplast.engines import choose_engine
from fastplast.engines.cuda import _GRAPH, _parts, missing_on_cuda

CUDA = torch.device("cuda")


@pytest.fixture
def with_triton(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"network": "cnn", "benchmark": "cifar_shuffle"}, "it has no kernel for convolutions"),
        ({"activation": "crelu"}, "it has no kernel for crelu"),
        ({"layer_norm": True}, "it has no kernel for layer normalisation"),
        ({"dropout": 0.1}, "it has no kernel for dropout"),
        ({"module": lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 5))}, "the module Sequential"),
    ],
)
@pytest.mark.usefixtures("with_triton")
def test_what_it_cannot_serve_is_named_when_forced_and_left_to_vmap_otherwise(options, reason, make_trial):
    trial = make_trial(**options)
    with pytest.raises(ConfigError, match=f"--engine cuda cannot serve this experiment: .*{reason}. Use --engine vmap"):
        choose_engine(Experiment(engine="cuda"), trial.group, trial.state, CUDA)
    assert reason in (missing_on_cuda(trial.group, CUDA) or "")


@pytest.mark.usefixtures("with_triton")
def test_perceptrons_are_served_on_a_gpu_only(make_trial):
    trial = make_trial()
    assert missing_on_cuda(trial.group, CUDA) is None
    assert missing_on_cuda(trial.group, torch.device("cpu")) == "it trains on an NVIDIA GPU, not on cpu"


def test_a_machine_without_triton_is_told(make_trial, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing_on_cuda(make_trial().group, CUDA) == "it needs Triton, which is not installed"


@pytest.mark.parametrize("count", [1, 80, _GRAPH, _GRAPH + 1, 3 * _GRAPH + 7])
def test_graphs_make_all_updates_with_two_lengths_at_most(count):
    assert sum(_parts(count)) == count
    assert len(set(_parts(count))) <= 2
