"""Networks by name, and those of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

from torch import nn

from fastplast.config import MODULE_NETWORKS, NETWORK_NAMES, NETWORK_SUMMARIES, ConfigError, Experiment, add_own
from fastplast.networks.activations import widening
from fastplast.networks.builtin import Network, conv_layers, dense_layers
from fastplast.networks.module import ModuleNetwork
from fastplast.networks.resnet import ResNet18, group_norm
from fastplast.networks.spec import Layer
from fastplast.registered import named

AnyNetwork = Network | ModuleNetwork


class Preset(NamedTuple):
    """A built-in network: its default widths and channels."""

    widths: tuple[int, ...]
    channels: tuple[int, ...]


class Modules(NamedTuple):
    """A network that is an ``nn.Module``, which the engine ``vmap`` trains.

    Attributes:
        factory: from the (channels, height, width) of an image and C to a module that maps `[B, channels, height,
            width]` to `[B, C]`; called once for each member, under its seed.
    """

    factory: Callable[[tuple[int, int, int], int], nn.Module]


NETWORKS: dict[str, Preset | Modules] = {
    "mlp": Preset((128, 64, 32), ()),
    "mlp13": Preset((128,) * 11 + (64, 32), ()),
    "cnn": Preset((64, 32), (16, 32, 64)),
    "convnet": Preset((128, 128), (32, 64, 128)),
    "resnet18": Modules(lambda shape, classes: ResNet18(shape[0], classes, nn.BatchNorm2d)),
    "resnet18_gn": Modules(lambda shape, classes: ResNet18(shape[0], classes, group_norm)),
}


def register(name: str, factory: Callable[[tuple[int, int, int], int], nn.Module], summary: str = "") -> None:
    """Makes a network of one's own known to this process: to train it, and to resume runs of it.

    Args:
        name: what ``Experiment(network=...)`` calls it.
        factory: as of ``Modules``.
        summary: one line for ``fastplast list networks``.

    Raises:
        ValueError: if the name is one of the package's.
    """
    add_own("network", name, (*NETWORK_NAMES, *MODULE_NETWORKS))
    NETWORKS[name] = Modules(factory)
    NETWORK_SUMMARIES[name] = summary


def build_network(experiment: Experiment, shape: tuple[int, int, int], num_classes: int) -> AnyNetwork:
    """The network of an experiment for images of a shape.

    Args:
        experiment: resolved.
        shape: (channels, height, width).
        num_classes: C.

    Returns:
        The network.

    Raises:
        RegisteredError: if the factory of a registered network fails.
        ConfigError: if a convolutional network meets inputs that are no images.
    """
    name = experiment.network or "mlp"
    preset = NETWORKS[name]
    if isinstance(preset, Modules):
        with named(f"factory of the network {name!r}", "network"):
            preset.factory(shape, num_classes)
        return ModuleNetwork(partial(preset.factory, shape, num_classes), shape, num_classes, name)
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
