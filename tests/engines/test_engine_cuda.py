"""Which experiments the ``cuda`` engine serves; what it does is tested in tests/kernels/gpu."""

import dataclasses
import importlib.util
import subprocess
import sys

import pytest
import torch

from fastplast.config import ConfigError, Experiment, Member
from fastplast.engines import choose, choose_device, choose_engine
from fastplast.engines.cuda import _GRAPH, _MOST_MEMBERS, _parts, missing_on_cuda

CUDA = torch.device("cuda")
MODIFIED = {"activation": "crelu", "layer_norm": True, "dropout": 0.1}
CONVOLUTIONS = {"network": "cnn", "benchmark": "cifar_shuffle"}


@pytest.fixture
def with_triton(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.usefixtures("with_triton")
def test_what_it_cannot_serve_is_named_when_forced_and_left_to_vmap_otherwise(make_trial):
    trial = make_trial(module=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 5)))
    reason = "it has no kernels for the module Sequential"
    with pytest.raises(ConfigError, match=f"--engine cuda cannot serve this experiment: .*{reason}. Use --engine vmap"):
        choose_engine(Experiment(engine="cuda"), trial.group, trial.state, CUDA)
    assert reason in (missing_on_cuda(trial.group, CUDA) or "")


@pytest.mark.usefixtures("with_triton")
@pytest.mark.parametrize(
    "options",
    [
        {}, MODIFIED, CONVOLUTIONS, CONVOLUTIONS | MODIFIED, CONVOLUTIONS | {"network": "convnet"},
        CONVOLUTIONS | {"network": "convnet"} | MODIFIED,
    ],
)  # fmt: skip
def test_built_in_networks_are_served_on_a_gpu_only(options, make_trial):
    trial = make_trial(**options)
    assert missing_on_cuda(trial.group, CUDA) is None
    assert missing_on_cuda(trial.group, torch.device("cpu")) == "it trains on an NVIDIA GPU, not on cpu"


def test_a_machine_without_triton_is_told(make_trial, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing_on_cuda(make_trial().group, CUDA) == "it needs Triton, which is not installed"


@pytest.mark.parametrize("count", [1, 80, _GRAPH, _GRAPH + 1, 3 * _GRAPH + 7])
def test_graphs_make_all_updates_with_two_lengths_at_most(count):
    assert sum(_parts(count)) == count
    assert len(set(_parts(count))) <= 2


@pytest.mark.usefixtures("with_triton")
def test_it_is_on_request_only_until_it_has_run_on_a_gpu(make_trial, monkeypatch):
    trial = make_trial()
    engine = choose_engine(Experiment(engine="auto"), trial.group, trial.state, torch.device("cpu"))
    assert engine.name == "cpu"
    monkeypatch.setattr(choose, "VmapEngine", lambda group, state, device, notice: notice)
    assert "ask for it with --engine cuda" in choose_engine(Experiment(), trial.group, trial.state, CUDA)


@pytest.mark.usefixtures("with_triton")
def test_more_members_than_a_launch_can_have_are_refused(make_trial):
    group = make_trial().group
    many = dataclasses.replace(group, members=(Member(1, 1e-3, "none", 0.0),) * (_MOST_MEMBERS + 1))
    assert missing_on_cuda(many, CUDA) == "it trains at most 65,535 members at once, not 65,536"


def test_nothing_of_it_is_imported_where_it_is_not_used():
    code = (
        "import sys, fastplast.engines; "
        "assert not {'triton', 'nvtx', 'fastplast_kernels.train_step.gpu'} & set(sys.modules), sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
            "downloading and installing a new version",
            "its driver is too old for this PyTorch, built for CUDA 12.8 (it is of CUDA 11.4)",
        ),
        (
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
            "there is no NVIDIA driver",
        ),
        ("No CUDA GPUs are available", "the driver lists none; is CUDA_VISIBLE_DEVICES empty?"),
        (
            "Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted",
            "CUDA does not start: Unexpected error from cudaGetDeviceCount()",
        ),
    ],
)
@pytest.mark.parametrize("asked", ["device", "engine"])
def test_no_gpu_no_driver_and_a_driver_that_does_not_work_are_told_apart(said, told, asked, monkeypatch):
    def init() -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(ConfigError) as error:
        choose_device(Experiment(**{asked: "cuda"}))
    assert str(error.value) == f"--{asked} cuda needs an NVIDIA GPU: {told}. Use --device cpu."


def test_a_build_without_cuda_is_told(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--engine cuda needs an NVIDIA GPU: this PyTorch is built without CUDA"):
        choose_device(Experiment(engine="cuda"))


@pytest.mark.parametrize("engine", ["auto", "vmap", "cpu"])
def test_tf32_is_refused_by_engines_without_it(engine):
    with pytest.raises(ConfigError, match=f"--tf32 belongs to --engine cuda: got --engine {engine}"):
        Experiment(tf32=True, engine=engine)


@pytest.mark.usefixtures("with_triton")
def test_tf32_reaches_the_engine_and_the_configuration(make_trial, monkeypatch):
    trial, experiment = make_trial(), Experiment(tf32=True, engine="cuda")
    assert experiment.to_dict()["tf32"] is True
    assert Experiment.from_dict(experiment.to_dict()).tf32
    assert "tf32" not in Experiment().to_dict()
    monkeypatch.setattr(choose, "CudaEngine", lambda group, state, device, precision: precision)
    assert choose_engine(experiment, trial.group, trial.state, CUDA) == "tf32"
    assert choose_engine(Experiment(engine="cuda"), trial.group, trial.state, CUDA) == "ieee"


@pytest.mark.usefixtures("with_triton")
def test_gpus_that_the_kernels_are_not_made_for_are_named(make_trial, monkeypatch):
    group = make_trial().group
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    text = "its kernels need compute capability 8.0 or newer, and this GPU has 7.5"
    assert missing_on_cuda(group, CUDA) == text
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert missing_on_cuda(group, CUDA) == "its kernels are for NVIDIA GPUs, and this PyTorch is built for ROCm"


def test_one_of_several_gpus_is_chosen_by_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(Experiment(device="cuda:1")) == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="--device must be one of 2 GPUs, cuda:0 to cuda:1: got cuda:2"):
        choose_device(Experiment(device="cuda:2"))
    with pytest.raises(ConfigError, match="--device must be a known name: got 'cuda:x'"):
        Experiment(device="cuda:x")
    with pytest.raises(ConfigError, match="--engine cpu cannot train on --device cuda"):
        Experiment(device="cuda:1", engine="cpu")
