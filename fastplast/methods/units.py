"""Hidden units of a built-in network: which weights come in and go out, and what a batch says about each.

A unit is a row of a layer's weights: an output of a dense layer, a channel of a convolution. With CReLU it has two
outputs; between a convolution and a dense layer, an output for each position. Means are taken in float64, so that a
member's bits do not depend on how many others are in the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fastplast.networks import AnyNetwork, Conv, Layer, Network, Slot
from fastplast.networks.activations import widening


class HiddenLayer(NamedTuple):
    """A hidden layer, its units, and how the next layer receives them.

    Attributes:
        layer: itself.
        after: the next layer.
        first: number of its first unit, counted through all hidden layers.
        wide: outputs of a unit.
        positions: inputs of the next layer for each output of a unit.
    """

    layer: Layer
    after: Layer
    first: int
    wide: int
    positions: int

    @property
    def units(self) -> int:
        """O."""
        return self.layer.outputs

    @property
    def numbers(self) -> slice:
        """Of its units, counted through all hidden layers."""
        return slice(self.first, self.first + self.units)

    @property
    def weight(self) -> str:
        """Name of the incoming weights."""
        return f"{self.layer.name}.weight"

    @property
    def next_weight(self) -> str:
        """Name of the outgoing weights."""
        return f"{self.after.name}.weight"


def hidden_layers(network: AnyNetwork) -> list[HiddenLayer]:
    """The hidden layers, from the first.

    Args:
        network: a built-in one.

    Returns:
        One for each of its features.
    """
    assert isinstance(network, Network)  # methods that need layers are refused for any other
    found, first, wide = [], 0, widening(network.activation)
    for layer, after in zip(network.layers, network.layers[1:]):
        flattened = isinstance(layer, Conv) and not isinstance(after, Conv)
        positions = layer.output_shape[1] * layer.output_shape[2] if flattened else 1  # pyright: ignore
        found.append(HiddenLayer(layer, after, first, wide, positions))
        first += layer.outputs
    return found


def count_units(network: AnyNetwork) -> int:
    """Units of all hidden layers."""
    return sum(layer.units for layer in hidden_layers(network))


def slots_of(network: AnyNetwork, layer: Layer) -> list[Slot]:
    """Weight, bias, and scale and shift of a layer; the first dimension of each is its units."""
    return [slot for slot in network.layout.slots if slot.name.rpartition(".")[0] == layer.name]


def from_inputs(hidden: HiddenLayer, values: Tensor) -> Tensor:
    """Means over the inputs of the next layer that are outputs of the same unit.

    Args:
        hidden: the layer.
        values: `[m, I]`, of each input of the next layer.

    Returns:
        `[m, O]`.
    """
    return values.reshape(len(values), hidden.wide, hidden.units, hidden.positions).mean((1, 3))


def to_inputs(hidden: HiddenLayer, values: Tensor) -> Tensor:
    """A value of each unit, for every input of the next layer that is an output of it.

    Args:
        hidden: the layer.
        values: `[m, O]`.

    Returns:
        `[m, I]`.
    """
    spread = values[:, None, :, None].expand(-1, hidden.wide, -1, hidden.positions)
    return spread.reshape(len(values), hidden.wide * hidden.units * hidden.positions)


def unit_mean(hidden: HiddenLayer, features: Tensor) -> Tensor:
    """Mean of features over the batch, space and the outputs of a unit.

    Args:
        hidden: the layer.
        features: `[m, B, wide * O, ...]`.

    Returns:
        `[m, O]` float64.
    """
    shape = (len(features), features.shape[1], hidden.wide, hidden.units, -1)
    return features.reshape(shape).double().mean((1, 2, 4))


def fired(hidden: HiddenLayer, features: Tensor) -> Tensor:
    """Whether a unit's value before the activation was positive for any example, at any position.

    Args:
        hidden: the layer.
        features: `[m, B, wide * O, ...]`; positive where the value before the activation is.

    Returns:
        `[m, O]` bool.
    """
    positive = features[:, :, : hidden.units] > 0
    return positive.flatten(3).any(3).any(1) if positive.ndim > 3 else positive.any(1)


def received(hidden: HiddenLayer, features: Tensor) -> Tensor:
    """Features as the next layer receives them: after pooling, and flattened before a dense layer.

    Args:
        hidden: the layer.
        features: `[m, B, wide * O, ...]`.

    Returns:
        `[m, B, I, S]`, I inputs or channels of the next layer, S positions of a channel.
    """
    if isinstance(hidden.layer, Conv) and hidden.layer.pool > 1:
        features = functional.max_pool2d(features.flatten(0, 1), hidden.layer.pool).unflatten(0, features.shape[:2])
    inputs = hidden.wide * hidden.units * hidden.positions
    return features.reshape(len(features), features.shape[1], inputs, -1)


def incoming_mean(hidden: HiddenLayer, views: dict[str, Tensor]) -> Tensor:
    """Mean absolute value of what comes into each unit.

    Args:
        hidden: the layer.
        views: parameters or gradients by name, `[m, ...]`.

    Returns:
        `[m, O]` float64.
    """
    return views[hidden.weight].flatten(2).abs().double().mean(2)


def outgoing_mean(hidden: HiddenLayer, views: dict[str, Tensor]) -> Tensor:
    """Mean absolute weight of the next layer on each of its inputs.

    Args:
        hidden: the layer.
        views: parameters by name, `[m, ...]`.

    Returns:
        `[m, I]` float64.
    """
    weight = views[hidden.next_weight]
    return weight.reshape(*weight.shape[:3], -1).abs().double().mean((1, 3))


def least(values: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """The least values of a row; of equal ones, the first.

    Args:
        values: `[m, O]`.
        among: `[m, O]` bool, those that may be taken.
        count: `[m]`, how many to take.

    Returns:
        `[m, O]` bool.
    """
    order = torch.where(among, values, torch.inf).argsort(dim=1, stable=True)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place).lt(count[:, None]) & among
