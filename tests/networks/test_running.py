"""Modules with batch normalisation keep running statistics of each member's own; recurrent ones and attention train."""

import json

import numpy as np
import pytest
import torch
from assertions import assert_close, assert_same_bits
from small_runs import drain, small, table
from torch import Tensor, nn
from torch.nn import functional

import fastplast as fp
from fastplast.data import from_arrays
from fastplast.engines import new_state
from fastplast.networks import ModuleNetwork
from fastplast.networks.running import RunningNorms
from fastplast.problems import make_task
from fastplast.seeding import orders
from fastplast.training.loop import EpochDone
from fastplast.training.setup import prepare
from fastplast.training.start import start

DATA = from_arrays(np.random.default_rng(0).integers(0, 256, (40, 3, 6, 6), dtype=np.uint8), np.arange(40) % 4)
TINY = {"benchmark": "label_shuffle", "dataset": "./own", "examples": 20, "tasks": 2, "epochs": 3, "batch_size": 8,
        "srank": "off", "widths": None, "learning_rate": 0.01}  # fmt: skip


def convolutional(momentum: float | None = 0.1) -> nn.Module:
    first = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, momentum=momentum), nn.ReLU(), nn.Flatten()]
    last = [nn.BatchNorm1d(5, affine=False, momentum=momentum), nn.Linear(5, 4)]
    return nn.Sequential(*first, nn.Linear(64, 5, bias=False), *last)


def cumulative() -> nn.Module:
    return convolutional(None)


def dropping() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 4))


@pytest.mark.parametrize("factory", [convolutional, cumulative])
def test_parameters_and_statistics_are_those_of_an_ordinary_loop(factory, tmp_path):
    setup = prepare(small(tmp_path, **TINY, seeds=(3, 1)), factory, DATA)
    task, state, network = make_task(setup.problem, 1), setup.state, setup.group.network
    assert isinstance(network, ModuleNetwork)
    order = torch.from_numpy(orders([3, 1], 20, 8, 1, 0))
    for member, seed in enumerate((3, 1)):
        module = network._new(seed).train()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for positions in order[member]:
            positions = positions[positions >= 0]
            x = task.inputs(positions.expand(2, -1))[member].view(-1, 3, 6, 6)
            optimizer.zero_grad()
            functional.cross_entropy(module(x), task.labels[member, positions]).backward()
            optimizer.step()
        alone = prepare(small(tmp_path, **TINY, seeds=(seed,)), factory, DATA)
        alone.engine.run(alone.state, make_task(alone.problem, 1), order[member : member + 1])
        found = alone.state.running_of(0)
        assert set(found) == set(dict(module.named_buffers()))
        for name, value in module.named_buffers():
            assert_close(name, found[name].double(), value.double(), dtype=torch.float32, length=64, factor=16.0)
        for name, value in module.named_parameters():
            own = network.layout.views(alone.state.params[0])[name]
            assert_close(name, own.double(), value.detach().double(), dtype=torch.float32, length=64, factor=64.0)
    setup.engine.run(state, task, order)
    assert_same_bits("last", state.params[1], alone.state.params[0])


@pytest.mark.parametrize("factory", [convolutional, dropping])
def test_a_member_has_the_same_bits_alone_in_a_batch_and_resumed(factory, tmp_path):
    fp.train(small(tmp_path / "whole", **TINY, seeds=(0, 1, 2)), factory, DATA)
    fp.train(small(tmp_path / "alone", **TINY, seeds=(1,)), factory, DATA)
    among, alone = table(tmp_path / "whole"), table(tmp_path / "alone")
    among = among[among.seed == 1].reset_index(drop=True)
    assert among.drop(columns="member").equals(alone.drop(columns="member"))
    for epochs in (1, 4):
        path = tmp_path / f"cut{epochs}"
        _, events = start(small(path, **TINY, seeds=(0, 1, 2), checkpoint_minutes=1e-9), factory, dataset=DATA)
        drain(events, epochs, EpochDone)
        events.close()
        fp.resume(path, factory, DATA)
        assert table(path).drop(columns="data_source", errors="ignore").equals(table(tmp_path / "whole"))


def test_a_member_is_measured_with_its_running_statistics(tmp_path):
    run = fp.train(small(tmp_path / "run", **TINY | {"tasks": 1}, seeds=(5, 6)), convolutional, DATA)
    setup = prepare(small(tmp_path / "again", **TINY, seeds=(5, 6)), convolutional, DATA)
    task = make_task(setup.problem, 0)
    for epoch in range(3):
        setup.engine.run(setup.state, task, torch.from_numpy(orders([5, 6], 20, 8, 0, epoch)))
    network = setup.group.network
    for member in (0, 1):
        module = convolutional().double().eval()
        values = network.layout.views(setup.state.params[member]) | setup.state.running_of(member)
        module.load_state_dict({name: value.clone() for name, value in values.items()})
        x = task.inputs(torch.arange(20).expand(2, -1))[member].double().view(-1, 3, 6, 6)
        expected = functional.cross_entropy(module(x), task.labels[member])
        metrics = run.metrics()
        found = metrics[(metrics.when == "end") & (metrics.member == member)].loss.item()
        assert abs(found - float(expected.detach())) < 1e-9


