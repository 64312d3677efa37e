"""A built-in network as an ordinary ``nn.Module``: to compute with one member's weights what fastplast does not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastplast.networks.activations import ACTIVATION_FUNCTIONS
from fastplast.networks.builtin import Network
from fastplast.networks.spec import Conv

_NAMES = {"norm_scale": "norm.weight", "norm_shift": "norm.bias"}


class PlainNetwork(nn.Module):
    """The layers of a network by their names: ``nn.Conv2d`` and ``nn.Linear``, and ``nn.GroupNorm`` where they have it.

    Takes `[B, channels, height, width]` or `[B, I]`, as training does: pixels scaled and, of pixel permutations,
    permuted. Gives `[B, C]`. Dropout is active in training mode.

    Args:
        network: what it computes.
        parameters: of one member, by the names of the network's layout.
    """

    def __init__(self, network: Network, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.network, self.dropout = network, nn.Dropout(network.dropout)
        for layer in network.layers:
            if isinstance(layer, Conv):
                own: nn.Module = nn.Conv2d(layer.in_channels, layer.outputs, layer.kernel, layer.stride, layer.padding)
            else:
                own = nn.Linear(layer.inputs, layer.outputs)
            if layer.norm:
                own.add_module("norm", nn.GroupNorm(1, layer.outputs))
            self.add_module(layer.name, own)
        renamed = {}
        for name, value in parameters.items():
            layer, _, part = name.partition(".")
            renamed[f"{layer}.{_NAMES.get(part, part)}"] = value
        self.load_state_dict(renamed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, C]`."""
        activate = ACTIVATION_FUNCTIONS[self.network.activation]
        for layer in self.network.layers:
            own = self.get_submodule(layer.name)
            x = own(x.reshape(len(x), layer.in_channels, layer.height, layer.width) if isinstance(layer, Conv) else
                    x.flatten(1))  # fmt: skip
            if layer.norm:
                x = own.get_submodule("norm")(x)
            if layer.activated:
                x = activate(x, self.network.slope)
                if isinstance(layer, Conv) and layer.pool > 1:
                    x = torch.max_pool2d(x, layer.pool)
                x = self.dropout(x)
        return x
