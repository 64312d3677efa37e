"""CReLU, layer normalisation, dropout and head reset, alone and together: equal to ordinary training, independent."""

import math
from itertools import product

import pytest
import torch
from assertions import assert_close, assert_same_bits
from torch import nn
from torch.nn import functional

import fastplast as fp
from fastplast import seeding
from fastplast.config import ConfigError, Member
from fastplast.engines import CpuEngine, VmapEngine
from fastplast.measuring.hessian import block_names
from fastplast.measuring.probes import member_inputs
from fastplast.problems import make_task
from fastplast.problems.head_reset import reset_head
from fastplast.training.setup import prepare

CHANGES = [
    {"activation": "crelu"},
    {"layer_norm": True, "activation": "tanh"},  # relu after the norm of three units magnifies rounding errors
    {"dropout": 0.3},
    {"activation": "crelu", "layer_norm": True, "dropout": 0.2},
]
ACTIVATIONS = {"crelu": lambda x: torch.cat((x.relu(), (-x).relu()), 1), "relu": torch.relu, "tanh": torch.tanh}
NETWORKS = ("mlp", "cnn", "convnet")
NAMES = ["-".join(f"{k}={v}" for k, v in change.items()) for change in CHANGES]
ROUNDING = 16 * math.sqrt(15 * 300)  # in eps: fifteen updates, each through sums of up to 300 terms
SMALL = {"tasks": 2, "epochs": 2, "examples": 48, "seeds": 2, "widths": (6, 5, 4), "threads": 1}


def trial_of(make_trial, network: str, members=None, **change):
    family = "mnist" if network == "mlp" else "cifar"
    members = members or tuple(Member(30 + i, 1e-3 * (i + 1), "l2", 0.1) for i in range(3))
    return make_trial(members, benchmark=f"{family}_permute", network=network, batch_size=9, **change)


class Ordinary(nn.Module):
    """The same network as anyone would write it, with the masks of one member's dropout given from outside."""

    def __init__(self, network, masks) -> None:
        super().__init__()
        self.network, self.masks, self.stages = network, masks, nn.ModuleList()
        for layer in network.layers:
            if hasattr(layer, "kernel"):
                stage = nn.Conv2d(layer.in_channels, layer.outputs, layer.kernel, layer.stride, layer.padding)
            else:
                stage = nn.Linear(layer.inputs, layer.outputs)
            norm = nn.GroupNorm(1, layer.outputs) if hasattr(layer, "kernel") else nn.LayerNorm(layer.outputs)
            self.stages.append(nn.Sequential(stage, norm) if layer.norm else nn.Sequential(stage))

    def forward(self, x):
        x = x.reshape(-1, *self.network.shape) if hasattr(self.network.layers[0], "kernel") else x
        for number, (layer, stage) in enumerate(zip(self.network.layers, self.stages)):
            x = stage(x if hasattr(layer, "kernel") else x.flatten(1))
            if layer.activated:
                x = ACTIVATIONS[self.network.activation](x)
                if getattr(layer, "pool", 1) > 1:
                    x = functional.max_pool2d(x, layer.pool)
                if self.masks:
                    x = x * self.masks[number]
        return x


@pytest.mark.parametrize(("network", "change"), list(product(NETWORKS, CHANGES)),
                         ids=[f"{n}-{c}" for n, c in product(NETWORKS, NAMES)])  # fmt: skip
def test_fifteen_updates_equal_ordinary_training(network, change, make_trial):
    trial, task = trial_of(make_trial, network, **change), None
    task = trial.task(1)
    singles = [trial.ordinary(m, Ordinary(trial.group.network, [])) for m in range(3)]
    for epoch in range(3):
        order = trial.order(epoch, 1)
        for step in range(order.shape[1]):
            count = int((order[0, step] >= 0).sum())
            masks = trial.engine._masks(trial.state.steps, count)
            trial.engine.run(trial.state, task, order[:, step : step + 1])
            for m, single in enumerate(singles):
                single.module.masks = [mask[m] for mask in masks]
                single.step(task, order[m, step])
    params, init = trial.true_parameters(trial.state.params), trial.true_parameters(trial.state.init)
    for m, single in enumerate(singles):
        moved = float((single.vector() - init[m]).abs().max())
        assert_close(f"parameters of {m}", params[m], single.vector(), factor=ROUNDING, scale=moved)


@pytest.mark.parametrize("change", CHANGES, ids=NAMES)
def test_a_member_does_not_depend_on_its_batch_mates(change, make_trial):
    mine = Member(5, 2e-3, "wasserstein", 1.0)
    mates = [(Member(1, 1e-3, "none", 0.0), Member(2, 1e-2, "l2", 3.0)), (Member(9, 1e-1, "l2", 1.0), mine)]
    trials = [trial_of(make_trial, "mlp", (first, mine, last), **change) for first, last in mates]
    for trial in trials:
        trial.train(3)
    assert_same_bits("member", trials[0].state.params[1], trials[1].state.params[1])


def test_dropout_is_of_the_update_and_not_of_the_call(make_trial):
    whole, parts = (trial_of(make_trial, "mlp", dropout=0.4) for _ in range(2))
    whole.engine.run(whole.state, whole.task(), whole.order())
    for step in range(whole.order().shape[1]):
        parts.engine.run(parts.state, parts.task(), parts.order()[:, step : step + 1])
    assert_same_bits("parameters", whole.state.params, parts.state.params)


