"""How tensors of new networks are drawn, each tensor of each member from a stream of its own."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from fastplast import seeding
from fastplast.networks.activations import gain
from fastplast.networks.spec import Layer


class Spread(NamedTuple):
    """How to draw a tensor: ``uniform`` in [-size, size], or ``normal`` with standard deviation size."""

    kind: str
    size: float

    def draw(self, seed: int, purpose: str, count: int, task: int, epoch: int = 0) -> np.ndarray:
        """So many float64 numbers of a stream; see ``seeding``."""
        if self.kind == "normal":
            return self.size * seeding.normal(seed, purpose, count, task, epoch)
        return self.size * (2.0 * seeding.uniform(seed, purpose, count, task, epoch) - 1.0)


@cache
def weight_spread(init: str, layer: Layer, activation: str, slope: float) -> Spread:
    """The distribution of a layer's weights.

    ``glorot_uniform``: bound sqrt(6 / (fan_in + fan_out)) (Glorot, Bengio 2010). ``torch_default``: bound
    1 / sqrt(fan_in), what ``nn.Linear`` and ``nn.Conv2d`` do. ``lecun_normal``: deviation 1 / sqrt(fan_in) (LeCun et
    al. 1998). ``kaiming_uniform``: bound gain sqrt(3 / fan_in), gain 1 on the last layer (He et al. 2015).

    Args:
        init: name of the initialisation.
        layer: the layer.
        activation: the network's activation.
        slope: negative slope of ``leaky_relu``.

    Returns:
        The distribution.
    """
    outputs, inputs, *kernel = layer.weight_shape
    fan_in, fan_out = inputs * math.prod(kernel), outputs * math.prod(kernel)  # as PyTorch counts them
    own_gain = gain(activation, slope) if layer.activated else 1.0
    spreads = {
        "glorot_uniform": Spread("uniform", math.sqrt(6.0 / (fan_in + fan_out))),
        "torch_default": Spread("uniform", math.sqrt(1.0 / fan_in)),
        "lecun_normal": Spread("normal", math.sqrt(1.0 / fan_in)),
        "kaiming_uniform": Spread("uniform", own_gain * math.sqrt(3.0 / fan_in)),
    }
    return spreads[init]
