"""Initialisation of stacked networks, each tensor of each member from a stream of its own."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.networks.activations import gain
from fastplast.networks.layout import Layout, Slot
from fastplast.networks.spec import Layer


class Spread(NamedTuple):
    """How to draw a tensor: ``uniform`` in [-size, size], or ``normal`` with standard deviation size."""

    kind: str
    size: float


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
    fan_in, fan_out = layer.fan_in, layer.fan_out
    own_gain = gain(activation, slope) if layer.activated else 1.0
    spreads = {
        "glorot_uniform": Spread("uniform", math.sqrt(6.0 / (fan_in + fan_out))),
        "torch_default": Spread("uniform", math.sqrt(1.0 / fan_in)),
        "lecun_normal": Spread("normal", math.sqrt(1.0 / fan_in)),
        "kaiming_uniform": Spread("uniform", own_gain * math.sqrt(3.0 / fan_in)),
    }
    return spreads[init]


def initial_parameters(
    layers: tuple[Layer, ...], layout: Layout, seeds: list[int], init: str, activation: str, slope: float
) -> Tensor:
    """Draws the parameters of all members directly into an arena.

    Args:
        layers: of the network.
        layout: of the arena.
        seeds: one per member.
        init: name of the initialisation.
        activation: the network's activation.
        slope: negative slope of ``leaky_relu``.

    Returns:
        `[M, P]` float32. Biases are zero, but uniform in 1 / sqrt(fan_in) with ``torch_default``.
    """
    arena = np.zeros((len(seeds), layout.size), dtype=np.float32)
    rows: dict[int, int] = {}
    for m, seed in enumerate(seeds):
        if seed in rows:
            arena[m] = arena[rows[seed]]
            continue
        rows[seed] = m
        for number, layer in enumerate(layers):
            spread = weight_spread(init, layer, activation, slope)
            weight = layout[f"{layer.name}.weight"]
            arena[m, weight.slice] = _draw(spread, seed, weight.count, 2 * number)
            if layer.norm:
                arena[m, layout[f"{layer.name}.norm_scale"].slice] = 1.0
            if init == "torch_default":
                bias = layout[f"{layer.name}.bias"]
                arena[m, bias.slice] = _draw(Spread("uniform", spread.size), seed, bias.count, 2 * number + 1)
    return torch.from_numpy(arena)


def head_parameters(layer: Layer, slot: Slot, seeds: list[int], init: str, task: int) -> Tensor:
    """Draws the last layer's weights, or its biases, anew for a task.

    Args:
        layer: the last.
        slot: of its weight or its bias.
        seeds: one per member.
        init: name of the initialisation.
        task: number of the task.

    Returns:
        `[M, count]` float32.
    """
    spread = weight_spread(init, layer, "identity", 0.0)
    fresh = np.zeros((len(seeds), slot.count), dtype=np.float32)
    if slot.is_weight or init == "torch_default":
        for row, seed in zip(fresh, seeds):
            row[:] = _scaled(spread if slot.is_weight else Spread("uniform", spread.size), seed, slot.count, "head",
                             task, int(not slot.is_weight))  # fmt: skip
    return torch.from_numpy(fresh)


def _draw(spread: Spread, seed: int, count: int, number: int) -> np.ndarray:
    return _scaled(spread, seed, count, "init", number, 0)


def _scaled(spread: Spread, seed: int, count: int, purpose: str, task: int, epoch: int) -> np.ndarray:
    if spread.kind == "normal":
        return spread.size * seeding.normal(seed, purpose, count, task, epoch)
    return spread.size * (2.0 * seeding.uniform(seed, purpose, count, task, epoch) - 1.0)
