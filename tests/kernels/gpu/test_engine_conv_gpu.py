"""The ``cuda`` engine against the ``vmap`` engine on a convolutional network; in the interpreter a few updates."""

import pytest
import torch
from assertions import assert_close, assert_same_bits
from interpreter import INTERPRETED

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.train_step import launches
from test_engine_cuda_gpu import on, out_of_memory

from fastplast.config import Member
from fastplast.engines import CudaEngine, VmapEngine

EXAMPLES = {"cnn": 6, "convnet": 1} if INTERPRETED else {"cnn": 40, "convnet": 40}


def trial_of(make_trial, network: str = "cnn", batch: int = 4):
    members = (Member(30, 1e-3, "none", 0.0), Member(31, 1e-3, "regenerative", 0.1))
    return make_trial(
        members, network=network, benchmark="cifar_shuffle", activation="tanh", optimizer="sgd",
        examples=EXAMPLES[network], batch_size=batch, widths=(4,), channels=(2, 3),
    )  # fmt: skip


@pytest.mark.parametrize(("network", "batch"), [("cnn", 4), ("convnet", 1)])
def test_a_convolutional_network_trains_as_by_the_vmap_engine(network, batch, device, make_trial):
    trial = trial_of(make_trial, network, batch)
    slow, fast = (on(trial, device, kind) for kind in (VmapEngine, CudaEngine))
    expected, sums = slow.train(1), fast.train(1)
    updates = int(fast.state.steps[0])
    assert fast.state.steps.tolist() == slow.state.steps.tolist()
    moved = float((slow.state.params - slow.state.init).abs().max())
    assert moved > 0
    length = 4 * 32 * 32  # examples and pixels behind a gradient, at most
    scale = moved + float(torch.finfo(torch.float32).eps) * updates / 1e-4
    assert_close("parameters", fast.state.params, slow.state.params, length=length, scale=scale)
    for name in ("loss", "update_l1", "update_l2"):
        assert_close(name, getattr(sums, name), getattr(expected, name), length=length)


def test_members_are_trained_one_by_one_to_the_same_bits_where_memory_does_not_suffice(device, make_trial, monkeypatch):
    trial = trial_of(make_trial)
    free, short = (on(trial, device, CudaEngine) for _ in range(2))
    free.train()
    monkeypatch.setattr(launches, "allocate", out_of_memory(launches.allocate, lambda params, *_: len(params), 1))
    with pytest.warns(UserWarning, match="GPU memory does not suffice for 2 members at once: 1 are trained at a time"):
        short.train()
    for name, value in free.state.tensors().items():
        assert_same_bits(name, getattr(short.state, name), value)
