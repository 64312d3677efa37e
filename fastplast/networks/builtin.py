"""The built-in networks: the multilayer perceptrons and the convolutional network of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from fastplast.networks.activations import ACTIVATION_FUNCTIONS
from fastplast.networks.init import initial_parameters
from fastplast.networks.layout import Layout
from fastplast.networks.spec import Conv, Dense, Layer, layout_of


@dataclass(frozen=True)
class Network:
    """A stack of layers with one activation, as a pure function of a member's parameters.

    Attributes:
        name: of the network.
        layers: convolutions, then dense layers.
        activation: of every hidden layer.
        slope: negative slope of ``leaky_relu``.
        init: name of the initialisation.
        shape: (channels, height, width) of the input.
    """

    name: str
    layers: tuple[Layer, ...]
    activation: str
    slope: float
    init: str
    shape: tuple[int, int, int]

    @cached_property
    def layout(self) -> Layout:
        """Where parameters lie in the arena."""
        return layout_of(self.layers)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the hidden layers, in the order of the features."""
        return tuple(layer.name for layer in self.layers if layer.activated)

    def initial_parameters(self, seeds: list[int]) -> Tensor:
        """Parameters of new members.

        Args:
            seeds: one per member.

        Returns:
            `[M, P]` float32.
        """
        return initial_parameters(self.layers, self.layout, seeds, self.init, self.activation, self.slope)

    def logits(self, row: Tensor, x: Tensor) -> Tensor:
        """Logits of one member, as ``forward`` without the features.

        Args:
            row: `[P]` the member's parameters.
            x: `[B, I]` inputs.

        Returns:
            `[B, C]`.
        """
        return self.forward(row, x)[0]

    def forward(self, row: Tensor, x: Tensor, dense_dtype: torch.dtype | None = None) -> tuple[Tensor, list[Tensor]]:
        """Runs one member; vmap over the first argument, or both, runs many.

        Args:
            row: `[P]` the member's parameters.
            x: `[B, I]` inputs, channels first and flattened.
            dense_dtype: arithmetic of the dense layers; that of the inputs if None.

        Returns:
            Logits `[B, C]` and the post-activation features of every hidden layer: `[B, O]`, for a convolution
            `[B, O, height, width]`.
        """
        parameters = self.layout.views(row)
        activate = ACTIVATION_FUNCTIONS[self.activation]
        features: list[Tensor] = []
        for layer in self.layers:
            weight, bias = parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
            if isinstance(layer, Conv):
                x = x.reshape(x.shape[0], layer.in_channels, layer.height, layer.width)
                x = functional.conv2d(x, weight, bias, stride=layer.stride, padding=layer.padding)
            else:
                dtype = dense_dtype or x.dtype
                x = functional.linear(x.flatten(1).to(dtype), weight.to(dtype), bias.to(dtype))
            if layer.activated:
                x = activate(x, self.slope)
                features.append(x)
        return x, features


def dense_layers(inputs: int, widths: tuple[int, ...], num_classes: int) -> tuple[Dense, ...]:
    """Dense layers from `inputs` over hidden `widths` to `num_classes`, named fc1, fc2, ..."""
    sizes = (inputs, *widths, num_classes)
    last = len(sizes) - 1
    return tuple(Dense(f"fc{i}", sizes[i - 1], sizes[i], activated=i < last) for i in range(1, last + 1))


def conv_layers(shape: tuple[int, int, int], channels: tuple[int, ...]) -> tuple[Conv, ...]:
    """Convolutions of 3x3, stride 2, padding 1 on an image of `shape`, named conv1, conv2, ..."""
    layers: list[Conv] = []
    for i, outputs in enumerate(channels, 1):
        layers.append(Conv(f"conv{i}", shape[0], outputs, shape[1], shape[2]))
        shape = layers[-1].output_shape
    return tuple(layers)


def mlp(shape: tuple[int, int, int], num_classes: int, widths: tuple[int, ...]) -> tuple[Layer, ...]:
    """Layers of a multilayer perceptron (paper, appendix B.1: 784-128-64-32-10)."""
    return dense_layers(prod(shape), widths, num_classes)


def cnn(
    shape: tuple[int, int, int], num_classes: int, widths: tuple[int, ...], channels: tuple[int, ...]
) -> tuple[Layer, ...]:
    """Layers of a convolutional network (paper, appendix B.3: 16, 32, 64 channels, then 64-32-10).

    Kernel 3, stride 2 and padding 1 are not in the paper; they are what its authors' later code uses.
    """
    convolutions = conv_layers(shape, channels)
    return (*convolutions, *dense_layers(prod(convolutions[-1].output_shape), widths, num_classes))
