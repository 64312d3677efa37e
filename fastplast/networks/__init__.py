"""Networks: what a member is."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from fastplast.config import ConfigError, Experiment
from fastplast.networks.activations import widening
from fastplast.networks.builtin import Network, conv_layers, dense_layers
from fastplast.networks.layout import Layout, Slot
from fastplast.networks.module import ModuleFactory, ModuleNetwork
from fastplast.networks.spec import Conv, Dense, Layer

AnyNetwork = Network | ModuleNetwork


class Preset(NamedTuple):
    """A built-in network: its default widths and channels, and a line for ``fastplast list networks``."""

    widths: tuple[int, ...]
    channels: tuple[int, ...]
    summary: str


NETWORKS: dict[str, Preset] = {
    "mlp": Preset((128, 64, 32), (), "784-128-64-32-10 perceptron (paper, appendix B.1)"),
    "mlp13": Preset((128,) * 11 + (64, 32), (), "13 hidden layers: eleven of 128, then 64-32 (paper, appendix F)"),
    "cnn": Preset((64, 32), (16, 32, 64), "three 3x3 convolutions of stride 2, then 64-32-10 (appendix B.3)"),
    "convnet": Preset(
        (128, 128),
        (32, 64, 128),
        "convolutions of 5x5, 3x3, 3x3, each with 2x2 max pooling, then "
        "128-128-2 (Continual ImageNet, Dohare et al. 2024)",
    ),
}


def build_network(experiment: Experiment, shape: tuple[int, int, int], num_classes: int) -> Network:
    """The network of an experiment for images of a shape.

    Args:
        experiment: resolved.
        shape: (channels, height, width).
        num_classes: C.

    Returns:
        The network.

    Raises:
        ConfigError: if a convolutional network meets inputs that are no images.
    """
    name = experiment.network or "mlp"
    preset = NETWORKS[name]
    wide, norm = widening(experiment.activation), experiment.layer_norm
    layers: tuple[Layer, ...] = ()
    inputs = prod(shape)
    if preset.channels:
        channels, pooled = experiment.channels or preset.channels, name == "convnet"
        least = _least_side(len(channels)) if pooled else 2
        if min(shape[1:]) < least:
            raise ConfigError(
                f"--network {name} needs images of at least {least} x {least} pixels: got inputs of shape {shape} from "
                f"--benchmark {experiment.benchmark}. Use --network mlp or a benchmark of images."
            )
        layers = conv_layers(shape, channels, wide, norm, pooled)
        inputs = wide * prod(layers[-1].output_shape)
    layers += dense_layers(inputs, experiment.widths or preset.widths, num_classes, wide, norm)
    return Network(
        name, layers, experiment.activation, experiment.leaky_slope, experiment.init, shape, experiment.dropout
    )


def _least_side(convolutions: int) -> int:
    """Of an image from which the convolutions of ``convnet`` leave a pixel."""
    side = 1
    for i in reversed(range(convolutions)):
        side = 2 * side + (4 if i == 0 else 2)
    return side


__all__ = [
    "NETWORKS",
    "AnyNetwork",
    "Conv",
    "Dense",
    "Layer",
    "Layout",
    "ModuleFactory",
    "ModuleNetwork",
    "Network",
    "Slot",
    "build_network",
]
