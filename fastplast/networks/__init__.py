"""Networks: what a member is."""

from __future__ import annotations

from typing import NamedTuple

from fastplast.config import ConfigError, Experiment
from fastplast.networks.builtin import Network, cnn, mlp
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
    "mlp13": Preset((128,) * 10 + (64, 32), (), "13 dense layers: ten of 128, then 64-32-10 (after appendix F)"),
    "cnn": Preset((64, 32), (16, 32, 64), "three 3x3 convolutions of stride 2, then 64-32-10 (appendix B.3)"),
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
    widths = experiment.widths or preset.widths
    if name == "cnn":
        if min(shape[1:]) < 2:
            raise ConfigError(
                f"--network cnn needs images of at least 2 x 2 pixels: got inputs of shape {shape} from "
                f"--benchmark {experiment.benchmark}. Use --network mlp or a benchmark of images."
            )
        layers = cnn(shape, num_classes, widths, experiment.channels or preset.channels)
    else:
        layers = mlp(shape, num_classes, widths)
    return Network(name, layers, experiment.activation, experiment.leaky_slope, experiment.init, shape)


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
