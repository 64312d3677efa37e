"""Modules and methods of users: what would go wrong later is refused before there is a directory."""

import threading

import numpy as np
import pytest
import torch
from small_runs import drain, small
from torch import nn

import fastplast as fp
from fastplast.config import ConfigError
from fastplast.data import from_arrays
from fastplast.methods import METHODS, Method, register
from fastplast.training.loop import EpochDone
from fastplast.training.start import start

TINY = {"examples": 14, "tasks": 2, "epochs": 2, "batch_size": 6, "srank": "off", "widths": None}
DATA = from_arrays(np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8), np.arange(20) % 4)


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 4))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Dropout(0.5), nn.Linear(5, 4))


def reading() -> nn.Module:
    module = plain()
    module.register_forward_hook(lambda module, inputs, output: output.mean().item() and None)
    return module


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16, track_running_stats=False), nn.Linear(16, 4))


def drawn_outside_the_seed() -> nn.Module:
    module = plain()
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(np.random.normal(size=(5, 16))))
    return module


@pytest.fixture
def own_method():
    def add(anchor, ranked=False) -> None:
        register("own", Method(anchor, ranked, "", ""))

    from fastplast.config import TAKES_STRENGTH

    yield add
    METHODS.pop("own", None)
    TAKES_STRENGTH.pop("own", None)


@pytest.mark.parametrize(
    ("factory", "changes", "text"),
    [
        (reading, {}, r"module:Sequential failed on a batch of 6 \(RuntimeError: .*item"),
        (batch_norm, {"examples": 13}, r"failed on a batch of 1 \(ValueError: Expected more than 1 value"),
    ],
    ids=["item", "last-batch"],
)
def test_a_module_that_cannot_be_trained_is_refused_before_there_is_a_directory(factory, changes, text, tmp_path):
    with pytest.raises(ConfigError, match=text):
        fp.train(small(tmp_path / "run", **TINY | changes), factory, DATA)
    assert not (tmp_path / "run").exists()


def test_the_pull_of_a_resumed_run_is_to_the_initial_weights_it_was_started_with(tmp_path):
    e = small(tmp_path / "run", **TINY, method="regenerative", strength=10.0, seeds=1)
    _, events = start(e, drawn_outside_the_seed, dataset=DATA)
    drain(events, 3, EpochDone)
    events.close()
    metrics = fp.resume(tmp_path / "run", drawn_outside_the_seed, DATA).metrics()
    last = metrics.iloc[-1]
    # Weights stay within reach of their start; newly drawn ones are at a distance of about sqrt(2).
    assert last.penalty < 1
    assert last.init_distance_l2 < 3


def test_dropout_in_two_threads_is_as_alone(tmp_path):
    def train(name: str) -> None:
        runs[name] = fp.train(small(tmp_path / name, **TINY, epoch_curves=True), dropping, DATA).metrics()

    runs = {}
    train("alone")
    threads = [threading.Thread(target=train, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("a", "b"):
        assert runs[name].equals(runs["alone"])


@pytest.mark.parametrize("method", ["none", "l2", "regenerative", "wasserstein"])
def test_a_default_of_float64_changes_no_bit_and_is_restored(method, tmp_path):
    changes = TINY | {"method": method} | ({} if method == "none" else {"strength": 0.1})
    before = torch.get_default_dtype(), torch.get_num_threads()
    usual = fp.train(small(tmp_path / "a", **changes), plain, DATA).metrics()
    torch.set_default_dtype(torch.float64)
    try:
        double = fp.train(small(tmp_path / "b", **changes), plain, DATA).metrics()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before[0])
    assert double.equals(usual)
    assert torch.get_num_threads() == before[1]


def change_in_place(init, layout):
    init.mul_(0.5)
    return init.clone()


@pytest.mark.parametrize(
    ("anchor", "ranked", "text"),
    [
        (lambda i, layout: i.mean(0, keepdim=True), False, r"must be float32 \[3, .*got float32 \[1, "),
        (lambda i, layout: i.double(), False, r"must be float32 .*got float64 \[3, "),
        (lambda i, layout: i.numpy(), False, "got ndarray"),
        (change_in_place, False, "must leave initial parameters as they are"),
        (lambda i, layout: i / 0, False, "must be finite"),
        (lambda i, layout: i.clone(), True, "must be sorted: got 1.weight in another order"),
    ],
    ids=["shape", "dtype", "type", "in-place", "nan", "unsorted"],
)
def test_an_anchor_that_cannot_be_one_is_refused(anchor, ranked, text, own_method, tmp_path):
    own_method(anchor, ranked)
    with pytest.raises(ValueError, match=text):
        fp.train(small(tmp_path / "run", **TINY, method="own", strength=1.0, seeds=3), plain, DATA)
    assert not (tmp_path / "run").exists()


def test_an_anchor_that_is_expanded_is_as_one_that_is_copied(own_method, tmp_path):
    tables = []
    for name, anchor in (
        ("a", lambda i, layout: i.mean(0, keepdim=True).expand_as(i)),
        ("b", lambda i, layout: i.mean(0, keepdim=True).repeat(len(i), 1)),
    ):
        own_method(anchor)
        run = fp.train(small(tmp_path / name, **TINY, method="own", strength=10.0, seeds=6), plain, DATA)
        tables.append(run.metrics())
    assert tables[0].equals(tables[1])
    assert not tables[0].diverged.any()
