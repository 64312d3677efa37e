"""Activations that the engine vmap alone has: values in closed form, training as ordinary, and who refuses them."""

import math

import pytest
import torch
from assertions import assert_close
from small_runs import small
from torch.nn import functional

import fastplast as fp
from fastplast.config import ACTIVATIONS, VMAP_ACTIVATIONS, ConfigError, Experiment
from fastplast.networks import build_network
from fastplast.networks.activations import ACTIVATION_FUNCTIONS, gain, widening


def test_every_activation_has_a_function():
    assert tuple(ACTIVATION_FUNCTIONS) == (*ACTIVATIONS, *VMAP_ACTIVATIONS)


def test_smooth_leaky_has_the_published_values():
    z = torch.tensor([-3.0, -1.0, 0.0, 1.0])
    found = ACTIVATION_FUNCTIONS["smooth_leaky"](z, 0.0)
    assert [round(x, 3) for x in found.tolist()] == [-0.318, -0.243, 0.0, 0.857]
    far = torch.tensor([-60.0, 60.0])
    assert_close("far", ACTIVATION_FUNCTIONS["smooth_leaky"](far, 0.0), torch.tensor([-6.0, 60.0]))


def test_fourier_features_are_sines_and_cosines_of_each_unit():
    z = torch.linspace(-4, 4, 12).view(3, 4)
    found = ACTIVATION_FUNCTIONS["fourier"](z, 0.0)
    assert_close("sines", found[:, :4], z.sin())
    assert_close("cosines", found[:, 4:], z.cos())
    assert_close("squares", (found**2).sum(1), torch.full((3,), 4.0), length=8)
    assert widening("fourier") == 2
    network = build_network(Experiment(activation="fourier", widths=(6, 5)), (1, 4, 4), 3)
    assert [slot.shape for slot in network.layout.slots if slot.is_weight] == [(6, 16), (5, 12), (3, 10)]
    assert math.isclose(gain("fourier", 0.0), math.sqrt(2))


@pytest.mark.parametrize("activation", VMAP_ACTIVATIONS)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_outputs_are_those_of_plain_pytorch(activation, network):
    e = Experiment(network=network, activation=activation, widths=(6, 5), benchmark="cifar_shuffle")
    net = build_network(e, (3, 8, 8), 4)
    row, x = net.initial_parameters([3])[0], torch.rand(5, 192)
    views, h, function = net.layout.views(row), x, ACTIVATION_FUNCTIONS[activation]
    for layer in net.layers:
        weight, bias = views[f"{layer.name}.weight"], views[f"{layer.name}.bias"]
        if layer.name.startswith("conv"):
            h = functional.conv2d(h.view(5, weight.shape[1], *h.shape[2:]) if h.ndim == 4 else h.view(5, 3, 8, 8),
                                  weight, bias, stride=2, padding=1)  # fmt: skip
        else:
            h = functional.linear(h.flatten(1), weight, bias)
        h = function(h, 0.0) if layer.activated else h
    assert_close("logits", net.logits(row, x), h, length=192)


@pytest.mark.parametrize("activation", VMAP_ACTIVATIONS)
def test_they_train_on_vmap_and_other_engines_refuse_them_by_name(activation, tmp_path):
    fields = {"activation": activation, "srank": "both", "learning_rate": 0.01, "epochs": 20, "tasks": 1}
    metrics = fp.train(small(tmp_path / "run", **fields)).metrics()
    assert set(metrics.engine) == {"vmap"}
    begin, end = (metrics[metrics.when == when] for when in ("start", "end"))
    assert (end.loss.to_numpy() < begin.loss.to_numpy()).all()
    assert metrics.hessian_srank.notna().all()
    with pytest.raises(ConfigError, match=f"no kernels for --activation {activation}"):
        fp.train(small(tmp_path / "cpu", **fields, engine="cpu"))


def test_units_of_fourier_features_are_reset_with_both_their_outputs(tmp_path):
    fields = {"activation": "fourier", "method": "redo", "options": {"redo_threshold": 1.0, "redo_every": 3}}
    metrics = fp.train(small(tmp_path / "run", **fields, srank="off", tasks=1)).metrics()
    assert (metrics.resets_fc1.dropna() > 0).all()
