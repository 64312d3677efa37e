"""A run goes on with the data and the network it was started with, or not at all."""

import json

import numpy as np
import pytest
import torch
from small_runs import drain, small
from torch import nn

import fastplast as fp
from fastplast.config import TAKES_STRENGTH, ConfigError
from fastplast.data import from_arrays
from fastplast.methods import METHODS, Method, register
from fastplast.srank_validation.cases import validate_run
from fastplast.training.loop import EpochDone
from fastplast.training.start import start

TINY = {"examples": 12, "tasks": 2, "epochs": 2, "batch_size": 6, "srank": "off", "dataset": "mnist", "widths": None}
GRID = {"examples": 12, "tasks": 1, "epochs": 1, "batch_size": 6, "widths": [5, 4, 4], "srank": "off", "threads": 1}
GRID |= {"engine": "vmap"}


def arrays(seed: int):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (20, 4, 4), dtype=np.uint8), np.arange(20) % 4


def factory(activation: type[nn.Module] = nn.ReLU, drop: float = 0.1):
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 5), activation(), nn.Dropout(drop), nn.Linear(5, 4))


class Functional(nn.Module):
    function = staticmethod(torch.relu)

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(16, 5), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.function(self.body(x.flatten(1))))


def stopped(path, network=None, data=None, **changes):
    _, events = start(small(path, **TINY | changes), network, dataset=data)
    drain(events, 1, EpochDone)
    events.close()
    return path


def forget_identity(path):
    env = json.loads((path / "env.json").read_text())
    del env["identity"]
    (path / "env.json").write_text(json.dumps(env))


def test_data_that_were_replaced_are_refused_and_both_checksums_named(tmp_path):
    file, first, second = tmp_path / "own.npz", arrays(0), arrays(1)
    np.savez(file, images=first[0], labels=first[1])
    run = stopped(tmp_path / "run", dataset=str(file), widths=(5, 4, 4), engine="vmap")
    was = fp.load(run).identity["data"]
    np.savez(file, images=second[0], labels=second[1])
    now = fp.data.load_own(file).identity
    with pytest.raises(ConfigError, match=f"got SHA-256 {now[:12]}, not {was[:12]}"):
        fp.resume(run)
    with pytest.raises(ConfigError, match="data must be those"):
        list(validate_run(run))
    np.savez(file, images=first[0], labels=first[1])
    assert fp.resume(run).is_finished


def test_data_of_another_type_or_other_labels_of_equal_bytes_have_another_identity():
    images, labels = np.zeros((520, 2, 2), np.uint8), np.arange(520)
    swapped = labels.copy()
    swapped[[0, 256]] = swapped[[256, 0]]
    data, other = from_arrays(images, labels), from_arrays(images, swapped)
    assert data.checksum == other.checksum  # a byte for each label
    assert data.identity != other.identity
    assert from_arrays(images.reshape(520, 1, 4), labels).identity != data.identity


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (factory(), factory(nn.Tanh), "structure"),
        (factory(), factory(drop=0.5), "output"),
    ],
    ids=["activation", "dropout"],
)
def test_another_module_of_the_same_shapes_is_refused(before, after, text, tmp_path):
    data = from_arrays(*arrays(0))
    run = stopped(tmp_path / "run", before, data)
    with pytest.raises(ConfigError, match=f"was started with: got module:Sequential with {text}"):
        fp.resume(run, after, data)
    assert fp.resume(run, before, data).is_finished


def test_a_module_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    data = from_arrays(*arrays(0))
    run = stopped(tmp_path / "run", Functional, data)
    monkeypatch.setattr(Functional, "function", staticmethod(torch.tanh))
    with pytest.raises(ConfigError, match=r"module:Functional with output .* on fixed inputs, not"):
        fp.resume(run, Functional, data)


def test_a_run_that_was_stored_without_an_identity_goes_on(tmp_path):
    data = from_arrays(*arrays(0))
    run = stopped(tmp_path / "run", factory(), data)
    forget_identity(run)
    assert fp.resume(run, factory(nn.Tanh), data).is_finished


def test_a_sweep_is_neither_extended_nor_read_with_other_data(tmp_path):
    file, first, second = tmp_path / "own.npz", arrays(0), arrays(1)
    np.savez(file, images=first[0], labels=first[1])
    grid = GRID | {"dataset": str(file), "seeds": 1}
    fp.sweep(grid, tmp_path / "sweep")
    np.savez(file, images=second[0], labels=second[1])
    with pytest.raises(ConfigError, match="data must be those that"):
        fp.sweep(grid | {"seeds": 2}, tmp_path / "sweep")
    fp.sweep(grid | {"seeds": (1,)}, tmp_path / "other")
    with pytest.raises(OSError, match="shards of a sweep must have the same data"):
        fp.load(tmp_path / "sweep", tmp_path / "other").metrics()


def test_columns_name_the_data_that_were_used(tmp_path):
    data = from_arrays(*arrays(0), name="stripes")
    metrics = fp.train(small(tmp_path / "run", **TINY), factory(), data).metrics()
    assert {*metrics.dataset} == {"stripes"}
    assert {*metrics.data_source} == {"own"}
    named = from_arrays(*arrays(0), name="mnist")
    metrics = fp.train(small(tmp_path / "named", **TINY), factory(), named).metrics()
    assert {*metrics.data_source} == {"own"}


@pytest.mark.parametrize(
    ("after", "ranked"),
    [(lambda i, layout: i / 3, False), (lambda i, layout: torch.zeros_like(i), True)],
    ids=["anchor", "ranked"],
)
def test_another_method_of_the_same_name_is_refused(after, ranked, tmp_path):
    def before(init, layout):
        return init / 2 if not ranked else torch.zeros_like(init)

    try:
        register("own", Method(before, False, "", ""))
        run = stopped(tmp_path / "run", widths=(5, 4, 4), engine="vmap", method="own", strength=1.0)
        register("own", Method(after, ranked, "", ""))
        with pytest.raises(ConfigError, match=r"method own must be the one that .* was started with: got .* anchor"):
            fp.resume(run)
        register("own", Method(before, False, "", ""))
        assert fp.resume(run).is_finished
    finally:
        METHODS.pop("own")
        TAKES_STRENGTH.pop("own")
