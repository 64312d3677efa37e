"""ResNet-18 for small images: sizes, normalisation, and that it trains."""

import numpy as np
import pytest
import torch
from small_runs import small
from torch import nn

import fastplast as fp
from fastplast.config import MODULE_NETWORKS, Experiment
from fastplast.data import from_arrays
from fastplast.networks import NETWORKS, ModuleNetwork, Modules, build_network, register
from fastplast.networks.resnet import ResNet18, group_norm


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", MODULE_NETWORKS)
def test_it_has_as_many_parameters_as_published_implementations_for_cifar(name):
    preset = NETWORKS[name]
    assert isinstance(preset, Modules)
    assert count(preset.factory((3, 32, 32), 10)) == 11_173_962
    more = 512 * 90 + 90 - 2 * 64 * 9  # a hundred classes, grey images
    assert count(preset.factory((1, 28, 28), 100)) == 11_173_962 + more


@pytest.mark.parametrize(("name", "norm"), [("resnet18", nn.BatchNorm2d), ("resnet18_gn", nn.GroupNorm)])
def test_its_layers_and_shapes(name, norm):
    module = NETWORKS[name].factory((3, 32, 32), 10)  # type: ignore[union-attr]
    norms = [m for m in module.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]
    assert len(norms) == 20
    assert all(isinstance(m, norm) for m in norms)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 20
    assert [m.stride[0] for m in convolutions if m.kernel_size == (1, 1)] == [2, 2, 2]
    assert all(m.bias is None for m in convolutions)
    shapes = []
    for block in module.blocks:
        block.register_forward_hook(lambda m, i, out: shapes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        assert module.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert shapes[::2] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_groups_divide_channels():
    assert [group_norm(c).num_groups for c in (64, 512, 8, 12, 5)] == [32, 32, 8, 12, 5]  # type: ignore[union-attr]
    assert group_norm(48).num_groups == 24  # type: ignore[union-attr]


def test_a_name_makes_a_module_network_that_is_called_by_it():
    e = Experiment(network="resnet18_gn", benchmark="cifar_shuffle", srank="off")
    network = build_network(e, (3, 8, 8), 10)
    assert isinstance(network, ModuleNetwork)
    assert network.name == "resnet18_gn"
    assert network.layout.count == 11_173_962


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, group_norm], ids=["batch", "group"])
def test_a_narrow_one_learns(norm, tmp_path, registries):
    register("narrow", lambda shape, classes: ResNet18(shape[0], classes, norm, (4, 4, 6, 8)))
    rng = np.random.default_rng(0)
    data = from_arrays(rng.integers(0, 256, (24, 3, 8, 8), dtype=np.uint8), np.arange(24) % 3)
    fields = {"benchmark": "label_shuffle", "dataset": "./own", "examples": 24, "batch_size": 8, "epochs": 12}
    e = small(tmp_path / "run", network="narrow", srank="off", widths=None, learning_rate=0.01, **{"tasks": 1} | fields)
    metrics = fp.train(e, dataset=data).metrics()
    assert set(metrics.network) == {"narrow"}
    assert (metrics[metrics.when == "end"].online_loss < metrics[metrics.when == "start"].loss.to_numpy()).all()