def test_no_dropout_is_no_mask_to_the_bit(make_trial):
    plain, zero = trial_of(make_trial, "mlp"), trial_of(make_trial, "mlp", dropout=0.0)
    assert zero.engine._masks(zero.state.steps, 9) == []
    for trial in (plain, zero):
        trial.train(2)
    assert_same_bits("parameters", plain.state.params, zero.state.params)


CONVOLUTIONAL = CHANGES[-1] | {"network": "cnn", "widths": (6, 5), "channels": (3, 4)}


@pytest.mark.parametrize("change", [*CHANGES, CONVOLUTIONAL, {"head_reset": "zero"}, {"head_reset": "reinit"}])
def test_a_run_is_a_prefix_of_a_longer_one_and_resumes_to_the_same_bits(change, tmp_path):
    def run(name, **more):
        return fp.Experiment(benchmark="mnist_shuffle", out=str(tmp_path / name), **SMALL | change | more)

    whole = fp.train(run("whole")).metrics()
    short = fp.train(run("short", tasks=1)).metrics()
    assert whole[whole.task == 0].reset_index(drop=True)[short.columns].equals(short)
    _, events = fp.api.start(run("killed", checkpoint_minutes=1e-9))
    for number, _ in enumerate(events):
        if number == 4:
            break
    events.close()
    assert fp.resume(tmp_path / "killed").metrics().equals(whole)


def test_auto_takes_the_cpu_engine_without_a_line():
    engines = {}
    for network, (name, change) in product(NETWORKS, zip(NAMES, CHANGES)):
        fields = {"srank": "off", "network": network} | SMALL | {"widths": None} | change
        experiment = fp.Experiment(benchmark="cifar_shuffle", **fields, device="cpu")
        engines[network, name] = prepare(experiment).engine
    assert not {case: engine for case, engine in engines.items() if not isinstance(engine, CpuEngine)}


@pytest.mark.parametrize("change", [{"activation": "crelu"}, {"layer_norm": True}])
def test_the_hessian_of_a_changed_tail_is_that_of_autograd(change, tmp_path):
    run = fp.train(fp.Experiment(benchmark="mnist_shuffle", out=str(tmp_path / "r"), **SMALL | change | {"tasks": 1}))
    setup = prepare(fp.Experiment(benchmark="mnist_shuffle", **SMALL | change))
    task, network = make_task(setup.problem, 0), setup.group.network
    names = block_names(network)
    start = network.layout[names[0]].offset
    x, row = member_inputs(task, 1).double(), setup.state.params[1].double()

    def loss(block):
        return functional.cross_entropy(network.logits(torch.cat([row[:start], block]), x), task.labels[1])

    hessian = torch.autograd.functional.hessian(loss, row[start:])
    values = torch.linalg.eigvalsh(hessian).abs().sort(descending=True).values
    srank = int((values.cumsum(0) <= 0.99 * values.sum()).sum()) + 1
    found = run.metrics().query("when == 'start' and member == 1").iloc[0]
    assert found.hessian_srank == pytest.approx(srank, abs=1)
    assert found.hessian_sharpness == pytest.approx(float(values[0]), rel=1e-6)


@pytest.mark.parametrize("engine", [CpuEngine, VmapEngine])
def test_a_head_reset_changes_the_head_alone(engine, make_trial):
    for kind in ("zero", "reinit"):
        trial = trial_of(make_trial, "mlp")
        trial.state.params += 0.01
        before, healthy = trial.state.params.clone(), torch.tensor([True, False, True])
        reset_head(kind, trial.state.params, healthy, trial.group.network, trial.group.seeds, 3)
        head = trial.group.layout["fc4.weight"].offset
        assert_same_bits("below", trial.state.params[:, :head], before[:, :head])
        assert_same_bits("diverged", trial.state.params[1], before[1])
        weight = trial.group.layout.views(trial.state.params)["fc4.weight"]
        assert (weight[0] == 0).all() == (kind == "zero")
        if kind == "reinit":
            bound = math.sqrt(6 / sum(weight[0].shape))
            expected = bound * (2 * seeding.uniform(30, "head", weight[0].numel(), 3) - 1)
            assert_same_bits("drawn", weight[0].flatten(), torch.from_numpy(expected).float())


def test_the_first_task_of_a_redrawn_head_is_the_initial_one(make_trial):
    trial = trial_of(make_trial, "mlp")
    reset_head("reinit", trial.state.params, torch.ones(3, dtype=torch.bool), trial.group.network, [1, 2, 3], 0)
    assert_same_bits("parameters", trial.state.params, trial.state.init)


def test_the_convnet_is_that_of_continual_imagenet():
    small = {"examples": 100, "test_examples": 20}  # of the images that travel with the package
    e = fp.Experiment(benchmark="class_pairs", dataset="cifar10", srank="off", **small).resolved()
    setup = prepare(fp.Experiment(**e.to_dict() | {"seeds": 1}))
    assert setup.group.layout.count == 177_218
    assert [slot.shape for slot in setup.group.layout.slots if slot.is_weight] == [
        (32, 3, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3), (128, 512), (128, 128), (2, 128)]  # fmt: skip
    with pytest.raises(ConfigError, match="--network convnet needs images of at least 48 x 48 pixels"):
        prepare(fp.Experiment(network="convnet", benchmark="label_shuffle", dataset="mnist", channels=(4, 4, 4, 4)))
