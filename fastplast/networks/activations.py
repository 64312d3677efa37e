"""Activation functions and the gains that initialisations take for them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor, float], Tensor]

ACTIVATION_FUNCTIONS: dict[str, Activation] = {
    "relu": lambda z, slope: torch.relu(z),
    "leaky_relu": lambda z, slope: functional.leaky_relu(z, slope),
    "tanh": lambda z, slope: torch.tanh(z),
    "identity": lambda z, slope: z,
    "crelu": lambda z, slope: torch.cat((torch.relu(z), torch.relu(-z)), 1),
}


def widening(activation: str) -> int:
    """Outputs per unit: two of ``crelu``, which keeps both halves (Shang et al. 2016), one of the others."""
    return 2 if activation == "crelu" else 1


def gain(activation: str, slope: float) -> float:
    """The factor of He et al. (2015) that keeps the variance of activations, as ``torch.nn.init.calculate_gain``.

    Args:
        activation: name of the activation that follows the layer.
        slope: negative slope of ``leaky_relu``.

    Returns:
        The gain.
    """
    gains = {
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + slope**2)),
        "tanh": 5.0 / 3.0,
        "crelu": math.sqrt(2.0),
    }
    return gains.get(activation, 1.0)