def test_statistics_of_a_member_that_diverged_stay(tmp_path):
    setup = prepare(small(tmp_path, **TINY, seeds=(0, 1)), convolutional, DATA)
    task, order = make_task(setup.problem, 0), torch.from_numpy(orders([0, 1], 20, 8, 0, 0))
    setup.state.params[0] = torch.inf
    before = {name: value.clone() for name, value in setup.state.running_of(0).items()}
    setup.engine.run(setup.state, task, order)
    assert setup.state.diverged.tolist() == [0, -1]
    for name, value in setup.state.running_of(0).items():
        assert_same_bits(name, value, before[name])
    assert setup.state.running_of(1)["1.num_batches_tracked"] == 3
    assert all(bool(value.double().isfinite().all()) for value in setup.state.running_of(1).values())


def test_checkpoints_hold_the_statistics(tmp_path):
    run = fp.train(small(tmp_path / "run", **TINY, seeds=1), convolutional, DATA)
    names = json.loads((run.path / "checkpoint" / "checkpoint.json").read_text())
    held = (run.path / "checkpoint").glob("*.safetensors")
    assert any(b"state.kept.running.1.running_mean" in path.read_bytes()[:20_000] for path in held), names


def test_a_layer_that_normalises_twice_is_refused(tmp_path):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(108), nn.Linear(108, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.norm(x.flatten(1))))

    with pytest.raises(fp.ConfigError, match="norm normalises twice in one forward pass"):
        fp.train(small(tmp_path / "run", **TINY, seeds=1), Twice, DATA)


def test_without_running_statistics_of_a_member_evaluation_takes_those_of_the_batch():
    module = nn.Sequential(nn.BatchNorm1d(3)).eval()
    x = torch.rand(7, 3)
    RunningNorms(module)
    expected = functional.batch_norm(x, None, None, torch.ones(3), torch.zeros(3), True)
    assert_close("outputs", module(x), expected, dtype=torch.float32, length=7)


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.linspace(0, 1, 108))
        self.body, self.norm, self.head = nn.Linear(108, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x.flatten(1) - self.mean)).relu())


def test_constants_beside_running_statistics_stay_and_are_no_state(tmp_path):
    setup = prepare(small(tmp_path, **TINY, seeds=2), Centred, DATA)
    order = torch.from_numpy(orders([0, 1], 20, 8, 0, 0))
    setup.engine.run(setup.state, make_task(setup.problem, 0), order)
    assert {name.split(".")[1] for name in setup.state.kept} == {"norm"}
    assert bool((setup.state.running_of(0)["norm.running_mean"] != 0).all())
    assert_same_bits("constant", setup.group.network.template.mean, Centred().mean)  # type: ignore[union-attr]
    fp.train(small(tmp_path / "run", **TINY, seeds=1), Centred, DATA)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.body, self.head = kind(18, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(18, 3, 8, dropout=0.1, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.permute(0, 2, 1, 3).flatten(2)).mean(1))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of PyTorch, for an LSTM
@pytest.mark.parametrize(
    "factory",
    [lambda: Recurrent(nn.RNN), lambda: Recurrent(nn.GRU), lambda: Recurrent(nn.LSTM), Attention],
    ids=["rnn", "gru", "lstm", "transformer"],
)
def test_recurrent_networks_and_transformers_learn(factory, tmp_path):
    fields = TINY | {"epochs": 40, "tasks": 1}
    metrics = fp.train(small(tmp_path / "run", **fields, seeds=(0, 1)), factory, DATA).metrics()
    begin, end = (metrics[metrics.when == when].loss for when in ("start", "end"))
    assert (end.to_numpy() < 0.8 * begin.to_numpy()).all()
    assert not metrics.diverged.any()


def test_initial_statistics_are_float32_and_each_members_own(tmp_path):
    setup = prepare(small(tmp_path, **TINY, seeds=1), convolutional, DATA)
    state = new_state(setup.group)
    kept = {name: tuple(value.shape) for name, value in state.kept.items()}
    assert kept == {
        "running.1.running_mean": (1, 4), "running.1.running_var": (1, 4), "running.1.num_batches_tracked": (1,),
        "running.5.running_mean": (1, 5), "running.5.running_var": (1, 5), "running.5.num_batches_tracked": (1,),
    }  # fmt: skip
    assert all(value.is_contiguous() for value in state.kept.values())
