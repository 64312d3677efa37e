"""The built-in networks: the multilayer perceptrons and the convolutional network of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastplast.config import ELEMENTWISE
from fastplast.networks.activations import ACTIVATION_FUNCTIONS, widening
from fastplast.networks.convolution import convolve
from fastplast.networks.init import weight_spread
from fastplast.networks.layout import Layout, Slot
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
        dropout: fraction of the hidden activations that is dropped in training.
    """

    name: str
    layers: tuple[Layer, ...]
    activation: str
    slope: float
    init: str
    shape: tuple[int, int, int]
    dropout: float = 0.0

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
            `[M, P]` float32. Biases are zero, but uniform in 1 / sqrt(fan_in) with ``torch_default``.
        """
        arena = np.zeros((len(seeds), self.layout.size), dtype=np.float32)
        for m, seed in enumerate(seeds):
            if (first := seeds.index(seed)) < m:
                arena[m] = arena[first]
                continue
            for number, layer in enumerate(self.layers):
                spread = weight_spread(self.init, layer, self.activation, self.slope)
                weight, bias = self.layout[f"{layer.name}.weight"], self.layout[f"{layer.name}.bias"]
                arena[m, weight.slice] = spread.draw(seed, "init", weight.count, 2 * number)
                if layer.norm:
                    arena[m, self.layout[f"{layer.name}.norm_scale"].slice] = 1.0
                if self.init == "torch_default":
                    arena[m, bias.slice] = spread.draw(seed, "init", bias.count, 2 * number + 1)
        return torch.from_numpy(arena)

    def head_parameters(self, slot: Slot, seeds: list[int], task: int) -> Tensor:
        """The last layer's weights or biases, drawn anew for a task.

        Args:
            slot: which of the two.
            seeds: one per member.
            task: number of the task.

        Returns:
            `[M, count]` float32.
        """
        spread = weight_spread(self.init, self.layers[-1], self.activation, self.slope)
        fresh = np.zeros((len(seeds), slot.count), dtype=np.float32)
        if slot.is_weight or self.init == "torch_default":
            for row, seed in zip(fresh, seeds):
                row[:] = spread.draw(seed, "head", slot.count, task, int(not slot.is_weight))
        return torch.from_numpy(fresh)

    def unit_parameters(self, layer: Layer, seed: int, update: int, unit: int) -> tuple[Tensor, float]:
        """The incoming weights of a hidden unit, and its bias, drawn anew, as at initialisation.

        Args:
            layer: that the unit is in.
            seed: of the member.
            update: number of the update after which the unit is reset.
            unit: its number, counted through all hidden layers.

        Returns:
            `[fan_in]` float32, and the bias.
        """
        spread, has_bias = weight_spread(self.init, layer, self.activation, self.slope), self.init == "torch_default"
        fan_in = prod(layer.weight_shape[1:])
        drawn = spread.draw(seed, "reset", fan_in + has_bias, update, unit).astype(np.float32)
        return torch.from_numpy(drawn[:fan_in]), float(drawn[-1]) if has_bias else 0.0

    @property
    def has_closed_tail(self) -> bool:
        """Whether the Hessian of the last two layers has the closed form: one output per unit, no normalisation."""
        return self.activation in ELEMENTWISE and not self.layers[-2].norm

    def mask_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the activations of one example that dropout masks, in the order of the hidden layers."""
        wide = widening(self.activation)
        shapes = [layer.output_shape if isinstance(layer, Conv) else (layer.outputs,) for layer in self.layers]
        return [(wide * shape[0], *shape[1:]) for shape, layer in zip(shapes, self.layers) if layer.activated]

    def logits(self, row: Tensor, x: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        """Logits of one member, as ``forward`` without the features.

        Args:
            row: `[P]` the member's parameters.
            x: `[B, I]` inputs.
            masks: of dropout, `[B, *shape]` for each of ``mask_shapes``; None for none.

        Returns:
            `[B, C]`.
        """
        return self.logits_of(self.layout.views(row), x, masks)

    def logits_of(self, parameters: dict[str, Tensor], x: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        """As ``logits``, of the parameters by name, with respect to which a gradient is taken faster than to a row."""
        return self.run(self.layers, parameters, x, masks=masks)[0]

    def forward(
        self, row: Tensor, x: Tensor, dense_dtype: torch.dtype | None = None, masks: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs one member; vmap over the first argument, or both, runs many.

        Args:
            row: `[P]` the member's parameters.
            x: `[B, I]` inputs, channels first and flattened.
            dense_dtype: arithmetic of the dense layers; that of the inputs if None.
            masks: factors of dropout on every hidden layer's activations, after any pooling; None for none.

        Returns:
            Logits `[B, C]` and the post-activation features of every hidden layer: `[B, O]`, for a convolution
            `[B, O, height, width]`.
        """
        return self.run(self.layers, self.layout.views(row), x, dense_dtype, masks)

    def run(
        self,
        layers: tuple[Layer, ...],
        parameters: dict[str, Tensor],
        x: Tensor,
        dense_dtype: torch.dtype | None = None,
        masks: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs some of the layers; see ``forward``.

        Args:
            layers: in order.
            parameters: of one member, by name.
            x: what enters the first of them.
            dense_dtype: arithmetic of the dense layers; that of the inputs if None.
            masks: of dropout, from the first of these layers on; None for none.

        Returns:
            Outputs and the post-activation features of every hidden layer.
        """
        activate = ACTIVATION_FUNCTIONS[self.activation]
        features: list[Tensor] = []
        for layer in layers:
            weight, bias = parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
            if isinstance(layer, Conv):
                x = x.reshape(x.shape[0], layer.in_channels, layer.height, layer.width)
                x = convolve(x, weight, bias, layer.stride, layer.padding)
            else:
                dtype = dense_dtype or x.dtype
                x = functional.linear(x.flatten(1).to(dtype), weight.to(dtype), bias.to(dtype))
            if layer.norm:
                scale, shift = parameters[f"{layer.name}.norm_scale"], parameters[f"{layer.name}.norm_shift"]
                x = functional.group_norm(x, 1, scale.to(x.dtype), shift.to(x.dtype))
            if layer.activated:
                x = activate(x, self.slope)
                features.append(x)
                if isinstance(layer, Conv) and layer.pool > 1:
                    x = functional.max_pool2d(x, layer.pool)
                if masks is not None:
                    x = x * masks[len(features) - 1]
        return x, features


def dense_layers(inputs: int, widths: tuple[int, ...], num_classes: int, wide: int, norm: bool) -> tuple[Dense, ...]:
    """Dense layers from `inputs` over hidden `widths` to `num_classes`, named fc1, fc2, ... (paper, appendix B.1).

    Args:
        inputs: of the first.
        widths: units of the hidden layers.
        num_classes: C.
        wide: outputs per unit of the activation.
        norm: whether hidden layers are normalised.

    Returns:
        The layers.
    """
    sizes, last = (inputs, *(wide * width for width in widths)), len(widths)
    hidden = [Dense(f"fc{i + 1}", sizes[i], width, norm=norm) for i, width in enumerate(widths)]
    return (*hidden, Dense(f"fc{last + 1}", sizes[last], num_classes, activated=False))


def conv_layers(
    shape: tuple[int, int, int], channels: tuple[int, ...], wide: int, norm: bool, pooled: bool
) -> tuple[Conv, ...]:
    """Convolutions on an image of `shape`, named conv1, conv2, ...

    Of 3x3, stride 2, padding 1, which are not in the paper (appendix B.3) but in its authors' later code; or, `pooled`,
    as in Continual ImageNet (Dohare et al. 2024): of 5x5, then 3x3, without padding, each followed by max pooling of 2.

    Args:
        shape: (channels, height, width).
        channels: units of each.
        wide: outputs per unit of the activation.
        norm: whether they are normalised.
        pooled: which of the two.

    Returns:
        The layers.
    """
    layers: list[Conv] = []
    for i, outputs in enumerate(channels, 1):
        kind = {"kernel": 5 if i == 1 else 3, "stride": 1, "padding": 0, "pool": 2} if pooled else {}
        layers.append(Conv(f"conv{i}", shape[0], outputs, shape[1], shape[2], norm=norm, **kind))  # pyright: ignore
        shape = (wide * outputs, *layers[-1].output_shape[1:])
    return tuple(layers)
